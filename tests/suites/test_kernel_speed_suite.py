"""The benchmark of products is seen to fail: with products that are none, and with instruments that measure nothing.

Tasks are small here and no clock is read: a product takes as long as its weight has bits, the machine takes no time.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harness.statistics
from harness.opponents import OpponentAbsent
from harness.opponents.products import in_turn
from harness.statistics import Interval
from suites import kernel_races
from suites.kernel_races import Task
from tests.suites.audits import Audit, audit_class, audit_defect
from tests.suites.kernel_subjects import KernelSubject, Prepared
from tests.suites.subjects import BareSubject

SUITE = "test_kernel_speed.py"
LLAMA = {"test_one_token_against_llama_cpp", "test_one_token_from_memory_against_llama_cpp"}
LIMITS = {
    "test_one_token_as_a_fraction_of_the_int8_peak",
    "test_one_token_from_memory_as_a_fraction_of_its_bandwidth",
}
INT8 = {"test_many_tokens_against_the_best_int8_of_torch"}
EVERY = LLAMA | LIMITS | INT8
SECONDS = {"best": 1.0, "llama": 4.0, "int8": 2.0, "limit": 0.5}


class Clocked:
    """A callable that takes its time on a clock that only it moves."""

    def __init__(self, clock: SimpleNamespace, seconds: float, run: Callable[..., Any]) -> None:
        self.clock, self.seconds, self.run = clock, seconds, run

    def __call__(self, *words: Any) -> Any:
        self.clock.now += self.seconds
        return self.run(*words)


@pytest.fixture(autouse=True)
def small_and_timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(
        "suites.test_kernel_speed.Task", lambda rows, width, tokens, streamed=False: Task(32, 256, tokens, streamed)
    )
    monkeypatch.setattr("suites.test_kernel_speed.STREAMED", Task(32, 256, 1, streamed=True))
    monkeypatch.setattr("suites.test_kernel_speed.ROUNDS", {"quick": 5})
    monkeypatch.setattr(kernel_races, "RUN_MACS", 1.0)
    monkeypatch.setattr(kernel_races, "STREAMED_BYTES", 1 << 13)

    def timed(layers: Any, x: Any, products: int, *words: Any) -> Any:
        kind = "best" if isinstance(layers[0], Prepared) else "int8"
        each = SECONDS[kind] * len(x) / products
        return in_turn([Clocked(clock, each, layer) for layer in layers], x, products, *words)

    class Limit:
        macs, bytes, name = 1e6, 1 << 20, "a limit"

        def __init__(self, macs: float = 0) -> None:
            self.run = Clocked(clock, SECONDS["limit"], lambda: 0)

    monkeypatch.setattr("harness.opponents.products.in_turn", timed)
    monkeypatch.setattr(kernel_races, "Peak", Limit)
    monkeypatch.setattr(kernel_races, "MemoryRead", Limit)


@pytest.fixture
def with_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    class Llama:
        name, bits = "llama.cpp TQ2_0", 2.0625

        def prepare(self, weights: Any, x: Any, products: int) -> Any:
            prepared = kernel_races.SubjectProduct(KernelSubject()).prepare(weights, x, products)
            return SimpleNamespace(
                run=lambda: [prepared.run() for _ in range(4)], output=prepared.output, once=prepared.once, way=""
            )

    monkeypatch.setattr(kernel_races, "GgmlTernaryProduct", Llama)


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OpponentAbsent("llama.cpp is absent: not here")

    monkeypatch.setattr("harness.opponents.ggml.require_llama_cpp", absent)
    monkeypatch.setattr("harness.opponents.ggml._library", absent)


def run(folder: Path, defect: str = "") -> Audit:
    return audit_defect(folder, SUITE, KernelSubject, defect)


def test_ratios_are_those_of_the_arms_times(tmp_path: Path, with_llama: None) -> None:
    done = run(tmp_path)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {
        name: figure
        for record in done.records
        for name, figure in record.figures.items()
        if name.startswith(("over_", "fraction_"))
    }
    assert figures["over_llama_ternary"].interval == (4.0, 4.0)
    assert figures["over_best_int8"].value == 2.0
    assert figures["fraction_of_peak"].value == pytest.approx(32 * 256 / 1e6 * SECONDS["limit"])
    assert all(figure.timing for figure in figures.values())
    assert all(record.timings for record in done.records)


def test_rows_without_their_opponent_are_skipped_with_the_reason(tmp_path: Path, without_llama: None) -> None:
    done = run(tmp_path)
    assert done.with_outcome("skipped") == {name for name in done.with_outcome("skipped") if "llama" in name}
    skipped = [record for record in done.records if record.outcome == "skipped"]
    assert len(skipped) == len(LLAMA)
    assert all("llama.cpp is absent: not here" in record.message for record in skipped)
    assert not any(record.figures for record in skipped)


def test_without_a_compiler_the_limits_are_skipped(
    tmp_path: Path, with_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*words: object) -> None:
        raise OpponentAbsent("no C compiler")

    monkeypatch.setattr(kernel_races, "Peak", absent)
    monkeypatch.setattr(kernel_races, "MemoryRead", absent)
    done = run(tmp_path)
    assert {name.partition("[")[0] for name in done.with_outcome("skipped")} == LIMITS
    assert done.red == set(), done.messages()


def test_what_does_not_compute_the_product_is_not_timed(tmp_path: Path, with_llama: None) -> None:
    done = run(tmp_path, "wrong by a fifth")
    assert done.red == EVERY, done.messages()
    assert not any(record.timings for record in done.records)
    assert "does not compute the product" in done.messages()


def test_a_ratio_without_an_interval_is_no_measurement(
    tmp_path: Path, with_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    monkeypatch.setattr("harness.races.ratio_interval", lambda *words, **options: nothing)
    done = run(tmp_path)
    assert done.red == EVERY, done.messages()


def test_a_second_run_that_comes_out_faster_is_caught(
    tmp_path: Path, with_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def biased(*words: Any, **options: Any) -> dict[str, list[float]]:
        times = harness.statistics.interleave(*words, **options)
        return {name: [each * (0.9 if "again" in name else 1.0) for each in series] for name, series in times.items()}

    monkeypatch.setattr("harness.races.interleave", biased)
    done = run(tmp_path)
    assert done.red == EVERY, done.messages()
    assert "different from itself" in done.messages()


def test_a_subject_without_kernels_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
