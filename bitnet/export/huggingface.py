"""Transformers' own `bitnet` folder: 2-bit codes, one scale a layer, loaded by transformers without this package.

A quantized layer is `weight` (uint8 [ceil(out / 4), in]: byte (r, c) holds the digits code + 1 of the rows r, r + R,
r + 2R and r + 3R, low bits first) and `weight_scale` (float32 [1]). `BitLinear` of transformers divides by it, so it
is the reciprocal of our scale, which float32 rounds: one part in 2^24. Everything else is stored as it is, in float16
where that is exact. Source: transformers.integrations.bitnet.
"""

from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Int8, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from bitnet.architectures import LayerDecision
from bitnet.artifacts import load_packed
from bitnet.bitlinear import TernaryLinear
from bitnet.checkpoint import atomic_directory, read_json, write_json
from bitnet.compressed_model import CompressedModel
from bitnet.errors import BitnetError
from bitnet.export.report import Exported
from bitnet.huggingface import save_tokenizer
from bitnet.packed_manifest import TENSORS
from bitnet.ternary import TernaryWeight

ROWS_A_BYTE: Final = 4
_REMEDY: Final = (
    "compress the model again with `--planes 1 --set granularity=tensor --set compensation=none`, or export it as gguf"
)


def export_huggingface(directory: Path, out: Path) -> Exported:
    """Write a packed folder as transformers' `bitnet` folder `out`.

    Raises:
        BitnetError: what `load_packed` refuses, and weights that the format cannot hold: several scales or planes in a
            layer, floating-point activations, layers that transformers does not replace.
    """
    compressed, tokenizer = load_packed(directory)
    if compressed.config.activation_bits is None:
        raise BitnetError(
            f"{directory} keeps activations in floating point, and transformers' bitnet layers quantize them: "
            "compress the model again with `--set activation_bits=8`."
        )
    tensors = _tensors(compressed)
    with atomic_directory(out) as temporary:
        _write(compressed, tokenizer, tensors, temporary)
    size = sum(path.stat().st_size for path in out.iterdir())
    note = "Weight scales are stored as their reciprocals, rounded to float32."
    return Exported("huggingface", out, size, {"bitnet 2-bit": len(compressed.layers)}, (note,))


def pack_rows(codes: Int8[Tensor, "out in"]) -> UInt8[Tensor, "quarter in"]:
    """Four rows a byte, as in this module's description; `out` must be a multiple of 4."""
    digits = (codes + 1).view(torch.uint8).view(ROWS_A_BYTE, -1, codes.shape[1])
    packed = digits[0].clone()
    for place in range(1, ROWS_A_BYTE):
        packed |= digits[place] << (2 * place)
    return packed


def narrowest(tensor: Tensor) -> Tensor:
    """The tensor in float16 if that is exact, else in float32."""
    half = tensor.to(torch.float16)
    return half if torch.equal(half.float(), tensor.float()) else tensor.float()


def _write(
    compressed: CompressedModel, tokenizer: PreTrainedTokenizerBase, tensors: dict[str, Tensor], folder: Path
) -> None:
    model = compressed.model
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    described = read_json(folder / "config.json")
    described |= {"dtype": "float32", "quantization_config": _quantization_config(model, set(compressed.layers))}
    write_json(folder / "config.json", described)


def _quantization_config(model: nn.Module, quantized: set[str]) -> dict[str, Any]:
    """`BitNetQuantConfig`: every linear layer is replaced but for those named."""
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return {
        "quant_method": "bitnet",
        "linear_class": "bitlinear",
        "quantization_mode": "offline",
        "use_rms_norm": False,
        "modules_to_not_convert": [name for name in linear if name not in quantized],
    }


def _tensors(compressed: CompressedModel) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for decision in compressed.plan:
        module = compressed.model.get_submodule(decision.name)
        if decision.quantized:
            assert isinstance(module, TernaryLinear)
            tensors |= _layer_tensors(decision, module)
        else:
            for key, value in module.named_parameters(recurse=False):
                tensors[f"{decision.name}.{key}"] = narrowest(value.detach())
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _layer_tensors(decision: LayerDecision, layer: TernaryLinear) -> dict[str, Tensor]:
    name, weight = decision.name, _only_plane(decision, layer)
    scale = weight.scale.reshape(1)
    # A layer of zeros has no use for a scale, and zero has no reciprocal.
    reciprocal = torch.where(scale == 0, 1.0, scale.double().reciprocal()).float()
    if not bool(torch.isfinite(reciprocal).all()):
        raise BitnetError(f"The scale of layer '{name}' is too small for transformers' bitnet format: {_REMEDY}.")
    tensors = {f"{name}.weight": pack_rows(weight.codes), f"{name}.weight_scale": reciprocal}
    return tensors if layer.bias is None else tensors | {f"{name}.bias": layer.bias}


def _only_plane(decision: LayerDecision, layer: TernaryLinear) -> TernaryWeight:
    """The layer's one plane with its one scale; a BitnetError says what else it has."""
    ternary = layer.ternary()
    planes, rows, _ = ternary.codes.shape
    scales = ternary.scale[0].numel()
    if decision.kind == "conv1d":
        raise BitnetError(
            f"Layer '{decision.name}' is a {Conv1D.__name__}, which transformers' bitnet format does not replace: "
            "use the fp16 folder of the run."
        )
    if planes > 1 or scales > 1:
        found = f"is the sum of {planes} ternary planes" if planes > 1 else f"has {scales} scales"
        raise BitnetError(f"Layer '{decision.name}' {found}, and transformers' bitnet format holds one: {_REMEDY}.")
    if rows % ROWS_A_BYTE:
        raise BitnetError(
            f"Layer '{decision.name}' has {rows} outputs, which transformers' bitnet format packs by {ROWS_A_BYTE}: "
            "export the model as gguf, or use the fp16 folder of the run."
        )
    return ternary.planes[0]
