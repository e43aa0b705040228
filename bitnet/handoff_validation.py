"""`bitnet validate`: open, digest and run what one phase hands to the next, on either side of Phase 4."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.architectures import layer_plan
from bitnet.checkpoint import digest_file
from bitnet.errors import BitnetError
from bitnet.handoff import phase3_manifest
from bitnet.handoff_phase5 import FP16, PACKED, PHASE5_MANIFEST, check_phase5
from bitnet.models import check_weights, load_model
from bitnet.packed_manifest import is_packed
from bitnet.perplexity import encode
from bitnet.result import RESULT, Record

#: What a model that comes in is run on.
PROBE = "The model is asked for the logits of this sentence, and all of them must be finite."


class Validation(Record):
    """What was found to be in order. `success` and `missed` are of the gates of an output, else None and empty.

    `files` has the SHA-256 of every file; `checks` tells in words what was done.
    """

    handoff: Literal["phase3", "phase5"]
    path: str
    run_id: str | None
    success: bool | None
    missed: tuple[str, ...]
    checks: tuple[str, ...]
    files: dict[str, str]
    manifest: dict[str, Any]


def validate(source: str) -> Validation:
    """Hold a model that comes in, or the output of a compression, to its manifest; which it is shows by itself.

    Args:
        source: an output folder, or a model as `bitnet.models.load_model` takes it.

    Raises:
        BitnetError: naming the field or the file that is missing or wrong.
    """
    path = Path(source)
    if is_packed(path):
        raise BitnetError(f"{source} is one of the two models of an output: give the folder that it is in.")
    parts = (PHASE5_MANIFEST, RESULT, PACKED, FP16)
    if not (path / "config.json").exists() and any((path / part).exists() for part in parts):
        return validate_output(path)
    return validate_input(source)


def validate_output(out: Path) -> Validation:
    """The output folder of a compression, as Phase 5 receives it; raises as `check_phase5`."""
    manifest = check_phase5(out)
    return Validation(
        handoff="phase5",
        path=str(out),
        run_id=manifest.run_id,
        success=manifest.success,
        missed=manifest.missed,
        checks=(
            f"{len(manifest.files)} files have the digests of the manifest",
            "every field of the manifest agrees with the files and with the record of the run",
            "both models were loaded, hold the recorded weights and give the recorded logits",
        ),
        files=manifest.files,
        manifest=manifest.model_dump(mode="json"),
    )


def validate_input(source: str) -> Validation:
    """A model as Phase 4 receives it.

    Raises:
        BitnetError: the model cannot be loaded, compressed or run, or its manifest is missing a field or wrong in one.
    """
    loaded = load_model(source)
    if loaded.kind == "packed":
        raise BitnetError(f"{source} is compressed already: give the full-precision model.")
    manifest = phase3_manifest(source, loaded.path, loaded.tokenizer)
    layers = sum(decision.quantized for decision in layer_plan(loaded.model))
    check_weights(loaded.model)
    _probe(source, loaded.model, loaded.tokenizer)
    origin = "no manifest came with the model, so one was made up" if manifest.synthesised else "the manifest is right"
    return Validation(
        handoff="phase3",
        path=source,
        run_id=None,
        success=None,
        missed=(),
        checks=(
            f"{origin}: {manifest.vocabulary_size} tokens, SHA-256 {manifest.tokenizer_sha256[:16]}...",
            f"every weight is finite, and {layers} layers can be quantized",
            "the model was run, and its logits are finite",
        ),
        files=_digests(loaded.path),
        manifest=manifest.model_dump(mode="json"),
    )


@torch.no_grad()
def _probe(source: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise BitnetError(
            f"The tokenizer of {source} has {len(tokenizer)} tokens, but the model has embeddings for {rows}: "
            "give the tokenizer that it was trained with."
        )
    tokens = torch.tensor([encode(tokenizer, PROBE)[: model.config.max_position_embeddings]])
    if not torch.isfinite(model(input_ids=tokens, use_cache=False).logits).all():
        raise BitnetError(f"The model {source} gives logits that are NaN or infinite: give one that works.")


def _digests(path: Path) -> dict[str, str]:
    if path.is_file():
        return {path.name: digest_file(path)}
    return {file.name: digest_file(file) for file in sorted(path.iterdir()) if file.is_file()}
