"""Phase 4 to 5: `manifest.json`, which says what an output folder holds, and the check that all of it is true."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitnet.artifacts import load_tokenizer
from bitnet.checkpoint import digest_file, read_json, write_json
from bitnet.config import Codec, Granularity, Rule
from bitnet.errors import BitnetError, first_complaint
from bitnet.handoff import Phase3Manifest, Sha256, tokenizer_digest
from bitnet.metrics import MEGABYTE
from bitnet.packed_manifest import MANIFEST, TENSORS, read_manifest
from bitnet.quality import Gate, succeeded
from bitnet.result import RESULT, GateRow, Phase4Result, load_result
from bitnet.sizes import sizes, tensor_bytes
from bitnet.verify import RECORD, verify

PHASE5_MANIFEST = "manifest.json"
PACKED, FP16 = "packed", "fp16"
SCALES: Final = (
    "packed/model.safetensors: <layer>.scale, in units of 2^<layer>.scale_exponent where that is there; "
    "W ~ the sum of scale * codes over the planes"
)
#: What every output has beside its two models.
_RECORDS: Final = (RESULT, RECORD)

_Path = Annotated[str, Field(pattern=r"^[^/\\]+(/[^/\\]+)*$")]


class Phase5Manifest(BaseModel):
    """The model that goes out. Paths are relative to the folder of the manifest, with forward slashes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    schema_version: Annotated[int, Field(ge=1, le=1)]
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """Derived from the content of both models, so that the same command gives the same one."""
    primary: Literal["fp16"]
    """The folder that Phase 5 trains on: a plain Hugging Face model."""
    packed: Literal["packed"]
    """The folder of the same model in ternary form."""
    files: dict[_Path, Sha256]
    """SHA-256 of every file but the manifest."""
    rule: Rule
    granularity: Granularity
    codec: Codec
    scales: str
    """A file, and what the scales are called in it."""
    phase3: Phase3Manifest
    """The model that it was made from, as it was handed in."""
    metrics: dict[str, bool | int | float]
    """What was measured, under the names of the trackers; what was not measured is absent."""
    gates: tuple[GateRow, ...]
    success: bool
    """Whether every gate was passed and a fresh process reproduced the logits of both models."""
    command: Annotated[str, Field(min_length=1)]
    """The shell command that made it."""

    @property
    def missed(self) -> tuple[str, ...]:
        """The names of the gates that were not passed."""
        return tuple(gate.name for gate in self.gates if not gate.passed)


def phase5_manifest(out: Path, result: Phase4Result) -> Phase5Manifest:
    """Describe everything in `out`, which must be complete but for the manifest itself."""
    files = {name: digest_file(out / name) for name in _listing(out)}
    return Phase5Manifest(
        schema_version=1,
        run_id=_run_id(files),
        primary="fp16",
        packed="packed",
        files=files,
        rule=result.config["rule"],
        granularity=result.config["granularity"],
        codec=result.config["codec"],
        scales=SCALES,
        phase3=result.phase3,
        metrics=result.metrics,
        gates=result.gates,
        success=result.success,
        command=result.command,
    )


def save_phase5(out: Path, manifest: Phase5Manifest) -> None:
    """Write `manifest.json` into `out`."""
    write_json(out / PHASE5_MANIFEST, manifest.model_dump(mode="json"))


def read_phase5(file: Path) -> Phase5Manifest:
    """The manifest in `file`; a BitnetError names the field that is missing or invalid."""
    try:
        return Phase5Manifest.model_validate_json(json.dumps(read_json(file)), strict=True)
    except ValidationError as error:
        raise BitnetError(f"{file} is invalid at {first_complaint(error)}: compress the model again.") from None


def check_phase5(out: Path) -> Phase5Manifest:
    """Read the manifest of `out`, and hold it to every file, to the record of the run and to what both models do.

    Raises:
        BitnetError: no manifest, a field that is missing, invalid or not true, a file that is missing, altered or not
            listed, a model that cannot be loaded or does not give the recorded logits; it names the field or the file.
    """
    manifest = read_phase5(out / PHASE5_MANIFEST)
    _check_files(out, manifest)
    result = load_result(out)
    for name, true in _truth(out, manifest, result).items():
        if getattr(manifest, name) != true:
            _refuse(out, name, "is not what the files hold")
    _check_gates(out, manifest, result)
    _check_metrics(out, manifest, result)
    if manifest.phase3.tokenizer_sha256 != tokenizer_digest(load_tokenizer(out / FP16)):
        _refuse(out, "phase3", f"is about another tokenizer than the one in {out / FP16}")
    _run(out)
    return manifest


