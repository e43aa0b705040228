import json

import pytest

from bitnet import phase_controller
from bitnet.checkpoint import digest_file, work_folder
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.progress_file import PROGRESS
from bitnet.recovery_checkpoint import Checkpoints
from bitnet.result import RESULT, without_times
from tests.bitnet import phase4
from tests.bitnet.phase4 import finish, write_model, write_texts

#: Recovery runs, and keeps its state after the second and the fourth of six steps.
SETTINGS = {"fine_tune_trigger": 0.0, "checkpoint_steps": 2}


def outcome(out):
    """Digests of everything but the result, and the result without times and places."""
    told = without_times(json.loads((out / RESULT).read_text()))
    digests = {
        file.relative_to(out).as_posix(): digest_file(file)
        for form in ("packed", "fp16")
        for file in sorted((out / form).rglob("*"))
    }
    return digests, {**told, "command": None}


def test_a_run_that_is_interrupted_in_recovery_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    model, texts = write_model(tmp_path / "model"), write_texts(tmp_path)
    whole = finish(model, tmp_path / "whole", **SETTINGS, **texts)
    assert whole.result.recovery.report["steps"] == 6
    save, saves = Checkpoints.save, []

    def interrupt(self, saved):
        save(self, saved)
        saves.append(saved.figures["steps"])
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(model, tmp_path / "out", **SETTINGS, **texts)
    assert not (tmp_path / "out").exists()
    assert work_folder(tmp_path / "out").is_dir()
    finish(model, tmp_path / "out", **SETTINGS, **texts)
    assert saves == [2, 4, 6]  # the second run began after the fourth step
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")
    assert not work_folder(tmp_path / "out").exists()


def test_another_run_does_not_go_on_from_the_checkpoint(tmp_path, monkeypatch):
    model, texts = write_model(tmp_path / "model"), write_texts(tmp_path)
    save, saves = Checkpoints.save, []

    def interrupt(self, saved):
        save(self, saved)
        saves.append(saved.figures["steps"])
        if len(saves) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(model, tmp_path / "out", **SETTINGS, **texts)
    finish(model, tmp_path / "out", **SETTINGS, **texts, seed=1)
    assert saves == [2, 2, 4, 6]


# Ended after the last rename


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """Runs into `out` again, where a first run has put everything and was ended before it could tidy up."""
    model, texts = write_model(tmp_path / "model"), write_texts(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(phase_controller, "discard_work", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finish(model, tmp_path / "out", **SETTINGS, **texts)
    assert (work_folder(tmp_path / "out") / "recovery").is_dir()

    def again(**more):
        config = Phase4Config(**{**phase4.SETTINGS, **SETTINGS, **texts, **more})
        return phase_controller.run_phase4(str(model), tmp_path / "out", config)

    return again


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_run_that_is_ended_once_everything_is_in_place_has_nothing_left_to_do(
    complete, tmp_path, monkeypatch, capsys
):
    before = outcome(tmp_path / "out")
    monkeypatch.setattr(phase_controller, "load", interrupt)
    result = complete()
    assert "was complete when the run was ended" in capsys.readouterr().err
    assert result.model_dump(mode="json") == json.loads((tmp_path / "out" / RESULT).read_text())
    assert outcome(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []
    with pytest.raises(BitnetError, match="already exists"):  # as after any run that has finished
        complete()


def test_what_another_run_has_put_in_place_is_not_taken_for_the_result(complete, tmp_path):
    with pytest.raises(BitnetError, match="already exists"):
        complete(seed=1)
    progress = work_folder(tmp_path / "out") / PROGRESS
    told = progress.read_text()
    progress.write_text("{")
    with pytest.raises(BitnetError, match="already exists"):
        complete()
    progress.write_text(told)
    file = tmp_path / "out" / RESULT
    file.write_text(file.read_text().replace('"success"', '"success" '))
    with pytest.raises(BitnetError, match="already exists"):
        complete()
