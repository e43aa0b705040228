"""JSON Schemas of the two handoffs, made from their models; `python -m bitnet.schemas` writes the shipped ones anew."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bitnet.handoff import PHASE3_MANIFEST, Phase3Manifest
from bitnet.handoff_phase5 import PHASE5_MANIFEST, Phase5Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS: dict[str, type[BaseModel]] = {"phase3": Phase3Manifest, "phase5": Phase5Manifest}
#: The files that they describe.
FILES = {"phase3": PHASE3_MANIFEST, "phase5": PHASE5_MANIFEST}


def schema(handoff: str) -> dict[str, Any]:
    """The schema of one handoff, "phase3" or "phase5", in the 2020-12 dialect."""
    made = SCHEMAS[handoff].model_json_schema()
    return {"$schema": DIALECT, **made, "title": f"bitnet {FILES[handoff]}"}


def schema_file(handoff: str) -> Path:
    """Where the schema of one handoff is shipped."""
    return Path(__file__).with_name(f"{handoff}.schema.json")


def schema_text(handoff: str) -> str:
    """The content of `schema_file`."""
    return json.dumps(schema(handoff), indent=2, ensure_ascii=False) + "\n"
