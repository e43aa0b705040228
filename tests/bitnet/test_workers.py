import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.workers import Workers
from tests.bitnet import launched_recovery

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The folder of the recoveries by two processes (0-of-2, 1-of-2) and by one (0-of-1)."""
    folder = tmp_path_factory.mktemp("launched")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # accelerate's own --cpu starts one process, or as many as mpirun is told; this one is torchrun.
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", str(port)]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    words = ["-m", "accelerate.commands.launch", *options, "-m", "tests.bitnet.launched_recovery", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    threads = torch.get_num_threads()
    (folder / "alone").mkdir()
    try:
        launched_recovery.main(folder / "alone")
    finally:
        torch.set_num_threads(threads)
    return folder


def outcome(folder, name):
    weights = load_file(folder / f"{name}.safetensors")
    return json.loads((folder / f"{name}.json").read_text()), weights


def of(weights, run):
    return {name: value for name, value in weights.items() if name.startswith(f"{run}/")}


def test_two_processes_with_a_part_each_train_as_one_to_the_last_bit(launched):
    (alone, weights_alone), (two, weights_two) = outcome(launched / "alone", "0-of-1"), outcome(launched, "0-of-2")
    assert len(alone["halves"]["training"]) == launched_recovery.STEPS
    assert two["halves"]["selection"] == alone["halves"]["selection"]
    assert all(torch.equal(value, weights_two[name]) for name, value in of(weights_alone, "halves").items())
    assert two["halves"]["training"] == pytest.approx(alone["halves"]["training"], rel=1e-12)


def test_sums_in_another_order_differ_by_their_rounding(launched):
    alone, two = outcome(launched / "alone", "0-of-1")[0], outcome(launched, "0-of-2")[0]
    assert two["singles"]["training"][0] == pytest.approx(alone["singles"]["training"][0], rel=1e-12)
    assert two["singles"]["training"] == pytest.approx(alone["singles"]["training"], rel=1e-4)


def test_all_processes_end_with_the_same_weights(launched):
    first, second = (load_file(launched / f"{index}-of-2.safetensors") for index in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_an_interrupted_recovery_of_two_processes_goes_on_where_it_was(launched):
    figures, weights = outcome(launched, "0-of-2")
    assert figures["resumed"] == figures["halves"]
    whole = of(weights, "halves")
    assert all(torch.equal(value, weights[name.replace("halves/", "resumed/")]) for name, value in whole.items())


def test_one_process_shares_with_nobody():
    alone, batch = Workers(), torch.arange(5)
    assert alone.first
    assert torch.equal(alone.share(batch), batch)
    assert alone.any(True)
    assert not alone.any(False)
    alone.wait()
    alone.check(Phase4Config(fine_tune_dropout=True))


def test_shares_cover_the_batch_in_order():
    batch = torch.arange(5)
    assert torch.equal(torch.cat([Workers(index, 3).share(batch) for index in range(3)]), batch)
    assert len(Workers(1, 2).share(batch[:1])) == 0


def test_the_others_write_where_it_is_thrown_away(tmp_path):
    with Workers(1, 2).output(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert not folder.exists()
    assert not (tmp_path / "out").exists()
    with Workers().output(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert (tmp_path / "out" / "file").exists()


@pytest.mark.parametrize("settings", [{"fine_tune_dropout": True}, {"max_minutes": 1.0}])
def test_settings_that_would_part_the_processes_are_refused(settings):
    with pytest.raises(BitnetError, match="needs a single process"):
        Workers(0, 2).check(Phase4Config(**settings))


def test_several_processes_need_accelerate(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(BitnetError, match="install bitnet-audit"):
        Workers.current()
