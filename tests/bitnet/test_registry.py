import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bitnet.checkpoint import digest_file
from bitnet.errors import BitnetError
from bitnet.registry import Registry, default_uri, register
from bitnet.result import load_result
from tests.bitnet.cli.program import assert_one_sentence, bitnet
from tests.bitnet.made_up_server import broken, made_up_server, nonsense
from tests.bitnet.test_handoff_phase5 import forge

SCORECARD = {"overall": {"score": 0.8}, "criteria": []}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="session")
def uri(folder):
    return f"sqlite:///{folder / 'new' / 'mlflow.db'}"


@pytest.fixture(scope="session")
def registry(uri):
    """One database for all tests, as it takes seconds to make; each test has a model's name of its own."""
    return Registry.opened(uri)


@pytest.fixture(scope="session")
def missed(finished, folder):
    """The finished run, had more compression been asked for."""
    out = shutil.copytree(finished.out, folder / "missed")
    result = load_result(out)
    gates = [
        gate.model_copy(update={"limit": 99.0, "passed": False}) if gate.name == "compression_ratio" else gate
        for gate in result.gates
    ]
    forge(out, gates=tuple(gates), success=False)
    return out


def test_a_version_has_everything_that_the_output_says(registry, uri, finished, folder):
    made = registry.push(finished.out, "one")
    manifest = json.loads((finished.out / "manifest.json").read_text())
    assert (made.name, made.version, made.created) == ("one", 1, True)
    assert (made.run_id, made.success, made.command) == (manifest["run_id"], True, manifest["command"])
    assert made.gates == {gate["name"]: True for gate in manifest["gates"]}
    assert made.manifest_sha256 == digest_file(finished.out / "manifest.json")
    assert made.phase3["tokenizer_sha256"] == manifest["phase3"]["tokenizer_sha256"]
    assert made.phase3["model_path"] == finished.result.source
    assert made.compression_ratio == pytest.approx(finished.result.sizes.compression_ratio)
    assert made.final_perplexity == pytest.approx(finished.result.final.token_perplexity)
    # MLflow, asked by itself.
    client = MlflowClient(tracking_uri=uri)
    version = client.get_model_version("one", "1")
    assert version.status == "READY"
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx({name: float(value) for name, value in finished.result.metrics.items()})
    assert {file.path for file in client.list_artifacts(version.run_id, "model")} >= {"model/packed", "model/fp16"}
    assert (folder / "new" / "artifacts").is_dir()


def test_the_same_artefact_is_registered_once(registry, finished, missed, tmp_path):
    registry.push(finished.out, "two")
    again = registry.push(finished.out, "two")
    assert (again.version, again.created, again.scorecard_sha256) == (1, False, None)
    scorecard = tmp_path / "scorecard.json"
    scorecard.write_text(json.dumps(SCORECARD))
    audited = registry.push(finished.out, "two", scorecard)
    assert (audited.version, audited.scorecard_sha256) == (1, digest_file(scorecard))
    assert registry.push(missed, "two").version == 2  # the same models, but judged otherwise
    assert [version.version for version in registry.versions("two")] == [2, 1]


def test_what_missed_a_gate_cannot_be_promoted(registry, finished, missed):
    registry.push(missed, "three")
    with pytest.raises(BitnetError, match="three/1 missed compression_ratio"):
        registry.promote("three")
    registry.push(finished.out, "three")
    assert registry.promote("three").aliases == ("champion",)
    assert registry.promote("three/2", "phase5").aliases == ("champion", "phase5")
    with pytest.raises(BitnetError, match="missed"):
        registry.promote("three/1")


