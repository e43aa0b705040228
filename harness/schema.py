"""The JSON Schema of a scorecard, generated from its models; `python -m harness.schema` writes the shipped copy anew.

Numbers that JSON does not have are strings there: "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from harness.files import write_text
from harness.scorecard import SCHEMA_VERSION, Scorecard

SCHEMA_FILE = Path(__file__).with_name("scorecard.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    schema_dialect = DIALECT

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        number = super().float_schema(schema)
        if schema.get("allow_inf_nan") is False or "ge" in schema:
            return number
        return {"anyOf": [number, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def scorecard_schema() -> dict[str, Any]:
    """The schema of the current version, as JSON data."""
    schema = Scorecard.model_json_schema(mode="serialization", schema_generator=_Generator)
    head = {"$schema": DIALECT, "title": f"bitnet-audit scorecard, version {SCHEMA_VERSION}"}
    return head | {name: value for name, value in schema.items() if name not in head}


def schema_text() -> str:
    """The text of the shipped file."""
    return json.dumps(scorecard_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(write_text(SCHEMA_FILE, schema_text()))
