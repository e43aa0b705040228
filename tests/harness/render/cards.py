"""Scorecards with everything that a report must cope with."""

from __future__ import annotations

from typing import Any

from harness.criteria import load_rulebook
from harness.evidence import CheckRecord, Figure, Run
from harness.scorecard import Scorecard, build
from tests.harness import made_up
from tests.harness.made_up import figure

HOSTILE = (
    '<script>alert("x")</script> | `tick` **bold** [link](https://example.org) \x1b[31mred\x1b[0m \x00\x0b ]]> &amp;'
)
CURVE = {
    "plot": "line",
    "title": "Quality against size",
    "x": [1.6, 2.0, 4.0, 8.0],
    "y": {"one plane": [456.0, 300.0, None, 60.0], "two planes": [80.0, 44.6, 33.0, 31.3]},
    "x_label": "bits per weight",
    "y_label": "perplexity",
    "y_scale": "log",
    "limits": {"full precision": 29.6},
}
BARS = {
    "plot": "bar",
    "title": "Gradient norm by layer",
    "x": [f"model.layers.{index}.q_proj" for index in range(14)],
    "y": {"norm": [0.1 * index for index in range(14)]},
    "x_label": "layer",
    "y_label": "norm",
}
ROWS = len(load_rulebook().criteria)
MET, PARTLY, NOT_MET, CREDIT = 6, 4, 13, 6.5
UNMEASURED = ROWS - MET - PARTLY - NOT_MET
WEIGHT = sum(each.weight for each in load_rulebook().criteria)
SCORE = f"{100 * CREDIT / WEIGHT:.1f} %"
"""What `scorecard` has of the rulebook's rows."""
BROKEN_PLOT = {"plot": "line", "title": "Broken", "x": [1.0], "y": {"a": [1.0, 2.0]}, "x_label": "", "y_label": ""}


def attached(record: CheckRecord, **attachments: Any) -> CheckRecord:
    return record.model_copy(update={"attachments": attachments})


def records() -> tuple[CheckRecord, ...]:
    """Checks with every outcome, every status, intervals, NaN, notes, plots and hostile text."""
    check = made_up.check
    speed = Figure(value=2.31, unit="x", interval=(2.02, 2.6))
    noted = check("suites/test_notes.py::test_a", "1.1.ternary-quantization").model_copy(
        update={"notes": ("all 45 variants", HOSTILE)}
    )
    return (
        noted,
        check("suites/test_scale.py::test_a", "1.1.per-channel-scaling", "1.2.per-channel-scaling"),
        check(
            "suites/test_ratio.py::test_tiny",
            "1.1.compression-ratio",
            figures={"ratio_over_target": figure(1.2, unit="x")},
        ),
        check(
            "suites/test_ratio.py::test_real",
            "1.1.compression-ratio",
            figures={"ratio_over_target": figure(0.92, unit="x")},
        ),
        check("suites/test_speed.py::test_a", "1.1.inference-speedup", figures={"speedup_ci_low": speed}),
        check(
            "suites/test_sparsity.py::test_a", "1.1.sparsity-injection", figures={"zero_fraction": figure(float("nan"))}
        ),
        check(
            "suites/test_ste.py::test_a", "1.1.ste-gradients", outcome="failed", message=f"AssertionError: {HOSTILE}"
        ),
        check("suites/test_ste.py::test_b", "2.ste", outcome="error", message="RuntimeError: boom\nsecond line"),
        check("suites/test_dash.py::test_a", "2.dashboard", outcome="skipped", message="streamlit is not installed"),
        check("suites/test_reg.py::test_a", "2.model-registry", outcome="not_applicable", message="no registry"),
        attached(check("suites/test_front.py::test_a", "3.compression-target"), frontier=CURVE, table=[1, 2]),
        attached(check("suites/test_flow.py::test_a", "5.red.gradient-flow"), norms=BARS, broken=BROKEN_PLOT),
        check(
            "suites/test_cov.py::test_a",
            "0.test-coverage",
            figures={"line_coverage": figure(94.26, unit="%"), "branch_coverage": figure(89.996, unit="%")},
        ),
        check(
            "suites/test_docs.py::test_a",
            "0.documentation-accuracy",
            figures={"valid_references": figure(75.0, unit="%")},
        ),
        check("suites/test_pack.py::test_a", "A.packing-exact"),
    )


def everything(**changes: Any) -> Run:
    deselected = [made_up.deselected("suites/test_full.py::test_a", "1.1.fine-tuning")]
    return made_up.run(*records(), deselected=deselected, **changes)


def scorecard(**changes: Any) -> Scorecard:
    """A complete run of the real rulebook."""
    return build(everything(**changes), load_rulebook())


def incomplete() -> Scorecard:
    """A run that was killed, with a file that could not be collected."""
    run = everything(collection_errors=(f"suites/test_x.py: {HOSTILE}",), selected=("suites/test_lost.py::test_a",))
    return build(run.model_copy(update={"end": None}), load_rulebook())
