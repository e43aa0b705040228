"""Calibration: samples of a text, and the second moments of every layer's input while the model reads them.

For rule "optimal" they weigh the quantization error. The squared error of an output y = W x under W -> Q is
(W - Q) E[x x^T] (W - Q)^T; its diagonal part, sum_j E[x_j^2] (w_j - q_j)^2, is what one feature's error costs.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.errors import BitnetError
from bitnet.perplexity import encode


@dataclass(frozen=True)
class CalibrationReport:
    """What calibration was asked for and what the text had to give: `tokens` in all, in `used_samples` samples."""

    source: str
    requested_samples: int
    used_samples: int
    tokens: int


def calibration_samples(
    tokenizer: PreTrainedTokenizerBase, text: str, samples: int, tokens: int, seed: int
) -> Int64[Tensor, "samples tokens"]:
    """At most `samples` windows of `tokens` tokens, drawn from `text` at random and without overlap, unpadded.

    A seed gives the same windows in the same order; a text that holds fewer windows gives all of them.

    Raises:
        BitnetError: the text is too short for one window, or a number is below 1.
    """
    for name, value in (("samples", samples), ("tokens", tokens)):
        if value < 1:
            raise BitnetError(f"The calibration {name} are {value}: ask for at least 1.")
    encoded = torch.tensor(encode(tokenizer, text), dtype=torch.int64)
    windows = len(encoded) // tokens
    if windows == 0:
        raise BitnetError(
            f"The calibration text has {len(encoded)} tokens, fewer than the {tokens} of one sample: "
            "give a longer text, or lower calibration_tokens."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(windows, generator=generator)[:samples]
    return encoded[: windows * tokens].reshape(windows, tokens)[chosen]


@torch.no_grad()
def second_moments(
    model: PreTrainedModel,
    names: Sequence[str],
    samples: Int64[Tensor, "samples tokens"],
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Float32[Tensor, "in"]]:
    """E[x_j^2] over all tokens of `samples`, for each input feature j of each layer in `names`.

    Squares are summed in float64 whatever the model computes in. Layers have the features last, as `nn.Linear` and
    transformers' `Conv1D` have them. The model runs in evaluation mode, without its output head, and gets its own
    mode back. `progress` is called with the samples done and the samples in all.

    Raises:
        BitnetError: no sample, a name that is no layer of the decoder, or an input that is NaN or infinite.
    """
    if len(samples) == 0:
        raise BitnetError("There is no sample to calibrate with: give at least one.")
    decoder = model.base_model  # without the head: on a large vocabulary it costs as much as many blocks
    squares = _Squares()
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(squares.watching(name, _layer(model, name)))
        stack.enter_context(_evaluating(model))
        done = 0
        for batch in torch.split(samples, batch_size):
            decoder(input_ids=batch.to(model.device), use_cache=False)
            done += len(batch)
            if progress is not None:
                progress(done, len(samples))
    return {name: squares.mean(name) for name in names}


class _Squares:
    """Sums of squared inputs, per layer and feature, and the number of tokens that each runs over."""

    def __init__(self) -> None:
        self._sums: dict[str, Float64[Tensor, "in"]] = {}
        self._tokens: Counter[str] = Counter()
        self._latest: tuple[Tensor, Float64[Tensor, "in"]] | None = None

    @contextlib.contextmanager
    def watching(self, name: str, layer: nn.Module) -> Iterator[None]:
        """Within the block every call of `layer` is counted under `name`."""
        handle = layer.register_forward_pre_hook(lambda _, inputs: self._add(name, inputs[0]))
        try:
            yield
        finally:
            handle.remove()

    def mean(self, name: str) -> Float32[Tensor, "in"]:
        """E[x_j^2] over everything that the layer was given."""
        if name not in self._sums:
            raise BitnetError(f"Layer '{name}' takes no part in the decoder, so it cannot be calibrated.")
        return (self._sums[name] / self._tokens[name]).float()

    def _add(self, name: str, x: Float[Tensor, "... in"]) -> None:
        total = self._sum(x)
        if not torch.isfinite(total).all():
            raise BitnetError(
                f"The input of layer '{name}' is NaN or infinite during calibration: check the model's weights."
            )
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._tokens[name] += x.shape[:-1].numel()

    def _sum(self, x: Float[Tensor, "... in"]) -> Float64[Tensor, "in"]:
        """Sum of x^2 over the tokens; layers that are given one and the same tensor (q, k and v) share the work."""
        if self._latest is None or self._latest[0] is not x:
            self._latest = (x, x.flatten(end_dim=-2).double().square().sum(dim=0))
        return self._latest[1]


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise BitnetError(f"The model has no layer '{name}' to calibrate: take the names from its plan.") from None


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
