"""ggml's ternary types TQ1_0 and TQ2_0, as the package `gguf` writes and reads them.

Blocks of 256 weights along a row, codes w / max|w| rounded half away from zero, the scale in float16; the types are
made for weights that are ternary already (llama.cpp, pull request 8151). A row that 256 does not divide is given to
`gguf` with zeros behind it, which change no scale. Source: gguf/quants.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.subject import Declaration, QuantizedWeight, WeightVariant
from harness.subjects.libraries import imported

if TYPE_CHECKING:
    from jaxtyping import Float, Int8, UInt8
    from torch import Tensor

BLOCK: Final = 256
SMALLEST_NORMAL, LARGEST = 2.0**-14, 65504.0  # of float16
ABSMAX: Final = WeightVariant(
    rule="absmax",
    granularity="group",
    group_size=BLOCK,
    tau=None,
    tie_rule="away_from_zero",
    scale_rule="absmax",
    second_moment=False,
    scale_range=(SMALLEST_NORMAL, LARGEST),
    scale_format="float16",
)


class _GgufType:
    """One ternary type of `gguf`."""

    name: str

    def __init__(self) -> None:
        self.library, version = imported("gguf", "gguf")
        self.type: Any = self.library.GGMLQuantizationType[self.name.upper()]
        self.declaration = Declaration(
            name=f"gguf-{self.name}", version=version, variants=(ABSMAX,), codecs=(self.name,), rejects=()
        )

    def quantize_weight(
        self, weight: Float[Tensor, "out in"], variant: WeightVariant, second_moment: Float[Tensor, " in"] | None = None
    ) -> QuantizedWeight:
        """`gguf.quants.quantize`, codes and scales read off what `dequantize` gives."""
        import torch

        values = self._read(self._write(weight.float()))
        scale = values.reshape(values.shape[0], -1, BLOCK).abs().amax(dim=2)
        codes = torch.where(values.isnan(), 0, values.sign()).to(torch.int8)
        return QuantizedWeight(codes[:, : weight.shape[1]], scale.half(), BLOCK)

    def dequantize(self, quantized: QuantizedWeight, variant: WeightVariant) -> Float[Tensor, "out in"]:
        """Scale times codes, which is what was read."""
        scale = quantized.scale.float().repeat_interleave(BLOCK, dim=1)
        return quantized.codes * scale[:, : quantized.codes.shape[1]]

    def pack(self, codes: Int8[Tensor, "out in"], codec: str) -> UInt8[Tensor, "out bytes"]:
        """`gguf.quants.quantize` of the codes as numbers: blocks with the scale 1, or 0 where all codes are."""
        import torch

        self._known(codec)
        return torch.from_numpy(self._write(codes.float()))

    def unpack(self, packed: UInt8[Tensor, "out bytes"], codec: str, width: int) -> Int8[Tensor, "out in"]:
        """`gguf.quants.dequantize`, without the padding."""
        import torch

        self._known(codec)
        return self._read(packed.contiguous().numpy())[:, :width].to(torch.int8)

    def _known(self, codec: str) -> None:
        if codec != self.name:
            raise ValueError(f"this subject writes {self.name}, and not {codec!r}")

    def _write(self, values: Float[Tensor, "out in"]) -> Any:
        import torch.nn.functional as F  # noqa: N812 - the name that the field uses

        padded = F.pad(values, (0, -values.shape[1] % BLOCK))
        return self.library.quants.quantize(padded.contiguous().numpy(), self.type)

    def _read(self, data: Any) -> Float[Tensor, "out padded"]:
        import torch

        return torch.from_numpy(self.library.quants.dequantize(data, self.type))


class Tq1(_GgufType):
    """TQ1_0, 1.6875 bits a weight."""

    name = "tq1_0"


class Tq2(_GgufType):
    """TQ2_0, 2.0625 bits a weight."""

    name = "tq2_0"
