"""Each defect of a decoder turns its own checks RED, and no others."""

from pathlib import Path

import pytest

from suites.small_models import save_random_llama
from tests.suites.audits import Audit, audit_class, audit_defect, checks_in
from tests.suites.decoding_subjects import DecodingSubject
from tests.suites.subjects import BareSubject

SUITE = "test_decoder.py"
PERPLEXITY = "test_perplexity_is_that_of_transformers"
STEPS = "test_tokens_one_by_one_give_the_logits_of_one_pass"
TOKENS = "test_tokens_that_do_not_exist_are_rejected"
DAMAGE = "test_a_folder_that_is_damaged_is_rejected"

EXPECTED = {
    "another model": {PERPLEXITY},
    "sequence forgotten": {STEPS},
    "logits that are not finite": {STEPS},
    "tokens not checked": {TOKENS},
    "damage not noticed": {DAMAGE},
}


@pytest.fixture(autouse=True)
def a_short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suites.test_decoder.WINDOWS", 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "random", layers=1)


def run(folder: Path, model: Path, defect: str = "") -> Audit:
    return audit_defect(folder, SUITE, DecodingSubject, defect, [model])


def test_a_right_decoder_passes_every_check(tmp_path: Path, model: Path) -> None:
    done = run(tmp_path, model)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, model: Path, defect: str) -> None:
    done = run(tmp_path, model, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_difference_is_a_figure_of_its_own_where_the_model_knows_nothing(tmp_path: Path, model: Path) -> None:
    done = run(tmp_path, model, "predictions a little sharper")
    (record,) = (each for each in done.records if PERPLEXITY in each.nodeid)
    knows = record.figures["packed_perplexity_of_the_text"].value <= 257
    name = "decoder_perplexity_difference" if knows else "difference_of_a_model_that_knows_nothing"
    assert record.figures[name].value > 1e-3
    assert len(record.figures) == 4


def test_a_subject_without_a_decoder_is_not_applicable(tmp_path: Path, model: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject, [model])
    assert {record.outcome for record in done.records} == {"not_applicable"}
