"""What the suite of documents measures of truthful ones; those without references are not measured."""

from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.bare import BareSubject
from harness.mutants.reference.repositories import README, documented_repository
from tests.suites.audits import Audit, audit_class


def run(folder: Path, readme: str | None) -> Audit:
    root = documented_repository(folder / "repository", "", readme).source_root
    return audit_class(folder / "run", Stage("test_documentation.py", profile="full"), BareSubject, root)


def test_a_truthful_readme_passes_every_check(tmp_path: Path) -> None:
    done = run(tmp_path, README)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {name: figure.value for record in done.records for name, figure in record.figures.items()}
    assert figures == {
        **{"paths_named": 3, "commands_named": 3, "symbols_named": 1, "valid_references": 100},
        **{"links": 2, "links_that_hold": 100},
        **{"blocks": 4, "blocks_not_run": 1, "sound_blocks": 100},
        **{"blocks_run": 2, "blocks_that_run": 100},
    }


@pytest.mark.parametrize("readme", [None, "Nothing named.\n"], ids=["no-readme", "no-references"])
def test_a_readme_that_names_nothing_is_not_measured(tmp_path: Path, readme: str | None) -> None:
    assert {record.outcome for record in run(tmp_path, readme).records} == {"skipped"}
