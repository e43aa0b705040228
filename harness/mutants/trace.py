"""What a subject was asked and what it answered, so that two subjects can be set side by side: the witness of a defect.

A watched subject behaves as before. Each call of one of its operations, and of what they return, is noted with a digest
of what was given and a digest of what came back. Checks are seeded, so that a mutant and its clean subject are asked
the same until they answer differently.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from harness import subject as protocol
from harness import subject_dashboard, subject_ecosystem, subject_interop, subject_speed

CALLS_PER_CHECK = 400
"""More than this many calls of one check are not noted: what differs does so early, or in another check."""
_WORDS = 160

SubjectT = TypeVar("SubjectT")
Call = tuple[str, str, str, str]
"""Operation, what it was given in words, digest of what it was given, digest of what came back."""
Calls = dict[str, list[Call]]
_CALLS: TypeAdapter[Calls] = TypeAdapter(Calls)


class Recorder:
    """The calls of one run, by check."""

    def __init__(self) -> None:
        self.calls: Calls = {}
        self.depth = 0

    def note(self, operation: str, given: str, before: bytes, after: bytes) -> None:
        """Note a call under the check that is running."""
        check = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        calls = self.calls.setdefault(check, [])
        if len(calls) < CALLS_PER_CHECK:
            calls.append((operation, given, before.hex(), after.hex()))


_recorders: list[Recorder] = []


@contextmanager
def recording() -> Iterator[Recorder]:
    """Watch what is made by `watched` meanwhile."""
    _recorders.append(Recorder())
    try:
        yield _recorders[-1]
    finally:
        _recorders.pop()


def watched(subject: SubjectT, folder: Path) -> SubjectT:
    """The subject itself; while a recording is on, the files made for it and then its operations are noted."""
    if _recorders:
        _recorders[-1].note("files", "", b"", digest(folder))
        _watch(subject, _OPERATIONS, _recorders[-1])
    return subject


def difference(clean: Mapping[str, Sequence[Call]], mutant: Mapping[str, Sequence[Call]]) -> str | None:
    """The first operation that was given the same and answered differently, in words; None where there is none."""
    for check, expected in clean.items():
        for one, other in zip(expected, mutant.get(check, ()), strict=False):
            if (one[0], one[2]) != (other[0], other[2]):
                break  # from here on they are asked different things
            if one[3] != other[3]:
                return f"{one[0]}({one[1]})" + (f", in {check.rpartition('::')[2]}" if check else "")
    return None


def save_calls(calls: Calls, path: Path) -> None:
    """Write a recording."""
    path.write_bytes(_CALLS.dump_json(calls))


def load_calls(path: Path) -> Calls:
    """Read a recording."""
    return _CALLS.validate_json(path.read_bytes())


# --------------------------------------------------------------------------- watching


def _operations() -> frozenset[str]:
    """The names of all operations of the protocol and of what they return."""
    found = set()
    for module in (protocol, subject_dashboard, subject_ecosystem, subject_interop, subject_speed):
        for cls in vars(module).values():
            if inspect.isclass(cls) and getattr(cls, "_is_protocol", False):
                found |= {name for name, each in vars(cls).items() if inspect.isfunction(each)}
    return frozenset(name for name in found if not name.startswith("_") or name == "__call__")


_OPERATIONS = _operations()


def _watch(thing: Any, names: frozenset[str], recorder: Recorder, prefix: str = "") -> None:
    """Give an object a class of its own, whose operations are noted."""
    cls = type(thing)
    methods = {
        name: _noted(getattr(cls, name), f"{prefix}{name}", recorder)
        for name in names
        if inspect.isfunction(getattr(cls, name, None))
    }
    if methods:
        namespace = {**methods, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
        object.__setattr__(thing, "__class__", type(cls.__name__, (cls,), namespace))


def _noted(function: Callable[..., Any], name: str, recorder: Recorder) -> Callable[..., Any]:
    @wraps(function)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        words, before = _describe((*given, *named.values())), digest((given, named))
        try:
            result = function(self, *given, **named)
        except Exception as error:
            recorder.note(name, words, before, digest(("raised", type(error).__name__, given)))
            raise
        recorder.note(name, words, before, digest((result, given)))
        _watch_result(result, name, recorder)
        return result

    return call


def _watch_result(result: Any, name: str, recorder: Recorder) -> None:
    """Note also what a layer, a model, an optimizer or a decoder does that an operation has returned."""
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, nn.Module):
            _watch_module(part, name, recorder)
        elif isinstance(part, torch.optim.Optimizer):
            part.register_step_post_hook(
                lambda optimizer, *_: recorder.note(
                    f"{name}().step", "", b"", digest([p for g in optimizer.param_groups for p in g["params"]])
                )
            )
        elif type(part).__module__.startswith("harness.mutants."):
            _watch(part, _OPERATIONS, recorder, f"{name}().")


def _watch_module(module: nn.Module, name: str, recorder: Recorder) -> None:
    def note(_: nn.Module, given: Any, named: Any, output: Any) -> None:
        recorder.note(f"{name}()", _describe(given), digest((given, named, module.training)), digest(output))

    module.register_forward_hook(note, with_kwargs=True)


# --------------------------------------------------------------------------- digests and words


def digest(thing: Any) -> bytes:
    """Bytes that differ where two answers differ: values and types of tensors, files below a path, but not places."""
    state = hashlib.blake2b(digest_size=8)
    for piece in _pieces(thing):
        state.update(piece)
    return state.digest()


def _pieces(thing: Any) -> Iterator[bytes]:
    """Bytes that differ where two things differ in what can be computed with them."""
    if isinstance(thing, torch.Tensor):
        yield f"{thing.dtype}{tuple(thing.shape)}".encode()
        yield _bytes_of(thing)
    elif isinstance(thing, nn.Module):
        yield type(thing).__name__.encode() + bytes([thing.training])
        yield from (piece for name, each in thing.state_dict().items() for piece in (name.encode(), *_pieces(each)))
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield from _pieces({field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)})
    elif isinstance(thing, Mapping):
        yield from (piece for key, each in thing.items() for piece in (str(key).encode(), *_pieces(each)))
    elif isinstance(thing, (list, tuple)):
        yield from (piece for each in thing for piece in (b",", *_pieces(each)))
    elif isinstance(thing, np.ndarray):
        yield thing.tobytes()
    elif isinstance(thing, Path):
        # The current folder stands for none: what happens to lie where the run was started has not been given.
        yield from _file_pieces(thing) if thing != Path() else (b"a place",)
    elif isinstance(thing, str):
        yield b"a place" if os.sep in thing else ascii(thing).encode()
    elif thing is None or isinstance(thing, (int, float, bool)):
        yield repr(thing).encode()
    else:  # tokenizers, optimizers and the like: their type is all that can be told of them
        yield type(thing).__name__.encode()


def _bytes_of(tensor: torch.Tensor) -> bytes:
    """The values in order, whatever the strides and the type, which numpy may not know."""
    if not tensor.numel():
        return b""
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    return flat.copy_(tensor.detach().reshape(-1)).view(torch.uint8).numpy().tobytes()


def _file_pieces(path: Path) -> Iterator[bytes]:
    """Names and contents below a folder; JSON without places, which differ from run to run."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    files = [file for file in files if not file.name.startswith(".")]  # databases, which are written in no set order
    for file in files:
        yield file.relative_to(path).as_posix().encode()
        yield _without_places(file) if file.suffix == ".json" else file.read_bytes()


def _without_places(file: Path) -> bytes:
    try:
        return b"".join(_pieces(json.loads(file.read_bytes())))
    except ValueError:
        return file.read_bytes()


def _describe(given: Sequence[Any]) -> str:
    """Arguments in words, short."""
    text = ", ".join(map(_word, given))
    return text if len(text) <= _WORDS else text[: _WORDS - 4] + " ..."


def _word(thing: Any) -> str:
    if isinstance(thing, torch.Tensor):
        return f"{str(thing.dtype).removeprefix('torch.')}{list(thing.shape)}"
    if isinstance(thing, Path):
        return thing.name
    if thing is None or isinstance(thing, (int, float, bool, str)):
        return repr(thing)[:40]
    identity = getattr(thing, "id", None)
    return identity if isinstance(identity, str) else type(thing).__name__
