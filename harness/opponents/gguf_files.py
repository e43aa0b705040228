"""GGUF files for llama.cpp: a Hugging Face Llama in float16, and ternary weights given one by one in TQ2_0.

No tokenizer goes in: the decoders are given token numbers. The layout of TQ2_0 is that of ggml-common.h: blocks of 256
weights, 64 bytes of 2-bit codes and a float16 scale; byte j of each half holds the weights j, j + 32, j + 64, j + 96.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gguf
import numpy as np
import torch

from harness.errors import AuditError
from harness.subject import JSON, GivenWeights, QuantizedWeight

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

TQ2_BLOCK: Final = 256
_LAYER_TENSORS: Final[Mapping[str, str]] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OTHER_TENSORS: Final[Mapping[str, str]] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def tq2_bytes(weight: QuantizedWeight) -> UInt8[np.ndarray, "out bytes"]:
    """The rows of a ternary weight in TQ2_0; its scales, one a row or one in all, are rounded to float16.

    Raises:
        AuditError: rows that blocks of 256 do not divide, or more than one scale a row.
    """
    rows, width = weight.codes.shape
    if width % TQ2_BLOCK or weight.scale.shape[1] != 1:
        raise AuditError(f"a ternary weight of {width} inputs does not fit TQ2_0; use a multiple of {TQ2_BLOCK}")
    digits = (weight.codes.numpy() + np.int8(1)).view(np.uint8).reshape(rows, -1, 2, 4, 32)
    codes = np.zeros((rows, width // TQ2_BLOCK, 2, 32), dtype=np.uint8)
    for place in range(4):
        codes |= digits[:, :, :, place] << np.uint8(2 * place)
    blocks = np.empty((rows, width // TQ2_BLOCK, 66), dtype=np.uint8)
    blocks[:, :, :64] = codes.reshape(rows, -1, 64)
    scale = weight.scale.to(torch.float16).expand(rows, 1).contiguous().numpy().view(np.uint8)
    blocks[:, :, 64:] = scale.reshape(rows, 1, 2)
    return blocks.reshape(rows, -1)


def write_float16(config: Mapping[str, JSON], weight: Callable[[str], Tensor], out: Path) -> None:
    """Write a Llama model of that configuration in float16, norms in float32; `weight` gives them by layer."""
    described, shapes = llama_shapes(config)
    writer = _writer(out, described.to_dict(), gguf.LlamaFileType.MOSTLY_F16)
    for layer, shape in shapes.items():
        values = _in_ggml_order(layer, described, weight(layer)).numpy()
        writer.add_tensor(_tensor_name(layer), values.astype(np.float32 if len(shape) == 1 else np.float16))
    _finish(writer)


def write_ternary(config: Mapping[str, JSON], weights: GivenWeights, out: Path) -> None:
    """Write a Llama model of given ternary weights: TQ2_0 matrices, Q8_0 tables, norms in float32.

    As `harness.subject.WritesPacked.write_packed`: the same weights, but for the rounding of tables and scales.
    """
    described, shapes = llama_shapes(config)
    writer = _writer(out, described.to_dict(), gguf.LlamaFileType.MOSTLY_TQ2_0)
    ternary, byte = gguf.GGMLQuantizationType.TQ2_0, gguf.GGMLQuantizationType.Q8_0
    for layer, shape in shapes.items():
        name = _tensor_name(layer)
        if len(shape) == 1:
            writer.add_tensor(name, weights.vector(layer, shape[0]).numpy())
        elif layer in _OTHER_TENSORS:
            table = weights.table(layer, (shape[0], shape[1])).numpy()
            writer.add_tensor(name, gguf.quants.quantize(table, byte), raw_dtype=byte)
        else:
            given = weights.ternary(layer, (shape[0], shape[1]))
            stored = tq2_bytes(QuantizedWeight(_in_ggml_order(layer, described, given.codes), given.scale))
            writer.add_tensor(name, stored, raw_dtype=ternary)
    _finish(writer)


def llama_shapes(config: Mapping[str, JSON]) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The full configuration of a Llama model, and the shape of each of its weights by layer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    described = LlamaConfig(**config)
    with torch.device("meta"):
        parameters = LlamaForCausalLM(described).named_parameters()
        shapes = {name.removesuffix(".weight"): tuple(parameter.shape) for name, parameter in parameters}
    return described, shapes


def _writer(out: Path, config: Mapping[str, Any], kind: gguf.LlamaFileType) -> gguf.GGUFWriter:
    if config["model_type"] != "llama":
        raise AuditError(f"no GGUF file is written for a {config['model_type']} model; audit one of the Llama family")
    writer = gguf.GGUFWriter(out, "llama", use_temp_file=True)
    writer.add_file_type(kind)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("no_vocab")
    return writer


def _finish(writer: gguf.GGUFWriter) -> None:
    steps: tuple[Callable[[], None], ...] = (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    )
    for step in steps:
        step()


def _tensor_name(layer: str) -> str:
    if layer in _OTHER_TENSORS:
        return f"{_OTHER_TENSORS[layer]}.weight"
    _, _, index, part = layer.split(".", 3)
    return f"blk.{index}.{_LAYER_TENSORS[part]}.weight"


def _in_ggml_order(layer: str, config: Any, weight: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Queries and keys with each head's two halves interleaved: llama.cpp turns pairs of neighbours.

    Source: `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(layer.split(".")[-1])
    if heads is None:
        return weight.contiguous()
    rows = weight.shape[0]
    return weight.view(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape).contiguous()
