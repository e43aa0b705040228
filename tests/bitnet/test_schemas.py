import json
import runpy

import jsonschema
import pytest

import bitnet.schemas
from bitnet.schemas import SCHEMAS, schema, schema_file, schema_text
from tests.bitnet.test_handoff import write_phase3


@pytest.mark.parametrize("handoff", SCHEMAS)
def test_the_schema_that_is_shipped_is_that_of_the_model(handoff):
    """`python -m bitnet.schemas` writes them."""
    assert schema_file(handoff).read_text(encoding="utf-8") == schema_text(handoff)
    jsonschema.Draft202012Validator.check_schema(schema(handoff))


def test_the_schemas_can_be_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(bitnet.schemas, "schema_file", lambda handoff: tmp_path / handoff)
    runpy.run_module("bitnet.schemas", run_name="__main__")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        handoff: schema_text(handoff) for handoff in SCHEMAS
    }


def violations(handoff, value):
    return list(jsonschema.Draft202012Validator(schema(handoff)).iter_errors(value))


def test_manifests_that_are_right_obey_their_schemas(finished, tmp_path):
    assert violations("phase5", json.loads((finished.out / "manifest.json").read_text())) == []
    write_phase3(tmp_path)
    assert violations("phase3", json.loads((tmp_path / "phase3.json").read_text())) == []


@pytest.mark.parametrize("handoff", SCHEMAS)
def test_without_a_field_a_manifest_does_not(handoff, finished, tmp_path):
    write_phase3(tmp_path)
    file = {"phase3": tmp_path / "phase3.json", "phase5": finished.out / "manifest.json"}[handoff]
    manifest = json.loads(file.read_text())
    for field in manifest.keys() - {"thinking_tokens"}:
        without = {name: value for name, value in manifest.items() if name != field}
        assert [error.message for error in violations(handoff, without)] == [f"'{field}' is a required property"]
        assert violations(handoff, manifest | {field: 3.5}), field
