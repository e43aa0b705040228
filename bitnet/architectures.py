"""Which layers of a causal language model become ternary and which are preserved, as an explicit list.

The rule is the one of the b1.58 models (Ma et al., 2024, section 2): every linear projection inside the decoder
blocks is ternary; embeddings, head, norms and whatever stands outside the blocks keep their precision. Decisions
rest on the position and the type of a module, never on words in its name (`post_attention_layernorm` is no attention).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bitnet.errors import BitnetError

Kind = Literal["linear", "conv1d", "embedding", "positional embedding", "head", "norm", "projection"]

#: Where the list of decoder blocks sits in the causal LM of each supported `model_type`.
BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "llama": "model.layers",
        "qwen2": "model.layers",
        "gpt2": "transformer.h",
        "gpt_neox": "gpt_neox.layers",
        "opt": "model.decoder.layers",
    }
)
SUPPORTED: tuple[str, ...] = tuple(BLOCKS)


@dataclass(frozen=True)
class LayerDecision:
    """One parameter-carrying module of a model: what it is, how many parameters it owns, and what happens to it.

    `parameters` counts weights and biases; a tensor shared by two modules is counted for the first one only.
    """

    name: str
    kind: Kind
    parameters: int
    quantized: bool
    reason: str


def blocks_prefix(model: PreTrainedModel) -> str:
    """Dotted name of the decoder blocks of `model`.

    Raises:
        BitnetError: the architecture is not one of `SUPPORTED`.
    """
    model_type = str(model.config.model_type)
    if model_type not in BLOCKS:
        raise BitnetError(
            f"Models of type '{model_type}' are not supported; the supported types are {', '.join(SUPPORTED)}."
        )
    return BLOCKS[model_type]


def layer_plan(model: PreTrainedModel) -> tuple[LayerDecision, ...]:
    """Decide for every parameter-carrying module of `model`, in the model's own order.

    Every parameter belongs to exactly one decision: a tied head is part of its embedding.

    Raises:
        BitnetError: unknown architecture, or a module with parameters inside a decoder block that is neither
            a linear layer (`nn.Linear`, `Conv1D`) nor a norm.
    """
    prefix = blocks_prefix(model) + "."
    head = model.get_output_embeddings()
    seen: set[int] = set()
    decisions = []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        if not own:
            continue
        seen.update(id(p) for p in own)
        parameters = sum(p.numel() for p in own)
        if name.startswith(prefix):
            decisions.append(_inside_block(name, module, parameters))
        else:
            decisions.append(_outside_blocks(model, name, module, parameters, head))
    return tuple(decisions)


def _inside_block(name: str, module: nn.Module, parameters: int) -> LayerDecision:
    if isinstance(module, (nn.Linear, Conv1D)):
        kind: Kind = "conv1d" if isinstance(module, Conv1D) else "linear"
        return LayerDecision(name, kind, parameters, True, "linear projection inside a decoder block")
    if is_norm(module):
        return LayerDecision(name, "norm", parameters, False, "norms set the scale of activations and cost few bytes")
    raise BitnetError(
        f"Layer '{name}' is of type {type(module).__name__}, which is neither a linear layer nor a norm, "
        "so this model cannot be compressed."
    )


def _outside_blocks(
    model: PreTrainedModel, name: str, module: nn.Module, parameters: int, head: nn.Module | None
) -> LayerDecision:
    if module is model.get_input_embeddings():
        tied = head is not None and getattr(head, "weight", None) is getattr(module, "weight", ())
        reason = "token embedding, a table that is looked up" + (", shared with the output head" if tied else "")
        return LayerDecision(name, "embedding", parameters, False, reason)
    if module is head:
        return LayerDecision(name, "head", parameters, False, "output head: its error goes straight into the logits")
    if isinstance(module, nn.Embedding):
        return LayerDecision(name, "positional embedding", parameters, False, "position table, added once")
    if is_norm(module):
        return LayerDecision(name, "norm", parameters, False, "norms set the scale of activations and cost few bytes")
    if isinstance(module, nn.Linear):
        return LayerDecision(name, "projection", parameters, False, "projection outside the decoder blocks")
    raise BitnetError(
        f"Layer '{name}' is of type {type(module).__name__}, which no rule covers, so this model cannot be compressed."
    )


def keeping(plan: tuple[LayerDecision, ...], names: Collection[str]) -> tuple[LayerDecision, ...]:
    """The plan with some of its quantized layers kept in half precision."""
    reason = "kept in half precision, as its error costs too much"
    return tuple(replace(d, quantized=False, reason=reason) if d.name in names else d for d in plan)


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a layer norm or an RMS norm: by type, with vectors as its only parameters."""
    by_type = isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or type(module).__name__.endswith("RMSNorm")
    return by_type and all(p.dim() == 1 for p in module.parameters(recurse=False))
