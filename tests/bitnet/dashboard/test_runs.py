import json
import os
import subprocess
import sys
import time

import pytest
import torch

pytest.importorskip("psutil", reason="the extra [dashboard] is not installed")

from bitnet.checkpoint import work_folder
from bitnet.dashboard import jobs
from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import kept_layers, read_layer_note, read_run, read_speed, speed_file
from bitnet.errors import BitnetError
from bitnet.layer_store import LayerStore, TernaryLayer
from bitnet.progress_file import ProgressFile, read_progress
from bitnet.ternary import TernarySum
from tests.bitnet.dashboard.made_up import benchmark, write_run


def tell(out):
    ProgressFile(out, f"bitnet compress tiny --out {out}").tell(7, (), "compress", (1, 4))


def write_job(out, **more):
    folder = jobs.job_folder(out)
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"words": ["compress"], "started": time.time() - 100, **more}))
    return folder


def ended_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_finished_run(tmp_path):
    run = read_run(write_run(tmp_path / "out"))
    assert (run.state, run.active, run.progress, run.job) == ("finished", False, None, None)


def test_a_run_of_this_very_process_is_running(tmp_path):
    tell(tmp_path / "out")
    run = read_run(tmp_path / "out")
    assert (run.state, run.active) == ("running", True)
    assert (run.progress.running, run.progress.step, run.progress.steps) == ("compress", 1, 4)


def test_a_run_that_was_killed_is_interrupted_also_where_its_number_is_used_again(tmp_path):
    out = tmp_path / "out"
    tell(out)
    path = work_folder(out) / "progress.json"
    told = json.loads(path.read_text())
    for change in ({"process": ended_process()}, {"started": 0.0}, {"process": None}):
        path.write_text(json.dumps({**told, **change}))
        assert read_run(out).state == "interrupted", change


def test_a_run_that_replaces_a_finished_one_comes_first(tmp_path):
    out = write_run(tmp_path / "out")
    tell(out)
    assert read_run(out).state == "running"


@pytest.mark.parametrize(
    ("code", "process", "state"),
    [
        ("2", None, "failed"),
        ("143", None, "interrupted"),
        (None, os.getpid, "starting"),
        (None, ended_process, "interrupted"),
    ],
)
def test_a_job_that_wrote_no_progress(tmp_path, code, process, state):
    folder = write_job(tmp_path / "out", started=time.time())
    if code is not None:
        (folder / "exit_code").write_text(f"{code}\n")
    if process is not None:
        (folder / "process").write_text(f"{process()}\n")
    assert read_run(tmp_path / "out").state == state


def test_a_job_that_has_just_been_asked_for_is_starting_and_an_old_one_is_not(tmp_path):
    write_job(tmp_path / "new", started=time.time())
    write_job(tmp_path / "old")
    assert [read_run(tmp_path / name).state for name in ("new", "old")] == ["starting", "interrupted"]


def test_a_run_counts_as_finished_once_its_result_is_newer_than_its_job(tmp_path):
    folder = write_job(tmp_path / "out")
    (folder / "exit_code").write_text("1\n")
    assert read_run(tmp_path / "out").state == "failed"
    write_run(tmp_path / "out")
    assert read_run(tmp_path / "out").state == "finished"


def test_runs_are_found_by_what_they_leave(tmp_path):
    write_run(tmp_path / "done")
    tell(tmp_path / "running")
    write_job(tmp_path / "started")
    (tmp_path / "something else").mkdir()
    names = [out.name for out in Places(tmp_path, (tmp_path,)).outputs]
    assert names == ["done", "running", "started"]


def test_a_run_that_is_named_comes_first_and_new_ones_go_beside_it(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name)
    places = Places(tmp_path, (tmp_path / "b",))
    assert places.base == tmp_path
    assert [out.name for out in places.outputs] == ["b", "a", "c"]


def test_a_place_that_does_not_exist_holds_no_run(tmp_path):
    assert Places(tmp_path, (tmp_path / "nowhere",)).outputs == ()


def test_layers_that_compensation_keeps_are_seen_while_it_runs(tmp_path):
    out = tmp_path / "out"
    folder = work_folder(out) / "layers"
    folder.mkdir(parents=True)
    store = LayerStore(folder, "run")
    weight = TernarySum(torch.ones(1, 2, 4, dtype=torch.int8), torch.ones(1, 2, 1))
    for name, error in (("first", 0.25), ("second", 0.5)):
        store.get(name, 1)
        store.put(name, TernaryLayer.of(weight, torch.zeros(2), error))
    (folder / "half-written.safetensors").write_bytes(b"no tensors")
    assert {(layer.name, layer.relative_error) for layer in kept_layers(out)} == {("first", 0.25), ("second", 0.5)}
    assert read_layer_note("{}") is None


def test_a_benchmark_lies_beside_the_run(tmp_path):
    out = write_run(tmp_path / "out")
    assert read_speed(out) is None
    speed_file(out).write_text(json.dumps(benchmark()))
    assert read_speed(out).ratios[0].value == 3.21
    for content in ("{", "{}"):
        speed_file(out).write_text(content)
        with pytest.raises(BitnetError, match=r"out-speed\.json"):
            read_speed(out)


def test_a_damaged_job_is_named(tmp_path):
    write_job(tmp_path / "out", words=3)
    with pytest.raises(BitnetError, match=r"job\.json"):
        read_run(tmp_path / "out")
    assert read_progress(tmp_path / "out") is None
