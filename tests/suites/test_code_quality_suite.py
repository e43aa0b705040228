"""What the suite of code quality measures on a clean tree."""

from pathlib import Path

from harness.mutants.mutant import Stage
from harness.mutants.reference.bare import BareSubject
from harness.mutants.reference.repositories import source_tree
from tests.suites.audits import audit_class


def test_figures_of_a_clean_tree_are_right(tmp_path: Path) -> None:
    root = source_tree(tmp_path / "repository", {}).source_root
    done = audit_class(tmp_path / "run", Stage("test_code_quality.py"), BareSubject, root)
    figures = {name: figure.value for record in done.records for name, figure in record.figures.items()}
    assert figures["longest_function"] == 3
    assert figures["type_hint_coverage"] == figures["docstring_coverage"] == 100
    assert figures["modules"] == 8
