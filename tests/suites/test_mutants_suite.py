"""The rows about the auditor's own mutants: whose audit has them, and what a sample says that it covers."""

from pathlib import Path

from harness.environment import Commit
from harness.mutants.mutant import Stage
from harness.mutants.reference.bare import BareSubject
from harness.run import suites_directory
from suites.test_mutants import sample_seed
from tests.suites.audits import Audit, audit_class

STAGE = Stage("test_mutants.py", profile="full", props=("made-up-mutants",))


def run(tmp_path: Path, source_root: Path, *props: str) -> Audit:
    return audit_class(tmp_path / "run", STAGE, BareSubject, source_root, props=props)


def test_the_rows_belong_to_the_subject_beside_the_suites(tmp_path: Path) -> None:
    done = run(tmp_path, suites_directory().parent / "bitnet")
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


def test_they_are_not_applicable_to_anybody_else(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "elsewhere" / "library", "a-survivor")
    assert {record.outcome for record in done.records} == {"not_applicable"}, done.messages()
    assert all("say nothing of bare" in record.message for record in done.records)


def test_a_sample_is_drawn_anew_for_each_commit_and_alike_for_one() -> None:
    one, other = Commit(id="a" * 40, dirty=False), Commit(id="b" * 40, dirty=False)
    assert sample_seed(0, one) == sample_seed(0, one.model_copy(update={"dirty": True}))
    assert len({sample_seed(0, one), sample_seed(0, other), sample_seed(1, one), sample_seed(0, None)}) == 4


def test_a_sample_names_what_it_covers(tmp_path: Path) -> None:
    done = run(tmp_path, suites_directory().parent / "bitnet", "a-sample")
    (record,) = (each for each in done.records if "killed" in each.nodeid)
    assert record.figures["mutants_available"].value == 388
    assert any("any but made-up/one, made-up/her" in note for note in record.notes), record.notes
