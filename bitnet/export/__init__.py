"""Packed folders in the formats of others: transformers' own `bitnet` folders, and GGUF files for llama.cpp.

An export holds the packed model's weights exactly, or is refused in one sentence that says what would fit.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from bitnet.errors import BitnetError
from bitnet.export.gguf_file import export_gguf
from bitnet.export.huggingface import export_huggingface
from bitnet.export.report import Exported
from bitnet.export.ternary_blocks import GgufType
from bitnet.packed_manifest import is_packed

__all__ = ["FORMATS", "GGUF_TYPES", "Exported", "Format", "GgufType", "export"]

Format = Literal["gguf", "huggingface"]
FORMATS: tuple[Format, ...] = get_args(Format)
GGUF_TYPES: tuple[GgufType, ...] = get_args(GgufType)


def export(directory: Path, out: Path, target: str, gguf_type: GgufType = "tq2_0") -> Exported:
    """Write the packed folder `directory` as `target`, one of `FORMATS`, to the new file or folder `out`.

    Raises:
        BitnetError: not a packed folder, an unknown format, something at `out`, or a model that does not fit.
    """
    writers: Mapping[str, Callable[[], Exported]] = MappingProxyType(
        {
            "gguf": lambda: export_gguf(directory, out, gguf_type),
            "huggingface": lambda: export_huggingface(directory, out),
        }
    )
    if target not in writers:
        raise BitnetError(f"There is no format '{target}': choose one of {', '.join(FORMATS)}.")
    if is_packed(directory / "packed"):
        raise BitnetError(f"{directory} is the output folder of a run: give {directory / 'packed'}.")
    if out.exists():
        raise BitnetError(f"{out} exists already: choose another place for the export, or remove it.")
    return writers[target]()
