import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from bitnet.errors import BitnetError
from bitnet.recovery_checkpoint import STATE, TENSORS, Checkpoints, Saved
from tests.bitnet.interrupted_recovery import EVERY, STEPS, run

SAVED = Saved({"weights": {"a.b": torch.arange(6.0).reshape(2, 3)}, "random": {"torch": torch.arange(4)}}, {"steps": 7})


def in_a_process(*arguments):
    command = [sys.executable, "-m", "tests.bitnet.interrupted_recovery", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def interrupt(folder, steps):
    def end():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, steps, end)


def test_a_killed_recovery_ends_in_another_process_as_if_it_had_not_been(tmp_path):
    expected, report = run(None)
    folder = tmp_path / "recovery"
    killed = in_a_process(folder, EVERY + 2)
    assert killed.returncode == 9, killed.stderr
    assert Checkpoints(folder, "the same run", EVERY).load().figures["steps"] == EVERY
    finished = in_a_process(folder)
    assert finished.returncode == 0, finished.stderr
    found = load_file(f"{folder}.end")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert report.best_step == STEPS // 2


def test_the_report_of_a_resumed_run_is_that_of_the_whole(tmp_path):
    whole = run(None)[1]
    folder = tmp_path / "recovery"
    interrupt(folder, STEPS - 2)
    resumed = run(folder)[1]
    assert resumed.seconds > 0
    assert replace(resumed, seconds=0) == replace(whole, seconds=0)


def test_the_outcome_depends_on_dropout_and_on_the_best_weights():
    """Or the test above would not see what it is there to see."""
    reports = [run(None)[1], run(None, fine_tune_dropout=False)[1]]
    assert reports[0].training != reports[1].training


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "work" / "recovery", "key", 5)
    assert checkpoints.load() is None
    checkpoints.save(SAVED)
    checkpoints.save(SAVED)
    found = checkpoints.load()
    assert found.figures == SAVED.figures
    assert torch.equal(found.tensors["weights"]["a.b"], SAVED.tensors["weights"]["a.b"])
    assert torch.equal(found.tensors["random"]["torch"], SAVED.tensors["random"]["torch"])
    assert [checkpoints.due(steps) for steps in (4, 5, 10)] == [False, True, True]


def test_the_checkpoint_of_another_run_is_left_alone(tmp_path):
    Checkpoints(tmp_path / "recovery", "one", 5).save(SAVED)
    assert Checkpoints(tmp_path / "recovery", "other", 5).load() is None
    assert Checkpoints(tmp_path / "recovery", "one", 7).load() is not None


def test_a_damaged_checkpoint_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "recovery", "key", 5)
    checkpoints.save(SAVED)
    content = bytearray((checkpoints.folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (checkpoints.folder / TENSORS).write_bytes(content)
    with pytest.raises(BitnetError, match="is damaged: delete it"):
        checkpoints.load()
    (checkpoints.folder / STATE).write_text(json.dumps({"version": 0}))
    assert checkpoints.load() is None


def test_weights_that_have_other_codes_now_are_refused(tmp_path):
    folder = tmp_path / "recovery"
    interrupt(folder, STEPS - 2)
    checkpoints = Checkpoints(folder, "the same run", EVERY)
    saved = checkpoints.load()
    name = next(iter(saved.tensors["codes"]))
    codes = {**saved.tensors["codes"], name: -saved.tensors["codes"][name]}
    checkpoints.save(Saved({**saved.tensors, "codes": codes}, saved.figures))
    with pytest.raises(BitnetError, match=f"weights of '{name}' have other codes now"):
        run(folder)


@pytest.mark.parametrize("change", [('"steps": 7', '"steps": 6'), ("{", "["), ('"figures"', '"figure"')])
def test_damaged_figures_are_noticed(change, tmp_path):
    checkpoints = Checkpoints(tmp_path / "recovery", "key", 5)
    checkpoints.save(SAVED)
    told = (checkpoints.folder / STATE).read_text()
    assert change[0] in told
    (checkpoints.folder / STATE).write_text(told.replace(*change))
    with pytest.raises(BitnetError, match="is damaged: delete it"):
        checkpoints.load()


def test_a_checkpoint_that_was_being_replaced_is_found_again(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    checkpoints = Checkpoints(tmp_path / "recovery", "key", 5)
    checkpoints.save(SAVED)
    checkpoints.folder.rename(tmp_path / f".recovery.{child}-ab12.old")
    assert checkpoints.load().figures == SAVED.figures
