"""The benchmark is seen to fail: with models that do not do the work, and with instruments that measure it wrongly.

No clock is read: time passes by one unit for each forward pass, so that the outcomes do not depend on the machine.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaForCausalLM

import harness.statistics
from harness.criteria import Status
from harness.scorecard import SCORECARD_FILE, load
from harness.statistics import Interval, interleave, ratio_interval
from suites.small_models import save_random_llama
from tests.suites.audits import Audit, audit, audit_defect, checks_in
from tests.suites.folder_subjects import SpeedSubject

SUITE = "test_inference_speed.py"
SPEEDS = ("full precision", "full precision, bfloat16")
OUTPUTS = "test_what_is_timed_is_the_models_own_continuation"
EQUAL = "test_equal_arms_are_measured_as_equal"
TWICE = "test_twice_the_work_is_measured_as_twice_the_time"
SPEEDUP = "test_speedup_over_full_precision"
ROUNDS = 5

IDLE_MODELS = ("logits that are always zero", "cache not used")
Times = dict[str, list[float]]


def second_run_faster(times: Times) -> Times:
    return {name: [each * (0.9 if "again" in name else 1.0) for each in series] for name, series in times.items()}


def overhead_beside_the_work(times: Times) -> Times:
    return {name: [each + times["packed"][0] for each in series] for name, series in times.items()}


def work_not_waited_for(times: Times) -> Times:
    return times | {"packed, twice": times["packed"]}


INSTRUMENTS: dict[Callable[[Times], Times], set[str]] = {
    second_run_faster: {EQUAL},
    overhead_beside_the_work: {TWICE},
    work_not_waited_for: {TWICE},
}


@pytest.fixture(autouse=True)
def clock_of_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, forward = SimpleNamespace(now=0.0), LlamaForCausalLM.forward

    def counted(*words: Any, **options: Any) -> Any:
        clock.now += 1.0
        return forward(*words, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    monkeypatch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr("suites.test_inference_speed.ROUNDS", ROUNDS)
    monkeypatch.setattr("suites.test_inference_speed.NEW_TOKENS", 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "random", layers=1)


@pytest.fixture(autouse=True)
def without_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.opponents.find_spec", lambda name: None)


def run(folder: Path, model: Path, defect: str = "") -> Audit:
    return audit_defect(folder, SUITE, SpeedSubject, defect, [model])


def test_a_sound_benchmark_of_honest_models_passes(tmp_path: Path, model: Path) -> None:
    done = run(tmp_path, model)
    assert done.red == set(), done.messages()
    (record,) = (each for each in done.records if SPEEDUP in each.nodeid)
    assert record.figures["speedup_ci_low"].interval == (1.0, 1.0)
    assert record.figures["speedup_ci_low"].timing
    assert {f"speedup over {name}" for name in SPEEDS} < set(record.figures)
    assert any("llama.cpp is absent" in note for note in record.notes)
    assert {len(series) for series in record.timings.values()} == {ROUNDS}


def test_every_check_is_seen_to_fail_here() -> None:
    assert {OUTPUTS, SPEEDUP}.union(*INSTRUMENTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", IDLE_MODELS)
def test_a_model_that_does_not_do_the_work_is_not_timed(tmp_path: Path, model: Path, defect: str) -> None:
    done = run(tmp_path, model, defect)
    assert done.red == {OUTPUTS, EQUAL, TWICE, SPEEDUP}, done.messages()
    assert not any(record.timings for record in done.records)
    failed = {name.rpartition("-")[2] for name in done.with_outcome("failed", "error") if OUTPUTS in name}
    assert failed == {"packed]"}


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_biased_instrument_is_caught(
    tmp_path: Path, model: Path, instrument: Callable[[Times], Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        harness.statistics, "interleave", lambda *words, **options: instrument(interleave(*words, **options))
    )
    done = run(tmp_path, model)
    assert done.red == INSTRUMENTS[instrument], done.messages()
    if EQUAL in done.red:  # whatever its size, no speed-up is claimed
        card = load(tmp_path / "evidence" / SCORECARD_FILE)
        for claim in ("1.1.inference-speedup", "5.red.inference-speedup"):
            row = card.row(claim)
            assert row is not None
            assert row.status is Status.RED
            assert EQUAL in row.reason


def test_a_speedup_without_an_interval_is_no_measurement(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(top: list[float], bottom: list[float], confidence: float) -> Interval:
        measured = ratio_interval(top, bottom, confidence)
        return Interval(float("nan"), float("nan"), float("nan")) if confidence == 0.95 else measured

    monkeypatch.setattr(harness.statistics, "ratio_interval", nothing)
    done = run(tmp_path, model)
    assert done.red == {SPEEDUP}, done.messages()


def test_a_subject_without_models_is_not_applicable(tmp_path: Path, model: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n", [model])
    assert {record.outcome for record in done.records} == {"not_applicable"}
