"""What the suites of compressed models accept, and what they say of an artefact that does not stand alone."""

from pathlib import Path

import pytest

from harness.mutants.defects.artifacts import NeitherStandsAlone
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


def test_an_artefact_that_lacks_a_weight_is_caught_by_the_name_of_the_weight(tmp_path: Path) -> None:
    stage = Stage("test_artifacts.py", ("untied",), props=("short-texts",), only="fp16_artefact_reloads")
    done = audit_class(tmp_path / "run", stage, NeitherStandsAlone)
    assert "missing_keys: lm_head.weight" in done.messages()