def _refuse(out: Path, field: str, reason: str) -> NoReturn:
    raise BitnetError(f"'{field}' in {out / PHASE5_MANIFEST} {reason}: compress the model again.")


def _listing(out: Path) -> list[str]:
    """Every file of an output but its manifest."""
    files = (path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file())
    return [name for name in files if name != PHASE5_MANIFEST]


def _run_id(files: Mapping[str, str]) -> str:
    content = {name: digest for name, digest in files.items() if name.startswith((f"{PACKED}/", f"{FP16}/"))}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_files(out: Path, manifest: Phase5Manifest) -> None:
    """Every file that is listed is there as it was, and the models' folders hold no other."""
    for name in (*_RECORDS, f"{PACKED}/{MANIFEST}", f"{PACKED}/{TENSORS}", f"{FP16}/config.json"):
        if name not in manifest.files:
            _refuse(out, "files", f"does not list {name}")
    for entry in out.rglob("*"):
        if not entry.resolve().is_relative_to(out.resolve()):
            raise BitnetError(f"{entry} is a link that leads out of {out}: put the file itself there.")
    for name, digest in manifest.files.items():
        if ".." in Path(name).parts:
            _refuse(out, "files", f"lists {name}, which is elsewhere")
        if digest_file(out / name) != digest:
            _refuse(out, "files", f"has another digest than {out / name}")
    for name in _listing(out):
        if name not in manifest.files and name.startswith((f"{PACKED}/", f"{FP16}/")):
            raise BitnetError(f"{out / name} is not among the 'files' of {out / PHASE5_MANIFEST}: remove it.")


def _truth(out: Path, manifest: Phase5Manifest, result: Phase4Result) -> dict[str, Any]:
    """What the fields of the manifest must be, by the files and by the record of the run."""
    packed = read_manifest(out / PACKED)
    stored = tensor_bytes(out / PACKED / TENSORS)
    return {
        "run_id": _run_id(manifest.files),
        "scales": SCALES if all(f"{layer.name}.scale" in stored for layer in packed.layers) else None,
        **{name: getattr(packed.quantization, name) for name in ("rule", "granularity", "codec")},
        **{name: getattr(result, name) for name in ("phase3", "metrics", "gates", "success", "command")},
    }


def _check_gates(out: Path, manifest: Phase5Manifest, result: Phase4Result) -> None:
    """Each gate was decided by its own figure, and success by the gates."""
    gates = [Gate(gate.name, gate.measured, gate.limit, gate.comparison, gate.explanation) for gate in manifest.gates]
    if [gate.passed for gate in gates] != [gate.passed for gate in manifest.gates]:
        _refuse(out, "gates", "has an outcome that does not follow from its figure")
    if manifest.success != succeeded(gates, result.verification.reproduced):
        _refuse(out, "success", "does not follow from the gates and the verification")


def _check_metrics(out: Path, manifest: Phase5Manifest, result: Phase4Result) -> None:
    """What the metrics say about the files is what the files hold."""
    counted = sizes(result.parameters, out / PACKED, out / FP16)
    true = {
        "original_size_mb": counted.fp32_bytes / MEGABYTE,
        "compressed_size_mb": counted.packed_bytes / MEGABYTE,
        "ratio": counted.compression_ratio,
        "quantized_params": counted.quantized_weights,
    }
    for name, value in true.items():
        if manifest.metrics.get(f"compression/{name}") != value:
            _refuse(out, "metrics", f"is wrong at compression/{name}, which is {value}")


def _run(out: Path) -> None:
    """Load both models and let them give their logits."""
    found = verify(out)
    for folder, difference, identical in (
        (PACKED, found.packed_difference, found.packed_identical),
        (FP16, found.fp16_difference, found.fp16_identical),
    ):
        if not (identical and difference <= found.tolerance):
            raise BitnetError(
                f"The model in {out / folder} does not give the logits recorded in {out / RECORD} (relative difference "
                f"{difference:.1e}): compress the model again."
            )
