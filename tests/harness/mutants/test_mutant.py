import re
from pathlib import Path

import pytest

from harness.criteria import load_rulebook
from harness.errors import AuditError
from harness.mutants import catalogue
from harness.mutants.mutant import Defect, Stage, criterion_of, family_of_classes, family_of_words
from harness.mutants.reference.bare import BareSubject

STAGE = Stage("test_packing.py", only="some")


class TakesNaNForZero(BareSubject):
    """NaN is taken for 0.

    More about it.
    """


class SaysNothing(BareSubject):
    pass


def test_a_class_names_and_describes_its_mutant(tmp_path: Path) -> None:
    family = family_of_classes("area", STAGE, BareSubject, {"": "1"}, {TakesNaNForZero: ("a", "b")})
    (mutant,) = family.mutants
    assert (mutant.id, mutant.title) == ("area/takes-nan-for-zero", "NaN is taken for 0.")
    assert (mutant.criterion, mutant.checks, mutant.stage) == ("1", ("a", "b"), STAGE)
    assert type(mutant.factory(tmp_path)) is TakesNaNForZero
    assert type(family.clean(tmp_path)) is BareSubject


def test_a_class_has_to_say_what_is_broken() -> None:
    with pytest.raises(AuditError, match="SaysNothing does not say what is broken"):
        family_of_classes("area", STAGE, BareSubject, {"": "1"}, {SaysNothing: ("a",)})


def test_words_make_a_mutant_and_none_the_clean_subject(tmp_path: Path) -> None:
    other = Stage("other.py")
    table = {"99 % will do": ("a",), "slow": Defect(("b",), other, prop="clock", crashes=True)}
    family = family_of_words("area", STAGE, lambda words, folder: (words, folder), {"": "1", "b": "2"}, table)
    first, second = family.mutants
    assert (first.id, first.title, first.criterion, first.crashes) == ("area/99-will-do", "99 % will do", "1", False)
    assert (second.criterion, second.stage, second.prop, second.crashes) == ("2", other, "clock", True)
    assert first.factory(tmp_path) == ("99 % will do", tmp_path)
    assert family.clean(tmp_path) == ("", tmp_path)


def test_every_check_of_a_table_has_a_criterion() -> None:
    assert criterion_of("a", {"a": "1", "": "2"}) == "1"
    with pytest.raises(AuditError, match="no criterion is given for the check a"):
        criterion_of("a", {"b": "1"})


def test_the_whole_stage_leaves_nothing_out() -> None:
    assert STAGE.whole == Stage("test_packing.py")


# --------------------------------------------------------------------------- the catalogue


def test_there_are_many_mutants_in_every_area_and_each_names_a_row() -> None:
    mutants = catalogue.all_mutants()
    assert len(mutants) >= 300
    wanted = {"quantizer", "scales", "packing", "activations", "ste", "optimizer", "calibration", "perplexity"}
    wanted |= {"benchmark", "checkpoint", "handoff", "gates", "config"}
    assert wanted <= set(catalogue.areas())
    rulebook = load_rulebook()
    assert [mutant.id for mutant in mutants if rulebook.get(mutant.criterion) is None] == []
    assert all(mutant.title and mutant.checks for mutant in mutants)


def test_the_readme_tells_how_many_there_are() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (told,) = map(int, re.findall(r"holds more than (\d+) subjects with one defect", readme))
    assert told < sum(len(family.mutants) for family in catalogue.families()) <= told + 50


def test_mutants_that_need_what_is_not_installed_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    monkeypatch.setattr(catalogue, "all_mutants", catalogue.all_mutants.__wrapped__)
    left, aside = {mutant.area for mutant in catalogue.all_mutants()}, catalogue.absent.__wrapped__()
    assert set(catalogue.areas()) - left == {"tracking", "lm-eval"}
    assert "wandb not installed" in aside["test_tracking.py::test_the_summary_of_the_phase_says_the_same"]
    assert {name.partition("::")[0] for name in aside} == {
        "test_tracking.py",
        "test_interop_gguf.py",
        "test_interop_lm_eval.py",
    }


def test_mutants_are_chosen_by_glob_and_area() -> None:
    packing = catalogue.select(area="packing")
    assert {mutant.area for mutant in packing} == {"packing"}
    (one,) = catalogue.select(only="packing/last-*")
    assert catalogue.family_of(one).area == "packing"
    assert len(catalogue.select()) == len(catalogue.all_mutants())
    with pytest.raises(AuditError, match="no mutant matches 'nothing'"):
        catalogue.select(only="nothing")
    with pytest.raises(AuditError, match="there is no area 'nowhere'; the areas are quantizer"):
        catalogue.select(area="nowhere")


def test_a_sample_is_drawn_by_its_seed() -> None:
    mutants = catalogue.all_mutants()
    first = catalogue.sample(mutants, 10, 1)
    assert len(first) == 10
    assert first == catalogue.sample(mutants, 10, 1) != catalogue.sample(mutants, 10, 2)
    assert catalogue.sample(mutants, 10_000, 1) == mutants
    with pytest.raises(AuditError, match="draw at least one"):
        catalogue.sample(mutants, 0, 1)


def test_subjects_are_made_by_name(tmp_path: Path) -> None:
    assert catalogue.make("gates", tmp_path).declaration.name == "gates as defined"
    assert catalogue.make("gates/missing-passes", tmp_path).declaration.name == "gates missing passes"
    with pytest.raises(AuditError, match="there is no mutant 'nothing'"):
        catalogue.make("nothing", tmp_path)


def test_no_two_mutants_share_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_MODULES", (catalogue.gates, catalogue.gates))
    catalogue.families.cache_clear()
    with pytest.raises(AuditError, match="two mutants are called gates/"):
        catalogue.families()
    catalogue.families.cache_clear()
