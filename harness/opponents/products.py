"""Opponents of a product with one ternary weight: what torch offers, and the frame that every arm is put into.

Every arm runs by the shortest way that its interface has, below modules: torch and the subject through one call from
Python for each product, into a result that is there already where the call takes one; ggml through one call for a
graph of them, and so the subject beside it, where it has such a call. All of a product is timed, the quantization of
its activations included, and so is that call.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import nn

from harness.opponents import OpponentAbsent
from harness.subject import JoinsProducts, MultipliesTernary, PreparedProduct, QuantizedWeight, WritesProduct

if TYPE_CHECKING:
    from jaxtyping import Float, Float32
    from torch import Tensor

INT8_ENGINES: Final = ("fbgemm", "onednn")
INTO: Final = "a call from Python each, into one result"
TOGETHER: Final = "one call for all of them, which quantizes the activations once, into a result each"


@dataclass(frozen=True)
class Prepared:
    """Weights made ready: `run` does the next products, `output` gives the first weight's, to be compared, or all
    where one call does them all.

    `once` does one product, so that a weight is in the caches before a run is timed.
    """

    run: Callable[[], object]
    output: Callable[[], Float[Tensor, "*several tokens out"]]
    once: Callable[[], object]
    way: str
    """How the products are called, in words."""


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
        """A run of so many products with `x`, the weights taken in turn from run to run.

        Raises OpponentAbsent where it cannot run.
        """
        ...


@dataclass(frozen=True)
class SubjectProduct:
    """The subject's own, with its best backend; `together`: all products of a run in one call, where it has one."""

    subject: MultipliesTernary
    together: bool = False
    name: str = "subject"
    bits: float = 2.0

    def prepare(self, weights: Sequence[QuantizedWeight], x: Float32[Tensor, "tokens in"], products: int) -> Prepared:
        """As `Product.prepare`."""
        made = [self.subject.prepare_product([weight]) for weight in weights]
        if self.together and isinstance(self.subject, JoinsProducts):
            return joined(self.subject, made, x, products, len(weights[0].codes))
        out = torch.empty(len(x), len(weights[0].codes))
        written = [partial(each.into, out=out) for each in made if isinstance(each, WritesProduct)]
        if len(written) < len(made):
            return in_turn(made, x, products, "a call from Python each")
        return in_turn(written, x, products, INTO, out)


@dataclass(frozen=True)
class FloatProduct:
    """`torch.mm` with the dequantized weight, the activations given in its own dtype."""

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
        out = torch.empty(len(x), len(weights[0].codes), dtype=self.dtype)
        made = [partial(torch.mm, mat2=dense(weight).to(self.dtype).T, out=out) for weight in weights]
        return in_turn(made, x.to(self.dtype), products, INTO, out)


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
        made = [_Quantized(self._packed(weight)) for weight in weights]
        return in_turn(made, x, products, "a call of quantized::linear_dynamic from Python each")

    def _packed(self, weight: QuantizedWeight) -> Any:
        """The weight as the engine's own layer packs it."""
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
        return quantized[0]._packed_params._packed_params


@dataclass(frozen=True)
class _Quantized:
    """What `torch.ao.nn.quantized.dynamic.Linear` calls, without the module."""

    packed: Any

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = torch.ops.quantized.linear_dynamic.default(x, self.packed, True)
        return result


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


def in_turn(
    layers: Sequence[Callable[[Tensor], object]], x: Tensor, products: int, way: str, out: Tensor | None = None
) -> Prepared:
    """Layers that are called one after the other; a run of so many products goes on where the last one ended.

    `out` is where they leave their results, if they do not return them.
    """
    turn = itertools.cycle(layers)

    def run() -> None:
        with torch.inference_mode():
            for layer in itertools.islice(turn, products):
                layer(x)

    def output() -> Tensor:
        with torch.inference_mode():
            result: Any = layers[0](x)
            return (result if out is None else out).float()

    return Prepared(run, output, output, way)


def joined(
    subject: JoinsProducts, made: Sequence[PreparedProduct], x: Float32[Tensor, "tokens in"], products: int, rows: int
) -> Prepared:
    """Runs of one call each; like those of `in_turn`, a run goes on where the last one ended."""
    runs = -(-len(made) // products)
    places = [range(start, start + products) for start in range(0, runs * products, products)]
    outs = torch.empty(products, len(x), rows)
    results = outs.unbind()
    calls = [subject.join_products([made[place % len(made)] for place in run]).into for run in places]
    in_one = in_turn([partial(call, outs=results) for call in calls], x, 1, TOGETHER)

    def output() -> Tensor:
        found = []
        for _ in calls:
            outs.fill_(torch.nan)
            in_one.run()
            found.append(outs.clone())
        return torch.cat(found)

    def once() -> None:
        made[0](x)

    return Prepared(in_one.run, output, once, TOGETHER)
