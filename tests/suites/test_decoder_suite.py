"""What the suite of decoders measures where the model knows nothing."""

from pathlib import Path

from harness.mutants.mutant import Stage
from harness.mutants.reference.decoding import DecodingSubject
from tests.suites.audits import audit_class

PERPLEXITY = "test_perplexity_is_that_of_transformers"


def test_a_difference_is_a_figure_of_its_own_where_the_model_knows_nothing(tmp_path: Path) -> None:
    stage = Stage("test_decoder.py", ("random",), props=("few-windows",))
    done = audit_class(tmp_path / "run", stage, DecodingSubject, "predictions a little sharper")
    (record,) = (each for each in done.records if PERPLEXITY in each.nodeid)
    knows = record.figures["packed_perplexity_of_the_text"].value <= 257
    name = "decoder_perplexity_difference" if knows else "difference_of_a_model_that_knows_nothing"
    assert record.figures[name].value > 1e-3
    assert len(record.figures) == 5
    assert record.figures["drift_over_rounding"].value > 4
