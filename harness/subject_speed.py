"""The capabilities whose speed is measured: products of ternary weights, and decoding of packed folders.

A subject that offers one of them is held to the opponents of `harness.opponents`, whatever it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.subject_records import JSON, QuantizedWeight

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8, Int32
    from torch import Tensor


class GivenWeights(Protocol):
    """The weights of a model, by the name of the layer and its shape, [out, in]; the same ones each time."""

    def ternary(self, layer: str, shape: tuple[int, int]) -> QuantizedWeight:
        """The weight of a quantized layer, with one scale for the whole of it."""
        ...

    def table(self, layer: str, shape: tuple[int, int]) -> Float32[Tensor, "rows columns"]:
        """An embedding or an output head."""
        ...

    def vector(self, layer: str, size: int) -> Float32[Tensor, " size"]:
        """The weight of a norm."""
        ...


@runtime_checkable
class PreparedProduct(Protocol):
    """A ternary weight made ready for use: sum_p scale_p * codes_p, and a bias, as a function of activations."""

    @property
    def backend(self) -> str:
        """The name of the code that really runs."""
        ...

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product with float activations, which are quantized to integers token by token.

        Raises on another number of features. A token with NaN or infinity raises or gives NaN throughout, and leaves
        the tokens beside it alone.
        """
        ...

    def accumulate(self, codes: Int8[Tensor, "tokens in"]) -> Int32[Tensor, "tokens planes groups out"]:
        """The exact integer sums behind the product, of codes within -127..127; raises on another shape or dtype."""
        ...


@runtime_checkable
class WritesProduct(Protocol):
    """A prepared product that needs no new tensor for its result; an option."""

    def into(self, x: Float32[Tensor, "... in"], out: Float32[Tensor, "... out"]) -> object:
        """The product of a call, written into `out`, which is contiguous; raises where that does not fit."""
        ...


@runtime_checkable
class MultipliesTernary(Protocol):
    """Multiplies by ternary weights without unpacking them to floating point."""

    @property
    def product_backends(self) -> tuple[str, ...]:
        """The names of the ways in which it can do so on this machine, the best first."""
        ...

    def prepare_product(
        self, planes: Sequence[QuantizedWeight], bias: Float[Tensor, " out"] | None = None, backend: str | None = None
    ) -> PreparedProduct:
        """Prepare a weight of one or more planes of one shape; None takes the best backend that fits.

        Raises on no plane, on planes or a bias that do not fit together and on an unknown backend.
        """
        ...


class JoinedProducts(Protocol):
    """Several prepared products of one input as one call."""

    def into(self, x: Float32[Tensor, "... in"], outs: Sequence[Float32[Tensor, "... out"]]) -> object:
        """Each product of a call, written into a contiguous tensor of its own; raises where x or one of them does not
        fit, or where there are not as many as products."""
        ...


@runtime_checkable
class JoinsProducts(Protocol):
    """Does several products of one input in one call, as those with query, key and value are; an option."""

    def join_products(self, products: Sequence[PreparedProduct]) -> JoinedProducts:
        """Join products of `prepare_product`; each result is that of the product by itself.

        Raises on no product and on products of different input widths.
        """
        ...


@runtime_checkable
class PackedDecoder(Protocol):
    """A packed model that is open, and the sequence that it has seen so far."""

    @property
    def backend(self) -> str:
        """The name of the code that really runs."""
        ...

    def reset(self) -> None:
        """Forget the sequence."""
        ...

    def forward(self, tokens: Sequence[int]) -> Float32[Tensor, " vocabulary"]:
        """Continue the sequence with tokens and return the logits behind the last of them.

        Raises on no token and on one outside the vocabulary.
        """
        ...

    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """Continue the sequence with tokens and return the logits behind each of them."""
        ...


@runtime_checkable
class StepsGreedily(Protocol):
    """A decoder that finds the likeliest token itself, without handing out the logits of all; an option."""

    def next(self, tokens: Sequence[int]) -> int:
        """Continue the sequence with tokens and return the likeliest one after them."""
        ...


@runtime_checkable
class RunsLayers(Protocol):
    """A decoder that can be taken apart, so that each part is compared on an input of its own; an option.

    What was seen of a sequence before may be forgotten.
    """

    @property
    def layers(self) -> int:
        """How many there are."""
        ...

    def embed(self, tokens: Sequence[int]) -> Float32[Tensor, "length hidden"]:
        """The hidden states that the first layer is given."""
        ...

    def layer(self, index: int, hidden: Float32[Tensor, "length hidden"]) -> Float32[Tensor, "length hidden"]:
        """What one layer, counted from 0, makes of the hidden states of a new sequence."""
        ...

    def head(self, hidden: Float32[Tensor, "length hidden"]) -> Float32[Tensor, "length vocabulary"]:
        """The logits of what the last layer made, its norm included."""
        ...


@runtime_checkable
class DecodesPacked(Protocol):
    """Runs a packed artefact as it lies on disk, without loading it into another library's model."""

    def open_decoder(self, path: Path) -> PackedDecoder:
        """Open the packed artefact of a compression, on one thread; raises on a folder that is not one."""
        ...


@runtime_checkable
class WritesPacked(Protocol):
    """Writes a packed artefact of given ternary weights, so that speed can be measured at sizes that nobody trained."""

    def write_packed(self, config: Mapping[str, JSON], weights: GivenWeights, out: Path) -> None:
        """Write a Llama model of that configuration (config.json of transformers) into `out`, which does not exist.

        Tables are stored in 8 bits. The weights are asked for one layer after another, so that no model
        needs to fit into memory in full precision.
        """
        ...
