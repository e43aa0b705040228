"""What recovery reads: samples to train on, other text to select the weights by, and what tells its run from others.

Weights are selected by text that nothing was fitted to. That is text which the full-precision model samples: its
cross-entropy is the model's own entropy plus the divergence that recovery is to close. A part of the calibration text
would prefer weights that have kept what the full-precision model knows by heart, where it was trained on that text:
compressed weights remember some of it, and forget it in a training that does not show it again.

But where compensation has read text of the model's own, that is what the weights were fitted to: on SmolLM2-135M at 4
bits, 94 steps took the divergence from 0.24 to 0.14 nats on documentation and from 0.29 to 0.24 on prose, neither of
which they had read, and changed it by nothing on the model's own text. There windows of the calibration text are kept
from training, and select, but for those that compensation has read as well.
"""

import hashlib

import torch
from jaxtyping import Int64
from torch import Tensor

from bitnet.calibration import calibration_samples
from bitnet.compressed_model import CompressedModel
from bitnet.fine_tuner import computes_in_bfloat16
from bitnet.perplexity import encode
from bitnet.phase_state import Calibration, Run
from bitnet.self_text import sample_sequences

#: Samples for selection and their length: selection costs time.
SELECTION_SAMPLES, SELECTION_TOKENS = 16, 128
#: Of the windows to train on, one in so many may be kept for selection.
KEPT_SHARE = 5
#: As many tokens in a row are no coincidence.
OVERLAP_TOKENS = 16


def recovery_samples(
    run: Run, calibration: Calibration
) -> tuple[Int64[Tensor, "samples tokens"], Int64[Tensor, "samples tokens"]]:
    """Samples to train on, and to select by; the latter, maybe none, neither training nor compression has read."""
    training, read = _training_samples(run, calibration), calibration.compensation
    if read is not None and read.written and calibration.reconstruction is None:
        windows = min(-(-SELECTION_SAMPLES * SELECTION_TOKENS // training.shape[1]), len(training) // KEPT_SHARE)
        kept = _parts(training[len(training) - windows :])
        kept = kept[[not _overlaps(read.tokens, part) for part in kept]]
        if len(kept):
            return training[:-windows], kept
    return training, _own_text(run, training, calibration)


def _training_samples(run: Run, calibration: Calibration) -> Int64[Tensor, "samples tokens"]:
    """Windows of the calibration text, as many tokens in all as calibration has read.

    They have `fine_tune_tokens` tokens, or as many as the model has positions. A text that is too short for one window
    gives the samples of calibration.
    """
    config, content = run.config, run.calibration_text.content
    tokens = min(config.fine_tune_tokens, int(run.loaded.model.config.max_position_embeddings))
    if tokens == config.calibration_tokens or len(encode(run.loaded.tokenizer, content)) < tokens:
        return calibration.samples
    count = max(1, calibration.samples.numel() // tokens)
    return calibration_samples(run.loaded.tokenizer, content, count, tokens, config.seed)


def _parts(windows: Int64[Tensor, "windows tokens"]) -> Int64[Tensor, "samples tokens"]:
    """The windows in parts of `SELECTION_TOKENS` tokens, whole ones alone; shorter windows as they are."""
    tokens = min(windows.shape[1], SELECTION_TOKENS)
    return windows[:, : windows.shape[1] // tokens * tokens].reshape(-1, tokens)


def _overlaps(read: Int64[Tensor, "samples length"], part: Int64[Tensor, " tokens"]) -> bool:
    """Whether one of the samples has a stretch of text in common with a shorter part: its beginning or its end."""
    size = min(OVERLAP_TOKENS, len(part), read.shape[1])
    stretches = read.unfold(1, size, 1)
    return any(bool((stretches == probe).all(dim=2).any()) for probe in (part[:size], part[-size:]))


def _own_text(
    run: Run, training: Int64[Tensor, "samples tokens"], calibration: Calibration
) -> Int64[Tensor, "samples tokens"]:
    """Text that the full-precision model has sampled, without what training or calibration has read, by hash."""
    tokens = min(training.shape[1], SELECTION_TOKENS)
    seed = (run.config.seed + 1) % 2**32  # the seed itself may have given the text for calibration
    drawn = sample_sequences(run.loaded.model, run.loaded.tokenizer, SELECTION_SAMPLES, tokens, seed)
    seen = {_digest(window[:tokens]) for samples in (training, calibration.samples) for window in samples}
    return drawn[[_digest(window) not in seen for window in drawn]]


def recovery_key(
    trainable: CompressedModel,
    training: Int64[Tensor, "samples tokens"],
    selection: Int64[Tensor, "samples tokens"],
) -> str:
    """A digest of everything that decides what recovery does: weights, settings, data and the version of torch."""
    settings = trainable.config.model_dump_json()
    parts = [settings.encode(), torch.__version__.encode(), str(computes_in_bfloat16(trainable.config)).encode()]
    for tensor in (*trainable.model.state_dict().values(), training, selection):
        parts.append(_digest(tensor.detach()).encode())
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _digest(tensor: Tensor) -> str:
    content = tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()
