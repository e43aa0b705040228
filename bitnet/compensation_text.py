"""What compensation reads: text given by the user, text that the full-precision model writes, or the default text."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor

from bitnet.builtin import cache_directory
from bitnet.calibration import calibration_samples
from bitnet.checkpoint import atomic_file
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.models import LoadedModel
from bitnet.perplexity import prefix_token
from bitnet.self_text import sample_sequences
from bitnet.verify import weights_digest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CompensationText:
    """Tokens and where they come from; `reason` says why it is not what was asked for, None where it is.

    `written`: by the model itself.
    """

    tokens: Int64[Tensor, "samples tokens"]
    source: str
    reason: str | None = None
    written: bool = False


def compensation_text(
    loaded: LoadedModel, config: Phase4Config, text: str, source: str, progress: Progress | None = None
) -> CompensationText:
    """`compensation_samples` texts of at most `compensation_tokens` tokens, each as evaluation begins its windows.

    Args:
        text: what is read where the user gave it, asked for it, or the model writes nothing of use.
        source: what `text` is called.

    Raises:
        BitnetError: the text is too short for one sample.
    """
    length = min(config.compensation_tokens, int(loaded.model.config.max_position_embeddings))
    samples, reason = config.compensation_samples, None
    asked = "text" if config.calibration_text is not None else config.compensation_source
    own = {"model": samples, "text": 0, "both": -(-samples // 2)}[asked]
    written = []
    if own:
        try:
            written = [_written(loaded, own, length, config.seed, progress)]
        except BitnetError as error:
            own, reason = 0, str(error)
    if own == samples:
        return written[0]
    read = CompensationText(_read(loaded, text, samples - own, length, config.seed), source, reason)
    return _joined(written[0], read) if written else read


def _joined(written: CompensationText, read: CompensationText) -> CompensationText:
    tokens = torch.cat([written.tokens, read.tokens])
    return CompensationText(tokens, f"{written.source}, and {read.source}", read.reason, written=True)


def reconstruction_text(
    loaded: LoadedModel, config: Phase4Config, text: str, read: CompensationText
) -> Int64[Tensor, "samples tokens"]:
    """What compensation has `read`, and `reconstruction_samples` windows of `text` as long as that.

    Raises:
        BitnetError: the text is too short for one window.
    """
    seed = (config.seed + 1) % 2**32  # compensation may have drawn from the same text
    more = _read(loaded, text, config.reconstruction_samples, read.tokens.shape[1], seed)
    return torch.cat([read.tokens, more])


def _read(loaded: LoadedModel, text: str, samples: int, length: int, seed: int) -> Int64[Tensor, "samples length"]:
    tokens = calibration_samples(loaded.tokenizer, text, samples, length - 1, seed)
    return torch.nn.functional.pad(tokens, (1, 0), value=prefix_token(loaded.tokenizer))


def _written(loaded: LoadedModel, samples: int, length: int, seed: int, progress: Progress | None) -> CompensationText:
    """Text of the model's own, from the cache where the same weights have written it before."""
    parts = (weights_digest(loaded.model), samples, length, seed, torch.__version__)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    path = cache_directory() / "written" / f"{key}.safetensors"
    source = f"written by the model itself (seed {seed})"
    if path.is_file():
        return CompensationText(load_file(path)["tokens"], source, written=True)
    tokens = sample_sequences(loaded.model, loaded.tokenizer, samples, length, seed, progress)
    with atomic_file(path) as temporary:
        save_file({"tokens": tokens.contiguous()}, temporary, metadata={"source": loaded.source, "seed": str(seed)})
    return CompensationText(tokens, source, written=True)
