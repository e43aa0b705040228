import json
import signal

import pytest

from harness.mutants.reference import enduring_command
from harness.mutants.reference.enduring_command import main


@pytest.fixture(autouse=True)
def _the_signal_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def unlocked(monkeypatch):
    """A run that ends in this process by an error would hold its lock as long as the process lives."""
    monkeypatch.setattr(enduring_command, "locked", lambda *_: None)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    (path / "config.json").write_text("{}")
    return path


def run(model, out, defect="", *more):
    return main(defect, ["compress", str(model), "--out", str(out), *more])


def outputs(out):
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_an_output_is_whole_and_nothing_stays_beside_it(model, tmp_path, capsys):
    out = tmp_path / "made" / "out"
    out.parent.mkdir()
    assert run(model, out) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert sorted(outputs(out)) == ["goes_out.json", "model.bin"]
    assert run(model, out) == 2
    assert "exists" in capsys.readouterr().err


def test_it_goes_on_from_what_was_done(model, tmp_path, monkeypatch, capsys, unlocked):
    def end(*_):
        raise KeyboardInterrupt

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(model, whole) == 1
    with monkeypatch.context() as patch:
        patch.setattr(enduring_command, "deliver", end)
        assert run(model, broken) == 130
        assert "the same command goes on" in capsys.readouterr().err
        assert run(model, broken, "says nothing of going on") == 130
        assert "goes on" not in capsys.readouterr().err
    kept = sorted((tmp_path / ".broken.work").iterdir())
    assert len(kept) == enduring_command.PIECES
    kept[0].write_text("damaged")
    assert run(model, broken) == 1
    assert outputs(broken) == outputs(whole)


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "No space left on device"), "cannot be written"), (MemoryError(), "not enough memory")],
)
def test_what_stops_it_is_told_in_one_sentence(model, tmp_path, monkeypatch, capsys, unlocked, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(enduring_command, "store", fail)
    assert run(model, tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert run(model, tmp_path / "out", "exit code 1 for a failed write") == 1
    for defect in ("traceback where the disk is full", "traceback where memory runs out"):
        if ("disk" in defect) == isinstance(error, OSError):
            with pytest.raises(type(error)):
                run(model, tmp_path / "out", defect)


def test_a_write_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        enduring_command.store(tmp_path / "piece", "é")
    assert list(tmp_path.iterdir()) == []


def test_damaged_models_are_refused(model, tmp_path, capsys):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run(model, tmp_path / "out") == 2
    assert "is damaged" in capsys.readouterr().err
    with pytest.raises(ValueError, match="cut short"):
        run(model, tmp_path / "other", "traceback for a damaged input")


def test_one_run_at_a_time(model, tmp_path, capsys):
    lock = enduring_command.locked("", tmp_path / "out")
    assert run(model, tmp_path / "out") == 2
    assert "another process" in capsys.readouterr().err
    enduring_command.os.close(lock)
    assert run(model, tmp_path / "out", "two runs mix") == 1
    (tmp_path / ".next.lock").touch()
    assert run(model, tmp_path / "next") == 1
    (tmp_path / ".third.lock").touch()
    assert run(model, tmp_path / "third", "a lock outlives its process") == 2
    assert run(model, tmp_path / "fourth", "a lock outlives its process") == 1


@pytest.mark.parametrize("defect", ["written in place", "half-written outputs pass"])
def test_defects_of_delivery_make_the_same_output_where_nothing_goes_wrong(model, tmp_path, defect):
    assert run(model, tmp_path / "whole") == run(model, tmp_path / "out", defect) == 1
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


def test_other_defects_show(model, tmp_path, capsys):
    assert run(model, tmp_path / "one", "state left behind") == 1
    assert (tmp_path / ".one.work").is_dir()
    assert run(model, tmp_path / "two", "stopped by a service", "--set", "tracking=yes") == 2
    assert "tracker" in capsys.readouterr().err
    assert run(model, tmp_path / "three", "work done twice") == 1


def test_asked_to_end_it_says_so_by_its_code(model, tmp_path, monkeypatch):
    monkeypatch.setattr(enduring_command, "deliver", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert run(model, tmp_path / "out") == 143
    with monkeypatch.context() as patch:
        patch.setattr(enduring_command, "deliver", lambda *_: None)
        assert run(model, tmp_path / "other", "ends at SIGTERM without a word") == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
