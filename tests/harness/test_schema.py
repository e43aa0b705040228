from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest

from harness.errors import AuditError
from harness.schema import SCHEMA_FILE, schema_text
from harness.scorecard import SCHEMA_VERSION, build, parse, to_json
from tests.harness import made_up
from tests.harness.render import cards


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    rules = made_up.rulebook(made_up.criterion("1.a", figures={"ratio": {"target": ">= 8"}}))
    record = made_up.check("a", "1.a", figures={"ratio": made_up.figure(math.nan, 0.0, math.inf)})
    loaded: dict[str, Any] = json.loads(to_json(build(made_up.run(record), rules)))
    return loaded


def test_the_shipped_schema_is_that_of_the_models() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run python -m harness.schema"


def test_scorecards_are_valid_with_nan_and_incomplete(validator: jsonschema.Draft202012Validator) -> None:
    for card in (cards.scorecard(), cards.incomplete(), cards.scorecard(commit=None)):
        validator.validate(json.loads(to_json(card)))
    assert '"NaN"' in to_json(cards.scorecard())


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": SCHEMA_VERSION + 1},
        {"profile": "slow"},
        {"extra": 1},
        {"duration": "soon"},
        {"criteria": [{}]},
        {"complete": 1},
    ],
)
def test_the_schema_and_the_models_refuse_the_same_data(
    validator: jsonschema.Draft202012Validator, data: dict[str, Any], change: dict[str, Any]
) -> None:
    assert validator.is_valid(data)
    damaged = data | change
    assert not validator.is_valid(damaged)
    if change != {"complete": 1}:  # pydantic reads 1 as true
        with pytest.raises(AuditError):
            parse(damaged, "scorecard.json")


def test_every_required_field_is_missed_by_both(
    validator: jsonschema.Draft202012Validator, data: dict[str, Any]
) -> None:
    for name in validator.schema["required"]:
        damaged = {key: value for key, value in data.items() if key != name}
        assert not validator.is_valid(damaged)
        with pytest.raises(AuditError, match=rf"schema version None|is no scorecard: {name}: Field required"):
            parse(damaged, "scorecard.json")
