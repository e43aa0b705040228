"""Hypothesis strategies that spoil a good file: bytes anywhere, or values where the format has its own structure."""

import copy
import json
import struct
from typing import Any

from hypothesis import strategies as st

NUMBERS = [-1, 0, 1, 2**31, 2**40, 2**63, 2**64, 10**40, 1e308, -0.5, float("nan"), float("inf")]
TEXTS = ["", "../../x", "/etc/passwd", "a\0b", "\ud800", "x\ny", "\x1b[31m", "<script>", "x" * 3000, "{{ 7 * 7 }}", "~"]
OTHERS: list[Any] = [None, True, False, [], {}, [[[]]], {"a": {"b": 1}}, ["x"] * 50]
HOSTILE = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be changed in a JSON value; of long lists only the ends."""
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [place for key, each in value.items() for place in places(each, (*path, key))]
    if isinstance(value, list):
        ends = sorted({*range(min(2, len(value))), *range(max(0, len(value) - 1), len(value))})
        return found + [place for index in ends for place in places(value[index], (*path, index))]
    return found


@st.composite
def spoilt_json(draw, text: bytes) -> bytes:
    """A JSON document with up to three values replaced, removed or renamed."""
    document = copy.deepcopy(json.loads(text))
    for _ in range(draw(st.integers(1, 3))):
        known = places(document)
        if not known:
            break
        *to, last = draw(st.sampled_from(known))
        holder = document
        for step in to:
            holder = holder[step]
        way = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename"]))
        if way == "replace":
            holder[last] = copy.deepcopy(draw(HOSTILE))  # it may be changed itself later
        elif way == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS))] = holder.pop(last)
    return json.dumps(document).encode()


@st.composite
def spoilt_bytes(draw, content: bytes, first: int = 4096) -> bytes:
    """A file with some of its first bytes changed, or cut, or with something put between."""
    spoilt = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(first, len(spoilt)) - 1)))
        way = draw(st.sampled_from(["flip", "number", "cut", "insert"]))
        if way == "flip" and spoilt:
            spoilt[at] = draw(st.integers(0, 255))
        elif way == "number":
            spoilt[at : at + 8] = struct.pack("<Q", draw(st.sampled_from([0, 1, 2**31, 2**32, 2**60, 2**64 - 1])))
        elif way == "cut":
            del spoilt[at:]
        else:
            spoilt[at:at] = draw(st.binary(max_size=20))
    return bytes(spoilt)


@st.composite
def spoilt_safetensors(draw, content: bytes) -> bytes:
    """A safetensors file whose header is well-formed JSON that says something else, or any spoilt bytes."""
    if draw(st.booleans()):
        return draw(spoilt_bytes(content))
    length = int.from_bytes(content[:8], "little")
    header = draw(spoilt_json(content[8 : 8 + length]))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


@st.composite
def spoilt_lines(draw, text: bytes) -> bytes:
    """A text of lines with some of them replaced by what YAML, TOML and lists of patterns give a meaning to."""
    lines = text.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines)))
        lines[at:at] = [draw(st.sampled_from(LINES))]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)
)
LINES = [
    BOMB,
    "seed: 2024-99-99",
    "seed: !!int x",
    "seed: !!timestamp x",
    "seed: !!python/object/apply:os.system ['true']",
    "seed: " + "1" * 5000,
    "seed: 0x_",
    "seed: " + "[" * 3000,
    "a = " + "[" * 3000,
    "overall = 1",
    "max_red = " + "9" * 5000,
    'against = "a\\u0000b"',
    'calibration_text: "a\\0b"',
    'registry: "\\ud800"',
    "? [a, b]",
    "<<: *a",
    "&x",
    "*" * 80,
    "*a" * 40,
    "\0",
    "\ud800",
    "- 1",
    "\t",
    "k" * 2000 + ": 1",
]


def spoilt(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """The strategy for a file of that name."""
    if name.endswith(".json"):
        return st.one_of(spoilt_json(content), spoilt_json(content), spoilt_bytes(content), deep(content))
    if name.endswith(".safetensors"):
        return spoilt_safetensors(content)
    if name.endswith((".yaml", ".toml", ".txt")):
        return st.one_of(spoilt_lines(content), spoilt_bytes(content))
    return spoilt_bytes(content)


def deep(content: bytes) -> st.SearchStrategy[bytes]:
    """Nested without end."""
    return st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, content[:-1] + b"," * 3 + b"[" * 5000])
