"""The manifests on both sides of Phase 4: what Phase 3 hands in, and what is handed on to Phase 5."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from bitnet.checkpoint import digest_file, read_json, write_json
from bitnet.errors import BitnetError, first_complaint

PHASE3_MANIFEST = "phase3.json"
PHASE5_MANIFEST = "manifest.json"


class Phase3Manifest(BaseModel):
    """The model that comes in. `synthesised` marks a manifest made here for a model that came without one.

    `tokenizer_sha256` is `tokenizer_digest` of the tokenizer; thinking tokens, where declared, are at least 8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model_path: str
    tokenizer_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    vocabulary_size: Annotated[int, Field(ge=1)]
    thinking_tokens: Annotated[tuple[str, ...], Field(min_length=8)] | None = None
    strategy_accuracies: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = {}
    anti_theater: dict[str, bool] = {}
    metrics: dict[str, float] = {}
    synthesised: bool = False


class Phase5Manifest(BaseModel):
    """The model that goes out. Paths are relative to the folder of the manifest.

    `run_id` is derived from the content of both artefacts, so the same command gives the same one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    run_id: str
    primary: Literal["fp16"] = "fp16"
    packed: Literal["packed"] = "packed"
    files: dict[str, str]
    rule: str
    granularity: str
    codec: str
    scales: str
    phase3: Phase3Manifest
    metrics: dict[str, float | int | bool]
    gates: tuple[dict[str, Any], ...]
    success: bool
    command: str


def phase3_manifest(source: str, path: Path, tokenizer: PreTrainedTokenizerBase) -> Phase3Manifest:
    """The manifest of a model's folder, or one synthesised from its tokenizer where there is none.

    Args:
        source: the model as the user named it.
        path: where it was loaded from.

    Raises:
        BitnetError: a manifest with a missing or invalid field, or one about another tokenizer.
    """
    digest, size = tokenizer_digest(tokenizer), len(tokenizer)
    file = path / PHASE3_MANIFEST
    if not file.is_file():
        return Phase3Manifest(model_path=source, tokenizer_sha256=digest, vocabulary_size=size, synthesised=True)
    try:
        manifest = Phase3Manifest.model_validate(read_json(file))
    except ValidationError as error:
        raise BitnetError(f"{file} is invalid at {first_complaint(error)}: write it again.") from None
    if (manifest.tokenizer_sha256, manifest.vocabulary_size) != (digest, size):
        raise BitnetError(f"{file} describes another tokenizer than the one in {path}: write the manifest again.")
    missing = sorted(set(manifest.thinking_tokens or ()) - set(tokenizer.get_vocab()))
    if missing:
        raise BitnetError(f"{file} declares the thinking token '{missing[0]}', which the tokenizer does not know.")
    return manifest


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the tokenizer's vocabulary, as JSON sorted by token: the same wherever the tokenizer is stored."""
    text = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def phase5_manifest(
    out: Path,
    *,
    config: Mapping[str, Any],
    phase3: Phase3Manifest,
    metrics: Mapping[str, float | int | bool],
    gates: Sequence[Mapping[str, Any]],
    success: bool,
    command: str,
) -> Phase5Manifest:
    """Describe everything in `out`, which must be complete but for the manifest itself."""
    files = {
        path.relative_to(out).as_posix(): digest_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != PHASE5_MANIFEST
    }
    content = {name: digest for name, digest in files.items() if name.startswith(("packed/", "fp16/"))}
    return Phase5Manifest(
        run_id=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        files=files,
        rule=str(config["rule"]),
        granularity=str(config["granularity"]),
        codec=str(config["codec"]),
        scales="packed/model.safetensors: <layer>.scale, W ~ the sum of scale * codes over the planes",
        phase3=phase3,
        metrics=dict(metrics),
        gates=tuple(dict(gate) for gate in gates),
        success=success,
        command=command,
    )


def save_phase5(out: Path, manifest: Phase5Manifest) -> None:
    """Write `manifest.json` into `out`."""
    write_json(out / PHASE5_MANIFEST, manifest.model_dump(mode="json"))


def check_phase5(out: Path) -> Phase5Manifest:
    """Read the manifest of `out` and compare the digest of every file that it lists.

    Raises:
        BitnetError: no manifest, an invalid one, or a file that is missing or altered.
    """
    file = out / PHASE5_MANIFEST
    try:
        manifest = Phase5Manifest.model_validate(read_json(file))
    except ValidationError as error:
        raise BitnetError(f"{file} is invalid at {first_complaint(error)}: compress the model again.") from None
    for name, digest in manifest.files.items():
        if digest_file(out / name) != digest:
            raise BitnetError(f"{out / name} is not the file that {file} describes: compress the model again.")
    return manifest
