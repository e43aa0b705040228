"""Several weights of one input as one call."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float, Float32
from torch import Tensor

from bitnet.errors import BitnetError
from bitnet.kernels.backends import TORCH, native
from bitnet.kernels.prepared import PreparedWeight, not_here


class PreparedWeights:
    """Weights of one input, such as those of query, key and value: one call, which quantizes the input once.

    The results are those of the weights one by one, bit for bit. A call from Python takes microseconds, more where
    weights come from memory and push the interpreter out of the caches: of a 4096 x 4096 product from there, a
    twentieth.
    """

    def __init__(self, weights: Sequence[PreparedWeight]) -> None:
        """Join `weights`, which stay usable by themselves; as many threads as the one with most of them has.

        Raises:
            BitnetError: no weight, or weights of different input widths or backends.
        """
        self.weights = tuple(weights)
        if not self.weights:
            raise BitnetError("no weights cannot be joined into one call; pass at least one.")
        if len({(weight.in_features, weight.backend) for weight in self.weights}) > 1:
            told = ", ".join(f"{weight.in_features} on {weight.backend}" for weight in self.weights)
            raise BitnetError(f"weights of one call take one input on one backend, not {told}; prepare them alike.")
        first = self.weights[0]
        self.in_features, self.backend = first.in_features, first.backend
        self.threads = max(weight.threads for weight in self.weights)
        self._try: Callable[[Any, Tensor, tuple[Tensor, ...], int], bool] = not_here
        self._natives = [] if self.backend == TORCH else [weight.native for weight in self.weights]
        module = native()
        if module is not None and self._natives:
            self._try = module.try_forward_all

    def __call__(self, x: Float[Tensor, "... in"]) -> tuple[Float[Tensor, "... out"], ...]:
        """The product with each weight, in their order; as `PreparedWeight.__call__`, and raises as it does."""
        tokens = self.weights[0].tokens(x)
        outs = tuple(tokens.new_empty(*x.shape[:-1], weight.out_features) for weight in self.weights)
        self._write(tokens, outs)
        return tuple(out.to(x.dtype) for out in outs)

    def into(self, x: Float[Tensor, "... in"], outs: Sequence[Float32[Tensor, "... out"]]) -> None:
        """The product with each weight, written into a tensor of `outs` each; they share no memory with x or another.

        Nothing is written where one of them does not fit.

        Raises:
            BitnetError: as `PreparedWeight.into`; not as many tensors as weights.
        """
        given = tuple(outs)
        if len(given) == len(self.weights) and self._try(self._natives, x, given, self.threads):
            return
        tokens = self.weights[0].tokens(x)
        if len(given) != len(self.weights):
            raise BitnetError(
                f"{len(self.weights)} products cannot be written into {len(given)} tensors; pass one for each weight."
            )
        for weight, out in zip(self.weights, given, strict=True):
            weight.check_result(tokens, out)
        self._write(tokens, given)

    def _write(self, tokens: Float32[Tensor, "... in"], outs: tuple[Float32[Tensor, "... out"], ...]) -> None:
        if self._try(self._natives, tokens, outs, self.threads):
            return
        for weight, out in zip(self.weights, outs, strict=True):
            weight.write(tokens, out)
