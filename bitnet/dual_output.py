"""Do the two artefacts, packed and FP16, hold the same model? Measured on what is on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.artifacts import load_packed
from bitnet.compressed_model import CompressedModel, matrix
from bitnet.huggingface import load_folder
from bitnet.lending import lent
from bitnet.streamed_folder import load_streamed

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DualOutput:
    """Comparison of the artefacts.

    `equal` of `weights` parameters of the FP16 artefact are bit for bit half(x), where x is scale * codes in quantized
    layers and the stored value elsewhere. `agreement` and `agreement_int8` are the fractions of `positions` where both
    choose the same next token, the packed model reading its activations in floating point and as int8; the second is
    None for a model without int8 activations. `nonfinite` counts NaN and infinite values in both artefacts' weights
    and logits.
    """

    weights: int
    equal: int
    positions: int
    agreement: float
    agreement_int8: float | None
    nonfinite: int

    @property
    def equal_fraction(self) -> float:
        """Fraction of the parameters that are equal."""
        return self.equal / self.weights


def compare(
    packed: Path,
    fp16: Path,
    tokens: Int64[Tensor, "windows length"],
    progress: Progress | None = None,
    streamed: bool = False,
) -> DualOutput:
    """Load both artefacts and compare them, on the windows of `tokens` where it is about predictions.

    Both run in float32 arithmetic, so that differences come from the weights and not from the order of half-precision
    sums. `progress` is called with windows done and windows in all. `streamed`: no more of the two models is held than
    runs at the moment.
    """
    compressed, _ = load_packed(packed, streamed)
    plain, _ = load_fp16(fp16, streamed)
    equal, weights, nonfinite = _compare_weights(compressed, plain)
    int8 = compressed.config.activation_bits is not None
    same = same_int8 = 0
    for done, window in enumerate(torch.split(tokens, 1), start=1):
        reference, unsound = _predictions(plain, window)
        nonfinite += unsound
        with compressed.activations(None):
            predicted, unsound = _predictions(compressed.model, window)
        same += int((predicted == reference).sum())
        nonfinite += unsound
        if int8:
            predicted, unsound = _predictions(compressed.model, window)
            same_int8 += int((predicted == reference).sum())
            nonfinite += unsound
        if progress is not None:
            progress(done, len(tokens))
    positions = tokens.numel()
    agreement_int8 = same_int8 / positions if int8 else None
    return DualOutput(weights, equal, positions, same / positions, agreement_int8, nonfinite)


def load_fp16(directory: Path, streamed: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The FP16 artefact and its tokenizer by transformers alone, its float16 weights widened to float32.

    Raises:
        BitnetError: the folder cannot be loaded, or weights are missing or left over.
    """
    return load_streamed(directory) if streamed else load_folder(directory, torch.float32)


def windows(tokens: list[int], length: int, limit: int) -> Int64[Tensor, "windows length"]:
    """The first tokens of a text as windows of equal length, `limit` tokens at most; one shorter window if need be."""
    length = min(length, len(tokens), limit)
    count = min(len(tokens), limit) // length
    return torch.tensor(tokens[: count * length], dtype=torch.int64).reshape(count, length)


def _compare_weights(compressed: CompressedModel, plain: PreTrainedModel) -> tuple[int, int, int]:
    """(equal, all, non-finite) over the parameters of the plain model, float32 copies of float16 values."""
    equal = total = nonfinite = 0
    for decision in compressed.plan:
        module = plain.get_submodule(decision.name)
        own = compressed.model.get_submodule(decision.name)
        with lent(module), lent(own):
            for key, value in module.named_parameters(recurse=False):
                if decision.quantized and key == "weight":
                    value = matrix(module)
                    stored = compressed.layers[decision.name].ternary().dequantize(torch.float32)
                else:
                    stored = getattr(own, key)
                equal += int((stored.half().float() == value).sum())
                total += value.numel()
                nonfinite += _nonfinite(stored) + _nonfinite(value)
    return equal, total, nonfinite


@torch.no_grad()
def _predictions(model: PreTrainedModel, window: Int64[Tensor, "1 length"]) -> tuple[Int64[Tensor, "1 length"], int]:
    """The likeliest next tokens, and how many logits are NaN or infinite; the logits themselves are large."""
    logits: Tensor = model(input_ids=window, use_cache=False).logits
    return logits.argmax(-1), _nonfinite(logits)


def _nonfinite(values: Tensor) -> int:
    if bool(torch.isfinite(torch.stack(torch.aminmax(values))).all()):  # the usual case, without a copy of the values
        return 0
    return values.numel() - int(torch.isfinite(values).sum())
