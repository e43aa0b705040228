"""What the suites of compressed models accept."""

from pathlib import Path

import pytest

from harness.mutants.mutant import Stage
from harness.mutants.reference.compressing import WithInt8Activations
from tests.suites.audits import audit_class


@pytest.mark.parametrize(
    ("suite", "model"),
    [("test_compression.py", "wide"), ("test_report.py", "narrow"), ("test_gradient_flow.py", "narrow")],
)
def test_quantized_activations_are_no_defect(tmp_path: Path, suite: str, model: str) -> None:
    done = audit_class(tmp_path / "run", Stage(suite, (model,), props=("short-texts",)), WithInt8Activations)
    assert done.red == set(), done.messages()
