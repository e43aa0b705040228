"""Files that are either complete or absent: temporary siblings, synced and renamed; JSON and digests beside them."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bitnet.errors import BitnetError, out_of_memory
from bitnet.reading import check_regular, read_small

#: What a file system says that has no locks; then nothing is held there.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Gives an empty temporary folder beside `path` that takes the place of `path` when the block ends well.

    Whatever stood at `path` stays until then and comes back if the exchange fails. When the block raises, the
    temporary folder and every parent folder made for it are removed. A full disk, a read-only place or a file at
    `path` raises `BitnetError`.
    """
    target = path.resolve()
    if target.exists() and not target.is_dir():
        raise BitnetError(f"{path} is a file, not a folder: choose another output folder.")
    with _temporary_sibling(target) as temporary:
        temporary.mkdir()
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            _sync(entry)
        _sync(temporary)
        _exchange(temporary, target)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, to be written in the block; it is renamed to `path` when that ends well.

    Cleans up and raises as `atomic_directory` does; a folder at `path` raises `BitnetError`.
    """
    target = path.resolve()
    if target.is_dir():
        raise BitnetError(f"{path} is a folder, not a file: choose another output file.")
    with _temporary_sibling(target) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """While the block runs no other process gets past here for the same `path`; the system ends that with the process.

    Cleans up and raises as `atomic_directory` does; another process that is at work on `path` raises `BitnetError`.
    """
    target = path.resolve()
    if not target.name:
        raise BitnetError(f"{path} cannot be replaced: choose another output folder.")
    file = target.with_name(f".{target.name}.lock")
    with _writable(target, file):
        lock = _locked(file)
        if lock is None:
            raise BitnetError(f"Another process is writing {path}: wait for its end, or choose another place.")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # where it cannot be removed the next one takes it as it is
                file.unlink()
            os.close(lock)


def work_folder(out: Path) -> Path:
    """Where a run that is to fill `out` keeps what lets it go on after it was killed: a hidden folder beside it."""
    target = out.resolve()
    return target.with_name(f".{target.name}.work")


def discard_work(out: Path) -> None:
    """Remove the `work_folder` of a run that has finished, in one step: killed before it the run is known by it."""
    work = work_folder(out)
    if work.is_dir():
        discarded = _free_name(out.resolve(), "tmp")
        with contextlib.suppress(OSError):  # where it cannot be removed the next run tells so, or takes it as it is
            work.rename(discarded)
            _remove(discarded)


def clear_leftovers(path: Path) -> None:
    """Undo what processes which were killed have left beside `path`.

    A folder that had stepped aside comes back where nothing has taken its place; all else that is temporary goes.
    """
    target = path.resolve()
    for left in sorted(target.parent.glob(f".{glob.escape(target.name)}.*")):
        found = re.fullmatch(r"(\d+)-[0-9a-f]+\.(tmp|old)", left.name[len(target.name) + 2 :])
        if found is None or _alive(int(found[1])):
            continue
        if found[2] == "old" and not target.exists():
            left.rename(target)
        else:
            _remove(left)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits; `BitnetError` when it cannot be read or is no file."""
    check_regular(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BitnetError(f"Cannot read {path} ({error.strerror}): check that the file is complete.") from error
    except ValueError as error:
        raise BitnetError(f"Cannot read {str(path)!r} ({error}): no file can have that name.") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented UTF-8 JSON, atomically; NaN and infinity are not JSON and raise `BitnetError`."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BitnetError(f"Cannot write {path}: the record holds NaN or infinity ({error}).") from error
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file; `BitnetError` when the file is missing, is no file, too large or not JSON."""
    check_regular(path)
    text = read_small(path)
    try:
        return json.loads(text)
    except RecursionError:
        raise BitnetError(f"{path} is not valid JSON for this program (nested too deeply): write it again.") from None
    except ValueError as error:
        raise BitnetError(f"{path} is not valid JSON ({error}): write it again.") from error


@contextlib.contextmanager
def _temporary_sibling(target: Path) -> Iterator[Path]:
    """A free name beside `target`, whose parents exist inside the block; tidies up and translates failed writes."""
    temporary = _free_name(target, "tmp")
    with _writable(target, temporary):
        try:
            yield temporary
        except BaseException:
            _remove(temporary)
            raise


@contextlib.contextmanager
def _writable(target: Path, beside: Path) -> Iterator[None]:
    """Parents of `target` exist inside the block; when it fails they go as they came, and failed writes are told."""
    made: list[Path] = []
    try:
        for parent in [p for p in reversed(target.parents) if not p.exists()]:
            parent.mkdir()
            made.append(parent)
        yield
    except BaseException as error:
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # another process has put something there
                parent.rmdir()
        reason = _failed_write(error, (beside, target))
        if reason is None:
            raise
        raise BitnetError(f"Cannot write {target} ({reason}): choose a place with room and write access.") from error


def _locked(file: Path) -> int | None:
    """The descriptor of a file that this process holds alone, made if need be; None where another process holds it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return descriptor
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # whoever held it has removed it: another one is made in its place


def _failed_write(error: BaseException, outputs: tuple[Path, ...]) -> str | None:
    """Why an output could not be written, or None when `error` is about something else (such as an input)."""
    if out_of_memory(error):
        return None
    if isinstance(error, SafetensorError) and "I/O error" in str(error):
        return str(error).rpartition("I/O error: ")[2]
    if type(error) is Exception:  # of tokenizers, which knows no other
        told = re.fullmatch(r"(.+) \(os error \d+\)", str(error))
        return None if told is None else told[1]
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if error.filename is None:  # a write to an open file
        return error.strerror
    concerned = Path(os.fsdecode(error.filename))
    ours = any(concerned.is_relative_to(output) or concerned in output.parents for output in outputs)
    return error.strerror if ours else None


def _exchange(temporary: Path, target: Path) -> None:
    """Renames `temporary` to `target`; a folder cannot be renamed over a full one, so the old one steps aside first."""
    if not target.exists():
        temporary.rename(target)
    else:
        aside = _free_name(target, "old")
        target.rename(aside)
        try:
            temporary.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        _remove(aside)
    _sync(target.parent)


def _free_name(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(6)}.{kind}")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _sync(path: Path) -> None:
    """Flushes a file or folder to the disk, so that the rename never becomes durable before the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
