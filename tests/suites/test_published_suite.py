"""What was published is a row of its own: a subject that declares something else, and does it, fails there alone."""

from pathlib import Path

import pytest

from harness.mutants.defects import published
from harness.mutants.mutant import Stage
from harness.mutants.reference.optimizer import OptimizerSubject
from tests.suites.audits import audit_class

DECLARED_ELSEWHERE = {
    published.LeastSquaresScale: Stage("test_quantization.py", only="declared"),
    published.FourBitActivations: Stage("test_activations.py"),
    published.ClippedEstimator: Stage("test_ste.py", only="declared_surrogate"),
    published.FilterLastSubject: Stage("test_mugrokfast.py", only="three_steps and filtered and wide"),
}


@pytest.mark.parametrize(("subject", "passing"), [(published.AsPublished, 3), (OptimizerSubject, 1)])
def test_a_subject_that_does_what_was_published_passes(tmp_path: Path, subject: type, passing: int) -> None:
    done = audit_class(tmp_path / "run", Stage("test_published.py"), subject)
    assert done.red == set(), done.messages()
    assert len(done.with_outcome("passed")) == passing


@pytest.mark.parametrize("subject", DECLARED_ELSEWHERE)
def test_another_way_that_is_declared_is_held_to_its_declaration(tmp_path: Path, subject: type) -> None:
    done = audit_class(tmp_path / "run", DECLARED_ELSEWHERE[subject], subject)
    assert done.red == set(), done.messages()
    assert done.with_outcome("passed")
