"""Run a Python program again and again without starting Python: each run is a fork of a process that has done it once.

    server.py SHIM MODULE WORDS...

The program is the module, run with the words once, so that all that it imports is there. Each line on standard input,
a JSON object with `words`, `folder`, `environment`, `arm`, `fresh`, `stdout` and `stderr`, is answered by the process
number of a run; a line `{"wait": NUMBER}` by its exit code, negative for a signal, or null once it was stopped.
Python modules that a run starts as programs are forks as well, unless `fresh`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

START = subprocess.run


def run_module(words: Sequence[str]) -> int:
    """Run a module as a program, in this process; gives the exit code that Python would end with."""
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def redirect(stdin: int, stdout: int, stderr: int) -> None:
    """Make these files the standard ones."""
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file, number)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", line_buffering=True)


def finish(code: int) -> None:
    """End this process, as nothing of the server's is to be tidied up here."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run_forked(command: Sequence[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` gives of `python ... -m MODULE WORDS...`."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        given.write((options.get("input") or "").encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            redirect(given.fileno(), out.fileno(), told.fileno())
            finish(run_module(words[words.index("-m") + 1 :]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        told.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), told.read().decode())


def run_or_fork(command: Any, *more: Any, **options: Any) -> Any:
    """As `subprocess.run`; Python modules are forks of this process."""
    if isinstance(command, list) and command[0] == sys.executable and "-m" in command:
        return run_forked(command, **options)
    return START(command, *more, **options)


def begin(request: dict[str, Any], module: str, arm: Any) -> int:
    """Fork a run."""
    child = os.fork()
    if child:
        return child
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    stdin = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("stdout", "stderr")]
    redirect(stdin, *files)
    if request["fresh"]:
        subprocess.run = START
    kind, at, value, log, under = request["arm"].split(" ", 4)
    arm(int(kind), int(at), int(value), log.encode(), under.encode())
    finish(run_module([module, *request["words"]]))
    return 0


def ending(process: int) -> int | None:
    """The exit code of a run, or None when it was stopped."""
    status = os.waitpid(process, os.WUNTRACED)[1]
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def main(shim: str, module: str, *words: str) -> None:
    """Warm up, and answer requests until there are no more."""
    arm = ctypes.CDLL(shim).fault_arm
    arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p]
    subprocess.run = run_or_fork  # type: ignore[assignment]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0))
    print(json.dumps(run_module([module, *words])), file=answers)
    gc.collect()
    gc.freeze()  # so that collections in a fork do not copy everything
    for line in requests:
        request = json.loads(line)
        reply = ending(request["wait"]) if "wait" in request else begin(request, module, arm)
        print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
