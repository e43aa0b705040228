"""Opponents of a product with one ternary weight: what torch offers, and the frame that every arm is put into."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import nn

from harness.opponents import OpponentAbsent
from harness.subject import MultipliesTernary, QuantizedWeight

if TYPE_CHECKING:
    from jaxtyping import Float, Float32
    from torch import Tensor

INT8_ENGINES: Final = ("fbgemm", "onednn")


@dataclass(frozen=True)
class Prepared:
    """Weights made ready: `run` does all products once, `output` gives the first weight's, to be compared."""

    run: Callable[[], object]
    output: Callable[[], Float[Tensor, "tokens out"]]


class Product(Protocol):
    """One way to multiply; `bits` are those of one stored weight, so that arms can be given equally many bytes."""

    @property
    def name(self) -> str:
        """As it stands in tables."""
        ...

    @property
    def bits(self) -> float:
        """Of one stored weight."""
        ...

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """So many products with `x`, the weights taken in turn; raises OpponentAbsent where it cannot run."""
        ...


@dataclass(frozen=True)
class SubjectProduct:
    """The subject's own, with its best backend."""

    subject: MultipliesTernary
    name: str = "subject"
    bits: float = 2.0

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """As `Product.prepare`."""
        return in_turn([self.subject.prepare_product([weight]) for weight in weights], x, products)


@dataclass(frozen=True)
class FloatProduct:
    """`torch.nn.Linear` on the dequantized weight, the activations given in its own dtype."""

    dtype: torch.dtype

    @property
    def name(self) -> str:
        """Such as "torch bfloat16"."""
        return str(self.dtype).replace(".", " ")

    @property
    def bits(self) -> float:
        """Those of the dtype."""
        return 8.0 * self.dtype.itemsize

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """As `Product.prepare`."""
        return in_turn([linear(weight).to(self.dtype) for weight in weights], x.to(self.dtype), products)


@dataclass(frozen=True)
class DynamicInt8Product:
    """torch's dynamic int8: 8-bit weights, activations quantized on the way; `engine` does the work."""

    engine: str
    bits: float = 8.0

    @property
    def name(self) -> str:
        """Such as "torch int8 (fbgemm)"."""
        return f"torch int8 ({self.engine})"

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """As `Product.prepare`."""
        if self.engine not in torch.backends.quantized.supported_engines:
            raise OpponentAbsent(f"{self.name} is absent: this build of torch has no engine of that name")
        return in_turn([self._quantized(weight) for weight in weights], x, products)

    def _quantized(self, weight: QuantizedWeight) -> nn.Module:
        before = torch.backends.quantized.engine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its own int8 layers deprecated
            torch.backends.quantized.engine = self.engine
            try:
                quantized: Any = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                    nn.Sequential(linear(weight)), {nn.Linear}, dtype=torch.qint8
                )
            finally:
                torch.backends.quantized.engine = before
        return quantized[0]  # type: ignore[no-any-return]


def torch_products() -> tuple[Product, ...]:
    """Every product that torch offers."""
    floats = tuple(FloatProduct(dtype) for dtype in (torch.float32, torch.bfloat16))
    return (*floats, *(DynamicInt8Product(engine) for engine in INT8_ENGINES))


def linear(weight: QuantizedWeight) -> nn.Linear:
    """The float32 layer that a weight stands for."""
    rows, width = weight.codes.shape
    layer = nn.Linear(width, rows, bias=False, device="meta").requires_grad_(False)
    layer.weight = nn.Parameter(dense(weight), requires_grad=False)
    return layer.eval()


def dense(weight: QuantizedWeight) -> Float32[Tensor, "out in"]:
    """scale * codes in float32."""
    size = weight.group_size or weight.codes.shape[1]
    scale = weight.scale.repeat_interleave(size, dim=1)[:, : weight.codes.shape[1]]
    return weight.codes.float() * scale


def in_turn(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor, products: int) -> Prepared:
    """Layers that are called one after the other until there have been so many products."""

    def run() -> None:
        with torch.inference_mode():
            for layer in _cycle(layers, products):
                layer(x)

    def output() -> Tensor:
        with torch.inference_mode():
            return layers[0](x).float()

    return Prepared(run, output)


def _cycle(layers: Sequence[Callable[[Tensor], Tensor]], products: int) -> Iterator[Callable[[Tensor], Tensor]]:
    return itertools.islice(itertools.cycle(layers), products)
