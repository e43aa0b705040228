import importlib.util
import io
import json
import subprocess

import pytest

from bitnet import tracking, tracking_process
from bitnet.errors import BitnetError
from bitnet.handoff_phase5 import check_phase5
from bitnet.tracking import RECORDS, record, track
from suites.wandb_records import read_logged
from tests.bitnet.made_up_server import broken, made_up_server, nonsense, wandb
from tests.bitnet.phase4 import LENIENT, finish


@pytest.fixture(autouse=True)
def logged_out(monkeypatch, tmp_path):
    """No account, and no settings, of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_PROJECT", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def with_setting(result, tracking):
    return result.model_copy(update={"config": result.config | {"tracking": tracking}})


def the_record(out):
    (file,) = [path for path in (out / RECORDS).rglob("*") if path.is_file()]
    return read_logged(file)


def test_the_nineteen_metrics_and_the_summary_are_recorded_and_nothing_else(finished, tmp_path):
    result = with_setting(finished.result, "offline")
    assert track(result, tmp_path / "out") == result
    logged = the_record(tmp_path / "out")
    assert len(result.metrics) == 19
    assert logged.history == [result.metrics]
    assert logged.summary == result.metrics | {f"phase/{name}": value for name, value in result.phase.items()}
    assert logged.config == result.config | {"source": result.source, "command": result.command}
    assert logged.finished


def test_nothing_is_recorded_unless_it_is_asked_for(finished, tmp_path):
    assert track(finished.result, tmp_path / "out") == finished.result
    assert not (tmp_path / "out").exists()


def test_online_a_server_gets_the_metrics_and_the_summary_and_nothing_else(finished, tmp_path, monkeypatch):
    result = with_setting(finished.result, "online")
    with made_up_server(wandb) as server:
        known(server.address, monkeypatch)
        assert track(result, tmp_path / "out") == result
    assert [ours(line) for line in server.lines("wandb-history.jsonl")] == [result.metrics]
    summary = {f"phase/{name}": value for name, value in result.phase.items()}
    assert ours(server.lines("wandb-summary.json")[-1]) == result.metrics | summary
    assert server.uploads() == {"config.yaml", "wandb-summary.json"}
    assert the_record(tmp_path / "out").history == [result.metrics]


def ours(line):
    """Without what W&B adds."""
    return {name: value for name, value in line.items() if not name.startswith("_")}


def known(address, monkeypatch):
    """Tell of a server and an account."""
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")


def assert_recorded_here_alone(finished, out, told):
    tracked = track(with_setting(finished.result, "online"), out)
    (row,) = tracked.fallbacks[len(finished.result.fallbacks) :]
    assert (row.step, row.used) == ("tracking", "a record in wandb")
    assert told in row.reason
    assert the_record(out).history == [finished.result.metrics]


def test_a_server_that_does_not_answer_is_named_and_a_record_stays(finished, tmp_path, monkeypatch):
    known("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    assert_recorded_here_alone(finished, tmp_path / "out", "imed out")


@pytest.mark.parametrize(("answer", "told"), [(broken, "imed out"), (nonsense, "W&B did not log the run (")])
def test_a_server_that_is_out_of_order_stops_nothing(answer, told, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    with made_up_server(answer) as server:
        known(server.address, monkeypatch)
        assert_recorded_here_alone(finished, tmp_path / "out", told)
    assert server.sent


def test_a_run_goes_on_without_an_account(model_folder, texts, tmp_path, monkeypatch):
    """And what it leaves is listed in the manifest; the metrics of recovery, which did not run, are absent."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://somewhere")
    settings = {**texts, **LENIENT, "fine_tune_steps": 0}
    out = finish(model_folder, tmp_path / "out", **settings, tracking="online", registry="small").out
    manifest = check_phase5(out)
    (listed,) = [name for name in manifest.files if name.startswith(RECORDS)]
    history = read_logged(out / listed).history[0]
    assert history == manifest.metrics
    assert len(history) == 15
    fallbacks = {row["step"]: row for row in json.loads((out / "result.json").read_text())["fallbacks"]}
    assert "no API key is known" in fallbacks["tracking"]["reason"]
    assert fallbacks["registry"]["used"] == "the output folder alone"
    assert "no-such-scheme" in fallbacks["registry"]["reason"]
    assert manifest.success


def test_what_w_and_b_does_not_do_is_told_in_one_sentence(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "a\nno space\n"))
    tracked = track(with_setting(finished.result, "online"), tmp_path)
    rows = tracked.fallbacks[len(finished.result.fallbacks) :]
    assert [row.used for row in rows] == ["a record in wandb", "result.json alone"]
    assert rows[1].reason == "W&B did not log the run (no space)."
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -9, "", ""))
    with pytest.raises(BitnetError, match="exit code -9"):
        record(finished.result, tmp_path, "offline")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "", ""))
    with pytest.raises(BitnetError, match="left no record"):
        record(finished.result, tmp_path, "offline")


def test_a_process_that_hangs_is_given_up(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 0.01)
    with pytest.raises(BitnetError, match="did not finish"):
        record(finished.result, tmp_path, "offline")


def test_the_process_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"mode": "offline"}'))
    assert tracking_process.main() == 1
    assert capsys.readouterr().err == "wandb is not installed, try pip install 'bitnet-audit[tracking]'\n"
