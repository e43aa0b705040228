"""A packed Llama or Qwen2 model as a GGUF file with its tokenizer, which llama.cpp loads and runs.

llama.cpp quantizes activations in its own way, block by block of a row, so its logits are near ours and not the same;
the weights are the same.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bitnet.artifacts import load_packed
from bitnet.bitlinear import TernaryLinear
from bitnet.checkpoint import atomic_file, read_json
from bitnet.compressed_model import TABLE_KINDS, CompressedModel
from bitnet.errors import BitnetError
from bitnet.export.gguf_tokenizer import add_tokenizer
from bitnet.export.report import Exported
from bitnet.export.ternary_blocks import GgufType, Stored, Type, store_table, store_ternary
from bitnet.runtime.description import Description, UnsupportedError
from bitnet.runtime.rotary import Rotary
from bitnet.ternary import TernarySum

_ARCHITECTURES: Final = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
_FILE_TYPES: Final[Mapping[str, gguf.LlamaFileType]] = {
    "TQ2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
    "TQ1_0": gguf.LlamaFileType.MOSTLY_TQ1_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
}
ROTARY_TENSOR: Final = "rope_freqs.weight"


def export_gguf(directory: Path, out: Path, wanted: GgufType = "tq2_0") -> Exported:
    """Write a packed folder as the GGUF file `out`.

    Args:
        wanted: the type of ternary layers where 256 divides their rows and groups; "f16" stores every layer in F16.

    Raises:
        BitnetError: what `load_packed` refuses, an architecture, rotary embedding or tokenizer that llama.cpp is not
            known to run as transformers does, scales that float16 does not hold.
    """
    described = _description(directory)
    compressed, tokenizer = load_packed(directory)
    tensors = dict(_tensors(compressed, described, wanted))
    used = Counter(tensors[f"{_name(described, layer)}.weight"].kind.name for layer in compressed.layers)
    with atomic_file(out) as temporary:
        _write(temporary, described, tokenizer, tensors, _FILE_TYPES[used.most_common(1)[0][0]])
    several = sum(len(layer.ternary().codes) > 1 for layer in compressed.layers.values())
    note = f"{several} layers are sums of ternary planes, which GGUF has no type for: they are stored in F16, exactly."
    return Exported("gguf", out, out.stat().st_size, dict(used), (note,) if several else ())


def _description(directory: Path) -> Description:
    try:
        described = Description.of(read_json(directory / "config.json"), str(directory))
    except UnsupportedError as error:
        raise _refusal(directory, error.what) from None
    rotary = described.rope_parameters
    if rotary.scale != 1 or (described.model_type == "qwen2" and rotary.rope_type != "default"):
        raise _refusal(directory, f"rotary embeddings of the type {rotary.rope_type} in {described.model_type}")
    return described


def _refusal(directory: Path, what: str) -> BitnetError:
    return BitnetError(
        f"{directory} cannot be written as GGUF ({what}): export it as huggingface, or use its fp16 form."
    )


def _tensors(compressed: CompressedModel, described: Description, wanted: GgufType) -> Iterator[tuple[str, Stored]]:
    """Every tensor by its name in the file; a tied head is stored once, as the embedding."""
    for decision in compressed.plan:
        module, name = compressed.model.get_submodule(decision.name), _name(described, decision.name)
        order = _row_order(described, decision.name)
        if isinstance(module, TernaryLinear):
            yield f"{name}.weight", store_ternary(decision.name, _reordered(module.ternary(), order), wanted)
            if module.bias is not None:
                yield f"{name}.bias", _vector(module.bias, order)
            continue
        for key, value in module.named_parameters(recurse=False):
            if value.dim() == 1:
                yield f"{name}.{key}", _vector(value.detach(), order)
            else:
                dtype = compressed.config.embedding_dtype if decision.kind in TABLE_KINDS else "float32"
                rows = value.detach() if order is None else value.detach()[order]
                yield f"{name}.{key}", store_table(rows, dtype, wanted)
    factors = _rotary_factors(described)
    if bool((factors != 1).any()):
        yield ROTARY_TENSOR, Stored(factors, Type.F32)


def _rotary_factors(described: Description) -> np.ndarray:
    """What llama.cpp divides the plain angles of each pair of a head by: float32 [head_dim / 2]."""
    rotary = described.rope_parameters
    plain = Rotary(rope_theta=rotary.rope_theta).frequencies(described.head_dim)
    factors: np.ndarray = (plain / rotary.frequencies(described.head_dim)).astype(np.float32)
    return factors


def _vector(values: Tensor, order: Int64[Tensor, "out"] | None) -> Stored:
    return Stored((values if order is None else values[order]).float().numpy(), Type.F32)


def _row_order(described: Description, layer: str) -> Int64[Tensor, "out"] | None:
    """Order of the rows of Llama's queries and keys: llama.cpp turns neighbours, transformers halves of a head.

    Source: `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py.
    """
    part = layer.rpartition(".")[2]
    heads = {"q_proj": described.num_attention_heads, "k_proj": described.num_key_value_heads}.get(part)
    if heads is None or described.model_type != "llama":
        return None
    rows = torch.arange(heads * described.head_dim)
    return rows.view(heads, 2, described.head_dim // 2).transpose(1, 2).reshape(-1)


def _reordered(weight: TernarySum, order: Int64[Tensor, "out"] | None) -> TernarySum:
    if order is None:
        return weight
    scale = weight.scale if weight.scale.shape[1] == 1 else weight.scale[:, order]
    return TernarySum(weight.codes[:, order], scale, weight.group_size)


def _name(described: Description, layer: str) -> str:
    names = gguf.get_tensor_name_map(_ARCHITECTURES[described.model_type], described.num_hidden_layers)
    name: str = names.get_name(layer)
    return name


def _write(
    path: Path,
    described: Description,
    tokenizer: PreTrainedTokenizerBase,
    tensors: Mapping[str, Stored],
    file_type: gguf.LlamaFileType,
) -> None:
    writer = gguf.GGUFWriter(path, described.model_type)
    _add_settings(writer, described)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, tokenizer, described.vocab_size)
    for name, stored in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(stored.data), raw_dtype=stored.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_settings(writer: gguf.GGUFWriter, described: Description) -> None:
    writer.add_context_length(described.max_position_embeddings)
    writer.add_embedding_length(described.hidden_size)
    writer.add_block_count(described.num_hidden_layers)
    writer.add_feed_forward_length(described.intermediate_size)
    writer.add_head_count(described.num_attention_heads)
    writer.add_head_count_kv(described.num_key_value_heads)
    writer.add_key_length(described.head_dim)
    writer.add_value_length(described.head_dim)
    writer.add_rope_dimension_count(described.head_dim)
    writer.add_rope_freq_base(described.rope_parameters.rope_theta)
    writer.add_layer_norm_rms_eps(described.rms_norm_eps)
    writer.add_vocab_size(described.vocab_size)
