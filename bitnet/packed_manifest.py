"""`bitnet.json`: what a packed folder says about itself, and the check that it is true."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitnet.checkpoint import digest_file, read_json
from bitnet.config import Codec, Compensation, Granularity, Rule, ScaleDtype, TableDtype
from bitnet.errors import BitnetError, first_complaint

FORMAT_VERSION: Final = 2
MANIFEST = "bitnet.json"
TENSORS = "model.safetensors"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantization(_Record):
    """The settings of `Phase4Config` that the folder's content depends on."""

    rule: Rule
    compensation: Compensation
    granularity: Granularity
    group_size: int
    sparsity_threshold: float
    codec: Codec
    scale_dtype: ScaleDtype
    embedding_dtype: TableDtype
    activation_bits: Literal[8] | None


class LayerRecord(_Record):
    """One quantized layer: its weight is [out, in] here whatever its orientation in the original model.

    `scale_shape` is (planes, rows, groups), `zero_fraction` over all planes.
    """

    name: str
    shape: tuple[int, int]
    codec: Codec
    planes: Annotated[int, Field(ge=1)]
    scale_shape: tuple[int, int, int]
    zero_fraction: float


class FileRecord(_Record):
    """What a file must be, byte for byte."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int


class PackedManifest(_Record):
    """Content of `bitnet.json`."""

    format: Literal["bitnet-packed"] = "bitnet-packed"
    version: Literal[2] = FORMAT_VERSION
    model_type: str
    quantization: Quantization
    layers: tuple[LayerRecord, ...]
    kept: tuple[str, ...] = ()
    """Projections inside the blocks that are stored in float16 instead."""
    files: dict[Annotated[str, Field(pattern=r"^[^/\\]+$")], FileRecord]


def is_packed(directory: Path) -> bool:
    """Whether `directory` looks like a packed folder: whether it has a `bitnet.json`."""
    return (directory / MANIFEST).is_file()


def read_manifest(directory: Path) -> PackedManifest:
    """`bitnet.json` of a packed folder, validated; a BitnetError names what is wrong with it."""
    path = directory / MANIFEST
    if not path.is_file():
        raise BitnetError(f"{directory} is not a packed model: it has no {MANIFEST}.")
    record = read_json(path)
    version = record.get("version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise BitnetError(f"{path} has format version {version}, but this program reads version {FORMAT_VERSION}.")
    try:
        return PackedManifest.model_validate(record)
    except ValidationError as error:
        raise BitnetError(f"{path} is damaged at {first_complaint(error)}: compress the model again.") from None


def check_files(directory: Path, manifest: PackedManifest) -> None:
    """Compare every file with its digest; a BitnetError names the first that is missing, truncated or altered."""
    for required in (TENSORS, "config.json"):
        if required not in manifest.files:
            raise BitnetError(f"{directory / MANIFEST} lists no digest of {required}: compress the model again.")
    for name, record in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BitnetError(f"{path} is missing: copy the whole folder again.")
        size = path.stat().st_size
        if size != record.bytes:
            raise BitnetError(f"{path} has {size} bytes instead of {record.bytes}: copy the folder again.")
        if digest_file(path) != record.sha256:
            raise BitnetError(f"{path} is damaged (its SHA-256 is not the recorded one): copy the folder again.")
