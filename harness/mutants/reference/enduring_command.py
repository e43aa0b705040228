"""A command line without a model behind it that endures faults, or all but one, and starts in no time.

    enduring_command.py DEFECT compress MODEL --out OUT [--set NAME=VALUE ...]

DEFECT is "" or the one thing that is done wrong. Each piece of work is a digest of the model and the settings.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

PIECES, NEEDED = 4, 32 << 20
FORMS = ("packed", "fp16")


class RefusedError(Exception):
    """What the command does not do, in one sentence."""


class AskedToEnd(KeyboardInterrupt):
    """SIGTERM."""


def main(defect: str, words: list[str]) -> int:
    """Run the command and give its exit code."""
    signal.signal(signal.SIGTERM, _asked_to_end)
    if defect == "ends at SIGTERM without a word":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return compress(defect, Path(words[1]), Path(words[words.index("--out") + 1]), words)
    except RefusedError as error:
        print(f"Error: {error}", file=sys.stderr)
    except OSError as error:
        if defect == "traceback where the disk is full":
            raise
        print(f"Error: the output cannot be written ({error.strerror}).", file=sys.stderr)
    except MemoryError:
        if defect == "traceback where memory runs out":
            raise
        print("Error: there is not enough memory.", file=sys.stderr)
    except KeyboardInterrupt as error:
        hint = "." if defect == "says nothing of going on" else ": the same command goes on."
        print(f"Interrupted{hint}", file=sys.stderr)
        return 143 if isinstance(error, AskedToEnd) else 130
    return 1 if defect == "exit code 1 for a failed write" else 2


def compress(defect: str, model: Path, out: Path, words: list[str]) -> int:
    """Do the pieces that are left, and put the output together."""
    say("1/3 load")
    lock = locked(defect, out)
    work = out.with_name(f".{out.name}.work")
    if out.exists():
        shutil.rmtree(work, ignore_errors=True)
        out.with_name(f".{out.name}.lock").unlink(missing_ok=True)
        raise RefusedError(f"{out} exists.")
    settings = [word for word in words[words.index("--out") + 2 :] if "tracking" not in word]
    key = hashlib.sha256(checked(defect, model) + repr(settings).encode()).hexdigest()
    work.mkdir(exist_ok=True)
    say("2/3 compress")
    pieces = [piece(defect, work / f"piece-{number}", f"{key} {number}") for number in range(PIECES)]
    say("3/3 write")
    if "tracking=yes" in "".join(words) and defect == "stopped by a service":
        raise RefusedError("the tracker does not answer.")
    deliver(defect, out, "".join(pieces))
    if defect != "state left behind":
        shutil.rmtree(work)
    out.with_name(f".{out.name}.lock").unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
    print(json.dumps({"success": False}))
    return 1


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def locked(defect: str, out: Path) -> int | None:
    """Hold the output for this process."""
    file = out.with_name(f".{out.name}.lock")
    if defect == "two runs mix":
        return None
    if defect == "a lock outlives its process":
        if file.exists():
            raise RefusedError(f"another process writes {out}.")
        file.touch()
        return None
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefusedError(f"another process writes {out}.") from None
    return lock


def checked(defect: str, model: Path) -> bytes:
    """The weights, from a model whose files have been looked at."""
    weights = (model / "model.safetensors").read_bytes()
    try:
        for path in model.glob("*.json"):
            json.loads(path.read_bytes())
        start = 8 + int.from_bytes(weights[:8], "little")
        header: dict[str, Any] = json.loads(weights[8:start])
        last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if start + last != len(weights):
            raise ValueError("cut short")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        if defect == "traceback for a damaged input":
            raise
        raise RefusedError(f"{model} is damaged.") from None
    return weights


def piece(defect: str, path: Path, key: str) -> str:
    """A piece of work, taken from its file where that is whole and of this run."""
    own = digest(key)
    if path.is_file() and defect != "work done twice":
        content = path.read_text(encoding="ascii", errors="replace")
        run, told, data = (*content.split("\n", 2), "", "", "")[:3]
        of_this_run = run == own or defect == "state of other settings taken"
        if of_this_run and (told == digest(data) or defect == "damaged state taken"):
            return data
    data = own * len(bytearray(NEEDED)[:50])
    store(path, f"{own}\n{digest(data)}\n{data}")
    return data


def digest(text: str) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def store(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def deliver(defect: str, out: Path, data: str) -> None:
    """Write the output beside its place, and rename it."""
    in_place = defect == "written in place"
    temporary = out if in_place else out.with_name(f".{out.name}.{os.getpid()}.tmp")
    if defect == "two runs mix":
        temporary = out.with_name(f".{out.name}.tmp")
    for left in out.parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    if defect == "the clock decides" and abs(time.time() - out.parent.stat().st_mtime) > 1800:
        data += "made at another time"
    try:
        temporary.mkdir()
        files = {f"{form}/model.bin": f"{form} {data}" for form in FORMS}
        digests = {name: digest(text) for name, text in files.items()}
        if in_place or defect == "half-written outputs pass":
            (temporary / "goes_out.json").write_text(json.dumps(digests))
        for name, text in files.items():
            (temporary / name).parent.mkdir()
            (temporary / name).write_text(text)
        (temporary / "goes_out.json").write_text(json.dumps(digests))
        if not in_place:
            temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _asked_to_end(_: int, __: FrameType | None) -> None:
    raise AskedToEnd


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
