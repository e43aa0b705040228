"""Phase 3 to 4: what the model that comes in must say about itself in `phase3.json`, and the check that it is true."""

import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from bitnet.checkpoint import read_json
from bitnet.errors import BitnetError, first_complaint

PHASE3_MANIFEST = "phase3.json"
#: A model that thinks declares so many tokens at least.
THINKING_TOKENS = 8

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _distinct(tokens: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(tokens)) < len(tokens):
        raise ValueError("the same token twice")
    return tokens


_ThinkingTokens = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=THINKING_TOKENS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]


class Phase3Manifest(BaseModel):
    """The model that comes in. Only `thinking_tokens` may be left out by a model that has none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    model_path: Annotated[str, Field(min_length=1)]
    """Where Phase 3 has the model."""
    tokenizer_sha256: Sha256
    """SHA-256 of Python's json.dumps(sorted(vocabulary.items())), as `bitnet validate --json` shows it."""
    vocabulary_size: Annotated[int, Field(ge=1)]
    """Tokens of the tokenizer, the added ones among them."""
    thinking_tokens: _ThinkingTokens | None = None
    """Tokens between which the model thinks, all of them known to the tokenizer."""
    strategy_accuracies: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]]
    """Accuracy of each reasoning strategy, as a fraction."""
    anti_theater: dict[str, bool]
    """Outcome of each test that the reasoning is no mere show."""
    metrics: dict[str, float]
    """Whatever else Phase 3 measured."""
    synthesised: bool = False
    """Made up by Phase 4 for a model that came without a manifest; never true in a file."""


def phase3_manifest(source: str, path: Path, tokenizer: PreTrainedTokenizerBase) -> Phase3Manifest:
    """The manifest of a model's folder, or one synthesised from its tokenizer where there is none.

    Args:
        source: the model as the user named it.
        path: where it was loaded from.

    Raises:
        BitnetError: a manifest with a missing or invalid field, or one about another tokenizer; it names the field.
    """
    digest, size = tokenizer_digest(tokenizer), len(tokenizer)
    file = path / PHASE3_MANIFEST
    if not file.is_file():
        return Phase3Manifest(
            model_path=source,
            tokenizer_sha256=digest,
            vocabulary_size=size,
            strategy_accuracies={},
            anti_theater={},
            metrics={},
            synthesised=True,
        )
    manifest = _read(file)
    if manifest.vocabulary_size != size:
        told = f"'vocabulary_size' is {manifest.vocabulary_size}, but the tokenizer in {path} has {size} tokens"
        raise BitnetError(f"{file} is about another tokenizer: {told}: write the manifest again.")
    if manifest.tokenizer_sha256 != digest:
        told = f"'tokenizer_sha256' is not that of the tokenizer in {path} ({digest})"
        raise BitnetError(f"{file} is about another tokenizer: {told}: write the manifest again.")
    missing = sorted(set(manifest.thinking_tokens or ()) - set(tokenizer.get_vocab()))
    if missing:
        raise BitnetError(
            f"{file} declares '{missing[0]}' among its 'thinking_tokens', but the tokenizer in {path} does not know "
            "it: save the tokenizer that has it."
        )
    return manifest


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the tokenizer's vocabulary, as JSON sorted by token: the same wherever the tokenizer is stored."""
    text = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> Phase3Manifest:
    record = read_json(file)
    if isinstance(record, dict) and record.get("synthesised", False) is not False:
        raise BitnetError(f"{file} is invalid at 'synthesised': only Phase 4 makes manifests up, so leave it out.")
    try:
        return Phase3Manifest.model_validate_json(
            json.dumps(record), strict=True
        )  # JSON's lists are tuples, also in strict mode
    except ValidationError as error:
        raise BitnetError(f"{file} is invalid at {first_complaint(error)}: write it again.") from None
