import json
import math

import pytest
from pydantic import ValidationError

from bitnet.errors import BitnetError
from bitnet.perplexity import DocumentScore, PerplexityResult
from bitnet.quality import Gate
from bitnet.result import RESULT, Figures, GateRow, Phase4Result, finite, load_result, save_result, without_times


def test_a_result_is_read_back_as_it_was_written(finished, tmp_path):
    save_result(tmp_path, finished.result)
    assert load_result(tmp_path) == finished.result
    assert (tmp_path / RESULT).read_bytes() == (finished.out / RESULT).read_bytes()


def test_a_result_is_frozen_and_closed(finished):
    with pytest.raises(ValidationError, match="frozen"):
        finished.result.success = True
    with pytest.raises(ValidationError, match="extra"):
        Phase4Result(**dict(finished.result), surprise=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.pop("gates"), "damaged at 'gates'"),
        (lambda record: record["before"].update(tokens="many"), r"damaged at 'before\.tokens'"),
        (lambda record: record.update(schema_version=2), "damaged at 'schema_version'"),
        (lambda record: record.update(surprise=1), "damaged at 'surprise'"),
    ],
)
def test_a_damaged_result_is_told_where(finished, tmp_path, change, words):
    record = finished.result.model_dump(mode="json")
    change(record)
    (tmp_path / RESULT).write_text(json.dumps(record))
    with pytest.raises(BitnetError, match=rf"result\.json is {words}"):
        load_result(tmp_path)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(BitnetError, match=r"result\.json"):
        load_result(tmp_path)


def test_figures_hold_no_infinity():
    worst = PerplexityResult((DocumentScore(-1e6, tokens=10, words=2, bytes=2000, correct_tokens=1),))
    assert worst.token_perplexity == math.inf
    figures = Figures.of(worst)
    assert figures.token_perplexity is None
    assert figures.word_perplexity is None
    assert figures.byte_perplexity == worst.byte_perplexity
    assert figures.loss == 1e5
    assert figures.next_token_accuracy == 0.1


@pytest.mark.parametrize("measured", [math.nan, math.inf, None])
def test_a_gate_without_a_finite_figure_is_recorded_as_missed(measured):
    row = GateRow.of(Gate("agreement", measured, 0.995, ">=", "why"))
    assert (row.measured, row.passed) == (None, False)
    assert GateRow.of(Gate("agreement", 0.995, 0.995, ">=", "why")).passed


def test_finite():
    assert [finite(value) for value in (0.0, -2.5, math.nan, math.inf, -math.inf)] == [0.0, -2.5, None, None, None]


def test_missed_gates_are_those_that_did_not_pass(finished):
    gates = finished.result.gates
    failing = gates[2].model_copy(update={"passed": False})
    result = finished.result.model_copy(update={"gates": (*gates[:2], failing, *gates[3:])})
    assert result.missed == (failing,)


def test_times_and_memory_are_left_out_wherever_they_stand(finished):
    record = finished.result.model_dump(mode="json")
    stripped = json.dumps(without_times(record))
    for name in ("started", "finished", "duration", "seconds", "fine_tune_time_hours", "peak_memory"):
        assert f'{name}"' in json.dumps(record)
        assert f'{name}"' not in stripped
    assert without_times(record)["gates"] == record["gates"]
    assert without_times(record)["stages"] == [{"name": stage["name"]} for stage in record["stages"]]
    left = {"epochs", "training", "codes_flipped"}
    assert left <= without_times(record)["recovery"]["report"].keys()


def test_a_perplexity_has_an_interval_where_its_error_is_known():
    document = DocumentScore(-30.0, tokens=10, words=2, bytes=20, correct_tokens=1)
    low, high = Figures.of(PerplexityResult((document,), 0.1)).perplexity_interval
    assert (low, high) == pytest.approx((math.exp(3 - 0.196), math.exp(3 + 0.196)))
    assert Figures.of(PerplexityResult((document,))).perplexity_interval is None
    assert Figures.of(PerplexityResult((document,), 1e6)).perplexity_interval is None
