import contextlib
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from safetensors.torch import save_file

from bitnet.checkpoint import (
    atomic_directory,
    atomic_file,
    clear_leftovers,
    digest_file,
    exclusive,
    read_json,
    write_json,
)
from bitnet.errors import BitnetError


def write_and_fail(path: Path, failure: BaseException) -> NoReturn:
    path.write_text("half")
    raise failure


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_directory_appears_only_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "deep" / "out"
    with atomic_directory(target) as folder:
        assert folder.parent == target.parent
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("a")
        assert not target.exists()
    assert names(tmp_path) == ["deep", "deep/out", "deep/out/sub", "deep/out/sub/a.txt"]


def test_an_existing_directory_is_replaced_whole(tmp_path: Path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with atomic_directory(target) as folder:
        (folder / "new.txt").write_text("new")
        assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["out", "out/new.txt"]


def test_the_target_may_be_reached_through_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_directory(tmp_path / "link") as folder:
        (folder / "new.txt").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["new.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("stop"), KeyboardInterrupt(), BitnetError("told already")])
def test_a_failed_block_leaves_nothing_and_keeps_its_error(tmp_path: Path, failure: BaseException):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old.txt").write_text("old")
    for target in (tmp_path / "new" / "deep", tmp_path / "kept"):
        with pytest.raises(type(failure)) as caught, atomic_directory(target) as folder:
            write_and_fail(folder / "half.txt", failure)
        assert caught.value is failure
    assert names(tmp_path) == ["kept", "kept/old.txt"]


def test_the_old_directory_comes_back_when_the_exchange_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if (self / "new.txt").exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BitnetError, match="Read-only file system"), atomic_directory(target) as folder:
        (folder / "new.txt").write_text("new")
    assert names(tmp_path) == ["out", "out/old.txt"]


def test_a_parent_that_another_process_uses_is_left(tmp_path: Path):
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "shared" / "out"):
        write_and_fail(tmp_path / "shared" / "theirs.txt", RuntimeError())
    assert names(tmp_path) == ["shared", "shared/theirs.txt"]


def test_an_output_below_a_file_is_told_in_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for below in ("file/out", "file/deeper/out"):
        told = pytest.raises(BitnetError, match=r"^Cannot write .*out \(.*\): choose a place")
        with told, atomic_directory(tmp_path / below):
            pass
    with pytest.raises(BitnetError, match="is a file, not a folder"), atomic_directory(tmp_path / "file"):
        pass
    assert names(tmp_path) == ["file"]


FULL_DISK = """
import resource, signal, sys, pathlib, torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from bitnet.checkpoint import atomic_directory
from bitnet.errors import BitnetError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
words = Tokenizer(models.WordLevel({str(number): number for number in range(9999)}, unk_token="0"))
for write in (
    lambda p: p.write_bytes(bytes(100_000)),
    lambda p: save_file({"w": torch.zeros(100_000)}, p),
    lambda p: words.save(str(p)),
):
    try:
        with atomic_directory(pathlib.Path(sys.argv[1])) as folder:
            write(folder / "model.safetensors")
    except BitnetError as error:
        print(error)
"""


