import json
import os

import pytest

from bitnet import progress_file
from bitnet.checkpoint import work_folder
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.phase_controller import run_phase4
from bitnet.progress import Stages
from bitnet.progress_file import PROGRESS, ProgressFile, read_progress
from bitnet.recovery_checkpoint import Checkpoints
from tests.bitnet.phase4 import finish, write_model, write_texts


def test_a_reader_sees_the_stage_that_runs_and_those_before(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_file, "INTERVAL", 0.0)
    out, seen = tmp_path / "out", []
    with Stages(2, False, ProgressFile(out, "bitnet compress tiny")) as stages:
        with stages.stage("first"):
            seen.append(read_progress(out))
        with stages.stage("second") as advance:
            advance(3, 8)
            seen.append(read_progress(out))
    first, second = seen
    assert (first.running, first.done, first.step, first.steps, first.stages) == ("first", (), None, None, 2)
    assert (second.running, second.step, second.steps) == ("second", 3, 8)
    assert second.done == stages.rows[:1]
    assert (second.process, second.command) == (os.getpid(), "bitnet compress tiny")
    assert first.started <= second.started <= second.updated


def test_a_stage_is_told_at_once_and_its_steps_no_more_than_once_a_second(tmp_path):
    out, file = tmp_path / "out", ProgressFile(tmp_path / "out", "bitnet compress tiny")
    for step in range(5):
        file.tell(2, (), "first", (step, 5))
    assert read_progress(out).step == 0
    file.tell(2, (), "second", None)
    assert read_progress(out).running == "second"


def test_nothing_is_left_of_a_run_that_left_nothing_to_go_on_from(tmp_path):
    file = ProgressFile(tmp_path / "out", "bitnet compress tiny")
    file.end()  # before anything was told
    file.tell(7, (), "load and validate", None)
    file.end()
    assert list(tmp_path.iterdir()) == []
    assert read_progress(tmp_path / "out") is None


def test_a_run_that_leaves_a_checkpoint_says_where_it_ended_and_that_it_runs_no_more(tmp_path, monkeypatch):
    model, texts = write_model(tmp_path / "model"), write_texts(tmp_path)
    save = Checkpoints.save

    def interrupt(self, saved):
        save(self, saved)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(model, tmp_path / "out", fine_tune_trigger=0.0, checkpoint_steps=2, **texts)
    told = read_progress(tmp_path / "out")
    assert (told.running, told.stages, told.process) == ("recover", 7, None)
    assert [stage.name for stage in told.done] == [
        "load and validate",
        "evaluate before",
        "calibrate",
        "compress",
        "evaluate after",
    ]
    assert told.command.startswith(f"bitnet compress {model} --out {tmp_path / 'out'}")


def test_a_run_that_is_refused_leaves_nothing(tmp_path):
    with pytest.raises(BitnetError, match="no-such-model"):
        run_phase4(str(tmp_path / "no-such-model"), tmp_path / "out", Phase4Config(), progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", json.dumps({"running": "first"})])
def test_a_damaged_file_is_named(tmp_path, content):
    folder = work_folder(tmp_path / "out")
    folder.mkdir()
    (folder / PROGRESS).write_text(content)
    with pytest.raises(BitnetError, match=r"progress\.json"):
        read_progress(tmp_path / "out")
