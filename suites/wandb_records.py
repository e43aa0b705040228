"""What W&B's own record of a run holds: a file in LevelDB's log format with one protocol-buffer message a record.

W&B's Python package has the messages but no reader; the format is that of leveldb's doc/log_format.md after a header of
seven bytes. Every record's checksum is compared, so that nothing is read that was not written.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

BLOCK: Final = 32_768
HEADER: Final = struct.Struct("<IHB")
"""Of a chunk: CRC-32 of type and data, length of the data, type."""
IDENTITY: Final = b":W&B"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Logged:
    """Everything that a run logged: values by their full name, and whether it ended."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    finished: bool = False


def read_logged(file: Path) -> Logged:
    """The content of a `.wandb` file; names that begin with an underscore are W&B's own and left out."""
    from wandb.proto.wandb_internal_pb2 import Record

    logged = Logged()
    for content in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            logged.history.append(_values(record.history.item))
        elif kind == "summary":
            logged.summary |= _values(record.summary.update)
        elif kind == "run":
            logged.config |= _values(record.run.config.update)
        elif kind == "config":
            logged.config |= _values(record.config.update)
        elif kind == "exit":
            logged.finished = True
    return logged


def _values(items: Any) -> dict[str, Any]:
    named = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    return {name: value for name, value in named.items() if not name.startswith("_")}


def _records(content: bytes) -> Iterator[bytes]:
    assert content[:4] == IDENTITY, "not a record of W&B"
    position, parts = 7, b""
    while position + HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:  # too little for a header: the rest of the block is padding
            position += left
            continue
        checksum, length, kind = HEADER.unpack_from(content, position)
        data = content[position + HEADER.size : position + HEADER.size + length]
        assert zlib.crc32(bytes([kind]) + data) == checksum, f"the record at byte {position} is damaged"
        position += HEADER.size + length
        parts += data
        if kind in (FULL, LAST):
            yield parts
            parts = b""