def test_a_write_that_the_system_refuses_is_told_and_leaves_nothing(tmp_path: Path):
    target = tmp_path / "out"
    command = [sys.executable, "-c", FULL_DISK, str(target)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 3
    for sentence in told:
        assert sentence.startswith(f"Cannot write {target} (File too large")
    assert names(tmp_path) == []


def test_a_failed_read_inside_the_block_is_not_called_a_failed_write(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_directory(tmp_path / "deep" / "out"):
        (tmp_path / "input.txt").read_text()
    assert names(tmp_path) == []


def test_other_errors_without_a_kind_are_not_called_a_failed_write(tmp_path: Path):
    with pytest.raises(Exception, match="no such word") as caught, atomic_directory(tmp_path / "out"):
        raise Exception("no such word")
    assert type(caught.value) is Exception


def test_an_error_of_the_tensors_is_not_called_a_failed_write(tmp_path: Path):
    shared = torch.zeros(4, 4)
    with pytest.raises(RuntimeError, match="share memory"), atomic_directory(tmp_path / "out") as folder:
        save_file({"a": shared, "b": shared}, folder / "model.safetensors")


def test_atomic_file(tmp_path: Path):
    target = tmp_path / "deep" / "a.txt"
    for content in ("one", "two"):
        with atomic_file(target) as temporary:
            temporary.write_text(content)
        assert target.read_text() == content
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        write_and_fail(temporary, RuntimeError())
    assert target.read_text() == "two"
    assert names(tmp_path) == ["deep", "deep/a.txt"]
    with pytest.raises(BitnetError, match="is a folder, not a file"), atomic_file(tmp_path / "deep"):
        pass


def test_digest(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert digest_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    with pytest.raises(BitnetError, match=r"Cannot read .*gone \(No such file"):
        digest_file(tmp_path / "gone")


def test_json_round_trip(tmp_path: Path):
    value = {"ratio": 6.5, "name": "größe", "none": None, "list": [1, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")
    assert "größe" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_a_number(tmp_path: Path, number: float):
    with pytest.raises(BitnetError, match="NaN or infinity"):
        write_json(tmp_path / "a.json", {"x": number})
    assert names(tmp_path) == []


def test_json_errors_name_the_file(tmp_path: Path):
    with pytest.raises(BitnetError, match=r"Cannot read .*gone\.json"):
        read_json(tmp_path / "gone.json")
    for content in (b'{"a": ', b"\xff"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(BitnetError, match=r"bad\.json is not (valid JSON|UTF-8 text)"):
            read_json(tmp_path / "bad.json")


# What killed processes leave


def dead_process() -> int:
    """The number of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_a_folder_that_had_stepped_aside_comes_back(tmp_path: Path):
    aside = tmp_path / f".out.{dead_process()}-ab12.old"
    for there in (False, True):
        aside.mkdir()
        (aside / "old.txt").write_text("old")
        clear_leftovers(tmp_path / "out")
        assert names(tmp_path) == ["out", "out/old.txt"], there


def test_what_is_half_done_goes_and_what_a_process_is_at_stays(tmp_path: Path):
    dead, alive = dead_process(), os.getpid()
    for name in (
        f".out.{dead}-ab12.tmp",
        f".out.{alive}-ab12.tmp",
        f".out.{alive}-ab12.old",
        f".other.{dead}-ab12.tmp",
    ):
        (tmp_path / name).mkdir()
    clear_leftovers(tmp_path / "out")
    assert names(tmp_path) == [f".other.{dead}-ab12.tmp", f".out.{alive}-ab12.old", f".out.{alive}-ab12.tmp"]


# One process at a time

HOLD = """
import os, pathlib, signal, sys
from bitnet.checkpoint import exclusive

with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_an_output_is_one_processs_own_until_it_ends(tmp_path: Path):
    target = tmp_path / "deep" / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(BitnetError, match=r"Another process is writing .*out: wait for its end"), exclusive(target):
            pass
        other.kill()
    with exclusive(target), pytest.raises(BitnetError, match="Another process"), exclusive(target):
        pass
    assert names(tmp_path) == ["deep"]


def test_a_failed_block_leaves_no_lock_and_no_parents(tmp_path: Path):
    with pytest.raises(RuntimeError), exclusive(tmp_path / "deep" / "out"):
        raise RuntimeError
    for place, told in {"/proc/out": "Cannot write /proc/out", "/": "/ cannot be replaced"}.items():
        with pytest.raises(BitnetError, match=told), exclusive(Path(place)):
            pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(("number", "told"), [(errno.ENOLCK, None), (errno.EIO, "Input/output error")])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number, told):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    expected = pytest.raises(BitnetError, match=told) if told else contextlib.nullcontext()
    with expected, exclusive(tmp_path / "out"):
        pass
    assert told is not None or names(tmp_path) == []
