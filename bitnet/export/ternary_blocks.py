"""Ternary matrices in ggml's block types, exactly: what is decoded is the packed model's weight, bit for bit.

* TQ2_0 and TQ1_0 (2.06 and 1.69 bits a weight) have a float16 scale for each 256 inputs of a row.
* Q4_0 (4.5 bits) has one for each 32; ternary codes are three of its sixteen values.
* F16 holds one plane, and the sum of several: the scales of a sum are chosen so that it is a float16 number
  (`bitnet.ternary.share_exponent`).

Every matrix gets the first of them that holds it exactly.
"""

from typing import Literal, NamedTuple

import gguf
import numpy as np
import torch
from jaxtyping import BFloat16, Float32, Int8, UInt8
from torch import Tensor

from bitnet.config import TableDtype
from bitnet.errors import BitnetError
from bitnet.tables import CODE_LIMITS, nearest_codes, row_scale
from bitnet.ternary import TernarySum, per_weight

GgufType = Literal["tq2_0", "tq1_0", "f16"]
Type = gguf.GGMLQuantizationType

_TERNARY = {"tq2_0": Type.TQ2_0, "tq1_0": Type.TQ1_0}
_BLOCK = {kind: gguf.GGML_QUANT_SIZES[kind][0] for kind in (Type.TQ2_0, Type.TQ1_0, Type.Q4_0, Type.Q8_0)}


class Stored(NamedTuple):
    """A matrix as it stands in a file: its rows in bytes (or numbers, for F16 and F32), and the type in ggml."""

    data: np.ndarray
    kind: gguf.GGMLQuantizationType


def store_ternary(name: str, weight: TernarySum, wanted: GgufType) -> Stored:
    """A quantized layer in `wanted`, or in the first wider type that holds it exactly.

    Raises:
        BitnetError: a scale that is no float16 number.
    """
    dense = weight.dequantize().numpy()
    kind = _type_for(weight, wanted)
    data = _q4_0(weight) if kind is Type.Q4_0 else gguf.quants.quantize(dense, kind)
    if not np.array_equal(gguf.quants.dequantize(data, kind), dense):
        raise BitnetError(
            f"Layer '{name}' has scales that {kind.name} does not hold exactly: compress the model again with "
            "`--set scale_dtype=float16`."
        )
    return Stored(data, kind)


def store_table(values: Float32[Tensor, "rows columns"], dtype: TableDtype, wanted: GgufType) -> Stored:
    """An embedding, a head or another matrix that is not ternary: in Q8_0, F16 or F32, the first that is exact.

    Args:
        dtype: how the packed model stores them; Q8_0 is for codes, and left out where F16 is `wanted`.
    """
    if dtype in CODE_LIMITS and wanted != "f16" and values.shape[1] % _BLOCK[Type.Q8_0] == 0:
        scale = row_scale(values, dtype)
        data = _q8_0(nearest_codes(values, scale, dtype), scale)
        if np.array_equal(gguf.quants.dequantize(data, Type.Q8_0), values.numpy()):
            return Stored(data, Type.Q8_0)
    half = values.half()
    if torch.equal(half.float(), values):
        return Stored(half.numpy(), Type.F16)
    return Stored(values.numpy(), Type.F32)


def _type_for(weight: TernarySum, wanted: GgufType) -> gguf.GGMLQuantizationType:
    if len(weight.codes) == 1 and wanted != "f16":
        for kind in (_TERNARY[wanted], Type.Q4_0):
            unit = weight.group_size or weight.codes.shape[2]
            if weight.codes.shape[2] % _BLOCK[kind] == 0 and unit % _BLOCK[kind] == 0:
                return kind
    return Type.F16


def _q4_0(weight: TernarySum) -> UInt8[np.ndarray, "out bytes"]:
    """Blocks of a float16 scale d and 32 values (digit - 8) d; byte j holds the digits of inputs j and j + 16."""
    codes, size = weight.codes[0], _BLOCK[Type.Q4_0]
    rows, width = codes.shape
    digits = (codes + 8).view(torch.uint8).view(rows, width // size, 2, size // 2)
    scale = per_weight(weight.scale[0], weight.group_size, width).expand(rows, width)[:, ::size]
    return _blocks(scale, (digits[:, :, 0] | digits[:, :, 1] << 4))


def _q8_0(codes: Int8[Tensor, "rows columns"], scale: BFloat16[Tensor, "rows 1"]) -> UInt8[np.ndarray, "rows bytes"]:
    """Blocks of a float16 scale and 32 int8 codes."""
    rows, width = codes.shape
    blocks = width // _BLOCK[Type.Q8_0]
    return _blocks(scale.float().expand(rows, blocks), codes.view(torch.uint8).view(rows, blocks, -1))


def _blocks(
    scale: Float32[Tensor, "rows blocks"], content: UInt8[Tensor, "rows blocks bytes"]
) -> UInt8[np.ndarray, "rows bytes"]:
    heads = scale.half().flatten().unsqueeze(1).view(torch.uint8).view(*scale.shape, 2)
    joined: np.ndarray = torch.cat([heads, content], dim=2).flatten(1).numpy()
    return joined
