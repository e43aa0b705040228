"""What the benchmark of whole models records; no clock is read, time passes by forward passes."""

from pathlib import Path

import pytest

from harness.criteria import Status
from harness.mutants.mutant import Stage
from harness.mutants.reference.speed import SpeedSubject
from harness.scorecard import SCORECARD_FILE, load
from suites.props import ROUNDS
from tests.suites.audits import Audit, audit_class

STAGE = Stage("test_inference_speed.py", ("random",), props=("short-texts", "forward-clock"))
SPEEDS = ("full precision", "full precision, bfloat16")
CLAIMS = ("1.1.inference-speedup", "5.red.inference-speedup")
EQUAL = "test_equal_arms_are_measured_as_equal"
OUTPUTS = "test_what_is_timed_is_the_models_own_continuation"
SPEEDUP = "test_speedup_over_full_precision"


def run(folder: Path, defect: str = "") -> Audit:
    return audit_class(folder / "run", STAGE, SpeedSubject, defect)


def test_a_sound_benchmark_of_honest_models_passes(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.red == set(), done.messages()
    (record,) = (each for each in done.records if SPEEDUP in each.nodeid)
    assert record.figures["speedup_ci_low"].interval == (1.0, 1.0)
    assert record.figures["speedup_ci_low"].timing
    assert {f"speedup over {name}" for name in SPEEDS} < set(record.figures)
    assert any("llama.cpp is absent" in note for note in record.notes)
    assert {len(series) for series in record.timings.values()} == {ROUNDS}


@pytest.mark.parametrize("defect", ["logits that are always zero", "cache not used"])
def test_a_model_that_does_not_do_the_work_is_not_timed(tmp_path: Path, defect: str) -> None:
    done = run(tmp_path, defect)
    assert not any(record.timings for record in done.records)
    failed = {name.rpartition("-")[2] for name in done.with_outcome("failed", "error") if OUTPUTS in name}
    assert failed == {"packed]"}


def test_no_speedup_is_claimed_where_the_control_failed(tmp_path: Path) -> None:
    audit_class(tmp_path / "run", STAGE, SpeedSubject, props=("second-run-faster",))
    card = load(tmp_path / "run" / "evidence" / SCORECARD_FILE)
    for row in map(card.row, CLAIMS):
        assert row is not None
        assert row.status is Status.RED
        assert EQUAL in row.reason
