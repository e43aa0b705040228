"""A subject is held to what it declares: a limit that it states is respected, one that it keeps silent about is RED."""

from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from tests.suites import promising_subjects as subjects
from tests.suites.audits import audit, audit_class

WEIGHTS, TOKENS, BYTES = "test_quantization.py", "test_activations.py", "test_packing.py"
NOT_FINITE = "test_a_weight_that_is_not_finite_is_rejected"


@pytest.mark.parametrize(
    ("suite", "only"), [(WEIGHTS, "scale or finite or extreme or float or zero"), (TOKENS, ""), (BYTES, "rejected")]
)
def test_limits_that_are_declared_are_respected(tmp_path: Path, suite: str, only: str) -> None:
    done = audit_class(tmp_path / "run", Stage(suite, only=only), subjects.Clamping)
    assert done.red == set(), done.messages()
    assert done.with_outcome("passed")


@pytest.mark.parametrize(
    ("suite", "only", "failing"),
    [
        (
            WEIGHTS,
            "scaling or extreme or finite or matrix",
            {
                NOT_FINITE,
                "test_every_block_has_one_finite_scale",
                "test_a_weight_that_is_not_a_matrix_is_rejected",
                "test_scaling_the_weight_scales_only_the_scale",
                "test_extreme_magnitudes_keep_their_codes",
            },
        ),
        (
            TOKENS,
            "scaling or range",
            {
                "test_scaling_a_token_scales_only_its_scale",
                "test_codes_stay_in_the_declared_range",
                "test_the_largest_magnitude_reaches_the_end_of_the_range",
            },
        ),
        (BYTES, "ternary", {"test_a_code_that_is_not_ternary_is_rejected"}),
    ],
)
def test_limits_that_are_not_declared_are_red(tmp_path: Path, suite: str, only: str, failing: set[str]) -> None:
    done = audit_class(tmp_path / "run", Stage(suite, only=only), subjects.SilentlyClamping)
    assert done.red == failing, done.messages()


def test_what_is_not_promised_may_not_pass_as_numbers(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", Stage(WEIGHTS, only="finite or matrix"), subjects.NanBecomesZero)
    assert done.red == {NOT_FINITE}, done.messages()


def test_scales_in_half_precision_are_held_to_half_precision(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", Stage(WEIGHTS, only="scales or extreme"), subjects.HalfScales)
    assert done.red == set(), done.messages()
    exact = "test_scales_are_exact_to_float32[absmean-tensor]"
    assert exact in done.with_outcome("not_applicable")


def test_a_rule_of_its_own_is_held_to_no_reference(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", Stage(WEIGHTS, only="rule or float_format or tie"), subjects.OwnRule)
    assert {record.outcome for record in done.records} == {"not_applicable"}, done.messages()


@pytest.mark.parametrize(("suite", "only"), [(BYTES, "format or width"), (WEIGHTS, "tie or exact or extreme")])
def test_ggml_keeps_what_is_declared_for_it(tmp_path: Path, suite: str, only: str) -> None:
    done = audit(
        tmp_path / "run", Stage(suite, only=only), "from harness.subjects.gguf_ternary import Tq2 as factory\n"
    )
    assert done.red == set(), done.messages()
    assert done.with_outcome("passed")
