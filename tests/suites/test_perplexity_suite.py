"""What the suite of perplexity measures of the right definition, and whom it blames for a wrong divisor."""

from pathlib import Path

from harness.mutants.mutant import Stage
from harness.mutants.reference.perplexity import PerplexitySubject
from tests.suites.audits import audit_class

FEW = Stage("test_perplexity.py", ("random",), only="not context160")


def test_the_right_definition_differs_by_rounding_alone(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", FEW.whole, PerplexitySubject, "")
    assert done.red == set(), done.messages()
    name = "perplexity_relative_difference"
    differences = [record.figures[name].value for record in done.records if name in record.figures]
    assert len(differences) == 4 * 5  # settings, times log-likelihoods and four figures
    assert max(differences) < 1e-6


def test_only_the_token_perplexity_is_blamed_for_a_wrong_divisor(tmp_path: Path) -> None:
    red = audit_class(tmp_path / "run", FEW, PerplexitySubject, "N-1 for N").with_outcome("failed", "error")
    assert red
    assert all("token_perplexity" in name for name in red)