def test_what_was_not_verified_cannot_be_promoted(registry, finished, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    failed = finished.result.verification.model_copy(update={"reproduced": False})
    forge(out, verification=failed, success=False)
    registry.push(out, "four")
    with pytest.raises(BitnetError, match="not verified"):
        registry.promote("four")


def test_what_is_fetched_is_what_was_pushed(registry, finished, tmp_path):
    registry.push(finished.out, "five")
    registry.promote("five")
    fetched = registry.fetch("five@champion", tmp_path / "fetched")
    assert fetched.version == 1
    pushed = {p.relative_to(finished.out): digest_file(p) for p in finished.out.rglob("*") if p.is_file()}
    found = tmp_path / "fetched"
    assert {p.relative_to(found): digest_file(p) for p in found.rglob("*") if p.is_file()} == pushed
    with pytest.raises(BitnetError, match="already exists"):
        registry.fetch("five", found)


@pytest.mark.parametrize("file", ["fp16/model.safetensors", "manifest.json"])
def test_damage_in_the_registry_is_found(file, registry, uri, finished, tmp_path):
    name = f"six-{file.partition('/')[0]}"
    registry.push(finished.out, name)
    client = MlflowClient(tracking_uri=uri)
    damaged = Path(client.get_model_version(name, "1").source.removeprefix("file://")) / file
    damaged.write_bytes(damaged.read_bytes() + b" ")
    with pytest.raises(BitnetError, match=file.rpartition("/")[2]):
        registry.fetch(name, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    if file == "manifest.json":
        with pytest.raises(BitnetError, match=r"manifest\.json of six-manifest\.json/1 is not the one"):
            registry.promote(name)


def test_an_output_that_is_not_valid_is_not_registered(registry, finished, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    (out / "fp16" / "config.json").unlink()
    with pytest.raises(BitnetError, match=r"fp16/config\.json"):
        registry.push(out, "seven")
    with pytest.raises(BitnetError, match="seven"):
        registry.versions("seven")


def test_names_and_versions_that_do_not_exist_are_named(registry, finished, uri, tmp_path):
    for selector in ("none", "none/1", "none@champion"):
        with pytest.raises(BitnetError, match="none"):
            registry.promote(selector)
    with pytest.raises(BitnetError, match="quotation mark"):
        registry.push(finished.out, "it's")
    with pytest.raises(BitnetError, match="a/b"):
        registry.push(finished.out, "a/b")
    client = MlflowClient(tracking_uri=uri)
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(tmp_path))
    assert registry.versions("theirs") == []
    client.set_registered_model_alias("theirs", "best", 1)
    for selector in ("theirs", "theirs/1", "theirs@best"):
        with pytest.raises(BitnetError, match="not registered by bitnet"):
            registry.promote(selector)


def test_a_scorecard_must_be_one(registry, finished, tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BitnetError, match="is no scorecard"):
        registry.push(finished.out, "eight", tmp_path / "other.json")


def test_a_push_that_breaks_off_leaves_no_version(registry, finished, monkeypatch, uri):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(registry.client, "log_artifacts", fail)
    with pytest.raises(BitnetError, match="no space"):
        registry.push(finished.out, "nine")
    monkeypatch.undo()
    assert registry.versions("nine") == []
    assert registry.push(finished.out, "nine").created


def test_a_registry_that_is_down_is_named_without_the_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BitnetError, match=r"http://127\.0\.0\.1:9 does not") as error:
        Registry.opened("http://me:secret@127.0.0.1:9")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("answer", "told"), [(broken, "500 error"), (nonsense, "not in a valid JSON format")])
def test_a_registry_that_is_out_of_order_is_named(answer, told, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with made_up_server(answer) as server, pytest.raises(BitnetError, match=f"{server.address} does not do .*{told}"):
        Registry.opened(server.address)
    assert server.sent


def test_without_mlflow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BitnetError, match=r"bitnet-audit\[registry\]"):
        Registry.opened("sqlite:///nothing.db")


def test_the_place_comes_from_the_environment_or_is_the_users(monkeypatch, uri, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert Registry.opened().uri == uri
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_uri().startswith("sqlite:///")


def test_a_finished_run_registers_itself_where_its_setting_names_a_model(registry, uri, finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    result = finished.result.model_copy(update={"config": finished.result.config | {"registry": "ten"}})
    assert register(result, finished.out) == result
    assert registry.versions("ten")[0].run_id
    assert register(finished.result, finished.out) == finished.result


def test_the_commands(registry, uri, finished, missed, tmp_path):
    scorecard = tmp_path / "scorecard.json"
    scorecard.write_text(json.dumps(SCORECARD))
    here = ("--uri", uri)
    pushed = bitnet("registry", "push", finished.out, "eleven", "--scorecard", scorecard, *here)
    assert (pushed.exit_code, pushed.stdout) == (0, "eleven/1 registered.\n"), pushed.stderr
    assert bitnet("registry", "push", finished.out, "eleven", *here).stdout == "eleven/1 was registered before.\n"
    assert json.loads(bitnet("registry", "push", missed, "eleven", *here, "--json").stdout)["version"] == 2
    assert bitnet("registry", "promote", "eleven/1", *here).stdout == "eleven/1 is eleven@champion.\n"
    assert json.loads(bitnet("registry", "promote", "eleven/1", *here, "--json").stdout)["aliases"] == ["champion"]
    assert_one_sentence(bitnet("registry", "promote", "eleven", *here), "missed compression_ratio")
    shown = bitnet("registry", "list", "eleven", *here).stdout
    assert "eleven/1" in shown
    assert "champion" in shown
    assert len(json.loads(bitnet("registry", "list", *here, "--json").stdout)) >= 2
    fetched = bitnet("registry", "fetch", "eleven@champion", "--out", tmp_path / "fetched", *here)
    assert fetched.stdout == f"eleven/1 is in {tmp_path / 'fetched'}, and valid.\n"
    again = bitnet("registry", "fetch", "eleven/2", "--out", tmp_path / "second", *here, "--json")
    assert json.loads(again.stdout)["success"] is False


def test_an_empty_registry_says_so(folder, uri, registry, tmp_path):
    """A copy of the database, without what it holds: making a new one takes seconds."""
    copy = tmp_path / "mlflow.db"
    shutil.copyfile(uri.removeprefix("sqlite:///"), copy)
    with sqlite3.connect(copy) as database:
        for table in ("registered_model_aliases", "model_version_tags", "model_versions", "registered_models"):
            database.execute(f"DELETE FROM {table}")
    assert "The registry is empty" in bitnet("registry", "list", "--uri", f"sqlite:///{copy}").stdout
