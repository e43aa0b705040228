"""Faults are what they are called, seen on a small program that writes a file, then renames it."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.faults import shim
from harness.faults.shim import Fault, NoShim, Point, build
from harness.faults.stand import Ended, Stand, interruptible, open_stand

PROGRAM = """
import os, subprocess, sys, time

print("begun", file=sys.stderr, flush=True)
try:
    file = os.open("a.tmp", os.O_WRONLY | os.O_CREAT)
    if os.write(file, b"x" * 1000) < 1000:
        os.write(file, b"x")
    os.fsync(file)
    os.rename("a.tmp", "a")
    if "memory" in sys.argv:
        bytearray(1 << 28)
except (OSError, MemoryError) as error:
    print(error, file=sys.stderr)
    sys.exit(3)
except KeyboardInterrupt:
    sys.exit(130)
if "module" in sys.argv:
    command = [sys.executable, "-m", "calendar", "2024", "2"]
    print(subprocess.run(command, capture_output=True, text=True).stdout)
if "sleep" in sys.argv:
    time.sleep(600)
if "fail" in sys.argv:
    sys.exit("failed")
print(os.environ.get("GIVEN", ""), int(time.time()), sys.argv[1:])
"""
WRITE = 2
"""The calls: a file is made, written, synced, renamed."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "small_program.py").write_text(PROGRAM)
    return folder


@pytest.fixture(scope="module", params=["spawning", "forking"])
def opened(request, library, tmp_path_factory):
    folder, scratch = tmp_path_factory.mktemp("under"), tmp_path_factory.mktemp("scratch")
    command = [sys.executable, "-I", "-S", str(library / "small_program.py")]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(library))
        if request.param == "forking":
            command = [sys.executable, "-m", "small_program"]
        with open_stand(command, [], folder, scratch) as stand:
            yield stand, folder


@pytest.fixture
def stand(opened) -> Stand:
    for path in opened[1].iterdir():
        path.unlink()
    return opened[0]


def run(stand: Stand, fault: Fault = shim.NONE, *words: str, **environment: str) -> Ended:
    return stand.run(words, fault, environment)


def left(opened) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in Path(opened[1]).iterdir()}


def test_without_a_fault_everything_is_as_always_and_calls_are_counted(stand, opened):
    ended = run(stand, shim.NONE, "one", "two", GIVEN="this")
    assert ended.code == 0
    assert ended.stdout.startswith("this ")
    assert ended.stdout.rstrip().endswith("['one', 'two']")
    assert ended.stderr == "begun\n"
    assert "".join(point.what for point in ended.points) == "tcwsr"
    assert [point.bytes for point in ended.points] == [6, 0, 1000, 0, 0]
    assert left(opened) == {"a": 1000}


@pytest.mark.parametrize(("call", "expected"), [(1, {}), (WRITE, {"a.tmp": 500}), (4, {"a.tmp": 1000})])
def test_a_kill_falls_where_it_is_meant_to(stand, opened, call, expected):
    ended = run(stand, Fault("kill", call))
    assert (ended.code, ended.stderr) == (-signal.SIGKILL, "begun\n")
    assert left(opened) == expected
    assert len(ended.points) == 1 + call


def test_a_kill_may_follow_a_line_of_progress(stand, opened):
    ended = run(stand, Fault("kill", 1, 1))
    assert (ended.code, ended.stderr, len(ended.points)) == (-signal.SIGKILL, "begun\n", 1)
    assert left(opened) == {}


def test_a_full_disk_takes_half_and_then_nothing(stand, opened):
    ended = run(stand, Fault("full disk", 1))
    assert (ended.code, left(opened)) == (3, {})
    assert "No space left" in ended.stderr
    assert run(stand, Fault("full disk", WRITE)).code == 3
    assert left(opened) == {"a.tmp": 500}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("read-only", 1), "Read-only file system"),
        (Fault("read-only", 4), "Read-only file system"),
        (Fault("error", 3, errno.EIO), "Input/output error"),
        (Fault("file size", 0, 999), "File too large"),
    ],
    ids=str,
)
def test_calls_fail_with_the_systems_own_words(stand, fault, words):
    ended = run(stand, fault)
    assert (ended.code, words in ended.stderr) == (3, True), ended.stderr


def test_memory_runs_out(stand):
    assert run(stand, Fault("memory", 1, 1 << 20), "memory").code == 3
    assert run(stand, Fault("memory", 1, 1 << 30), "memory").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_arrive(stand, number, code):
    assert run(stand, Fault("signal", WRITE, number)).code == code


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.default_int_handler])
def test_a_program_can_be_interrupted_although_a_background_job_cannot(before):
    kept = signal.signal(signal.SIGINT, before)
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    try:
        with interruptible():
            told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, kept)
    assert told == "True\n"


def test_a_run_that_is_stopped_goes_on_when_it_is_told_to(stand, opened):
    started = stand.begin([], Fault("stop", 4))
    assert started.stopped()
    assert left(opened) == {"a.tmp": 1000}
    assert run(stand).code == 0
    started.go_on()
    assert started.end().code == 3  # there is nothing left to rename


def test_the_clock_is_put_back(stand):
    now = int(run(stand).stdout.split()[0])
    assert int(run(stand, Fault("clock", 4, 1000)).stdout.split()[0]) == pytest.approx(now - 1000, abs=60)


def test_a_run_that_hangs_is_killed(stand, monkeypatch):
    monkeypatch.setattr("harness.faults.stand.PATIENCE", 3)
    ended = run(stand, shim.NONE, "sleep")
    assert (ended.hung, ended.code) == (True, -signal.SIGKILL)
    monkeypatch.undo()
    assert run(stand).code == 0


def test_programs_that_a_run_starts_run_without_faults(stand):
    assert "February 2024" in run(stand, Fault("full disk", 5), "module").stdout
    assert run(stand, shim.NONE, "fail").code == 1


def test_a_server_that_is_gone_is_told(tmp_path, library):
    (library / "ending_program.py").write_text("import os, sys\nprint('no luck', file=sys.stderr)\nos._exit(1)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(library))
        opened = open_stand([sys.executable, "-m", "ending_program"], [], tmp_path, tmp_path)
        with pytest.raises(AuditError, match="could not be run once without faults: no luck"):
            opened.__enter__()


def test_faults_say_what_they_are(tmp_path):
    assert str(Fault("error", 4, errno.EIO)) == "error 5 at call 4"
    assert str(Fault("file size", 0, 9)) == "file size 9"
    assert Fault("kill", 7).words(tmp_path / "log", Path("/a b")) == f"1 7 0 {tmp_path}/log /a b"
    assert Point.read("w 12 /a folder/file") == Point("w", 12, "/a folder/file")


def test_without_a_compiler_there_are_no_faults(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shim, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(NoShim, match="no C compiler"):
        build(tmp_path)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NoShim, match="false failed"):
        build(tmp_path)


def test_a_place_that_cannot_be_named_to_the_loader_is_told(tmp_path):
    with pytest.raises(NoShim, match="LD_PRELOAD takes no path like"):
        build(tmp_path / "a folder")
