"""What the benchmark of products records, and what it leaves out where an opponent or a compiler is missing.

Tasks are small here and no clock is read: a product takes as long as its weight has bits, the machine takes no time.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.kernels import KernelSubject
from harness.opponents import OpponentAbsent
from harness.opponents.ggml import GgmlTernaryProduct
from suites import kernel_races, props
from suites.props import SECONDS
from tests.suites.audits import audit_class

STAGE = Stage("test_kernel_speed.py", props=("small-products",))
LLAMA = {"test_one_token_against_llama_cpp", "test_one_token_from_memory_against_llama_cpp"}
LIMITS = {
    "test_one_token_as_a_fraction_of_the_int8_peak",
    "test_one_token_from_memory_as_a_fraction_of_its_bandwidth",
}


def test_ratios_are_those_of_the_arms_times(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", STAGE, KernelSubject)
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


def test_rows_without_their_opponent_are_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise OpponentAbsent("llama.cpp is absent: not here")

    def without_llama(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
        patch.setattr(kernel_races, "GgmlTernaryProduct", GgmlTernaryProduct)
        patch.setattr("harness.opponents.ggml.require_llama_cpp", absent)
        patch.setattr("harness.opponents.ggml._library", absent)

    monkeypatch.setattr("suites.stage.PROPS", {**props.PROPS, "without-llama": without_llama})
    done = audit_class(tmp_path / "run", STAGE, KernelSubject, props=("without-llama",))
    skipped = [record for record in done.records if record.outcome == "skipped"]
    assert {name.partition("[")[0] for name in done.with_outcome("skipped")} == LLAMA
    assert all("llama.cpp is absent: not here" in record.message for record in skipped)
    assert not any(record.figures for record in skipped)


def test_without_a_compiler_the_limits_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*words: object) -> None:
        raise OpponentAbsent("no C compiler")

    def without_compiler(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
        patch.setattr(kernel_races, "Peak", absent)
        patch.setattr(kernel_races, "MemoryRead", absent)

    monkeypatch.setattr("suites.stage.PROPS", {**props.PROPS, "without-compiler": without_compiler})
    done = audit_class(tmp_path / "run", STAGE, KernelSubject, props=("without-compiler",))
    assert {name.partition("[")[0] for name in done.with_outcome("skipped")} == LIMITS
    assert done.red == set(), done.messages()


def test_what_does_not_compute_the_product_is_not_timed(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", replace(STAGE, only="from_memory"), KernelSubject, "wrong by a fifth")
    assert not any(record.timings for record in done.records)
    assert "does not compute the product" in done.messages()


def test_a_second_run_that_comes_out_faster_is_told(tmp_path: Path) -> None:
    stage = replace(STAGE, only="from_memory")
    done = audit_class(tmp_path / "run", stage, KernelSubject, props=("race-second-run-faster",))
    assert "different from itself" in done.messages()
