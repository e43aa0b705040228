"""Per-head QK-clip: no head's queries or keys take a larger step than a whole matrix does.

What is clipped is the update that has been applied, not the weight: the rows (or, under Conv1D, columns) of one head
of a query or key projection whose update has a root mean square above `limit` times the learning rate are moved by
proportionally less. Decoupled weight decay does not count as update. Below the limit every bit stays.

The rule that gives the clip its name (Kimi Team 2025, "Kimi K2", section 2.1) multiplies a head's query and key
weights by sqrt(tau / S) when its largest attention logit S has passed tau = 100. That mends logits after they have
grown. A ternary weight forgets such a factor in its codes, so here growth is limited where it arises: one step changes
a head's logits by at most the product of its update and the activations.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class Heads(NamedTuple):
    """Where the heads are: `rows` [heads, size] of the [out, in] matrix, which Conv1D keeps transposed."""

    rows: Int64[Tensor, "heads size"]
    transposed: bool


def query_key_heads(model: nn.Module) -> dict[str, Heads]:
    """The heads of every query and key projection of a transformers model, by the name of its weight.

    Known are separate projections (`q_proj`, `k_proj`: Llama, Qwen2, OPT), GPT-2's `c_attn` (all queries, all keys, all
    values) and GPT-NeoX's `query_key_value` (queries, keys and values of one head after the other). A model without
    attention heads in its configuration has none.
    """
    size = _head_size(model)
    if size is None:
        return {}
    found = {}
    for name, module in model.named_modules():
        kind = name.rpartition(".")[2]
        weight = getattr(module, "weight", None)
        if kind not in {"q_proj", "k_proj", "c_attn", "query_key_value"} or not isinstance(weight, Tensor):
            continue
        transposed = isinstance(module, Conv1D)
        rows = torch.arange(weight.shape[1 if transposed else 0])
        if kind == "c_attn":
            rows = rows[: 2 * len(rows) // 3]
        elif kind == "query_key_value":
            rows = rows.reshape(-1, 3, size)[:, :2]
        found[f"{name}.weight"] = Heads(rows.reshape(-1, size), transposed)
    return found


def clip_update_(
    after: Float[Tensor, "rows columns"], before: Float[Tensor, "rows columns"], heads: Heads, limit: float
) -> None:
    """Shorten, in `after`, each head's step from `before` to a root mean square of at most `limit`, in place."""
    if heads.transposed:
        after, before = after.T, before.T
    index = heads.rows.to(after.device)
    update = after[index] - before[index]  # [heads, size, in]
    norms = torch.linalg.vector_norm(update.float(), dim=(1, 2))
    factors = limit * math.sqrt(update[0].numel()) / norms
    over = factors < 1.0
    shortened = before[index[over]] + (factors[over, None, None] * update[over]).to(after.dtype)
    after[index[over].flatten()] = shortened.flatten(0, 1)


def _head_size(model: nn.Module) -> int | None:
    config = getattr(model, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        return None
    size = getattr(config, "head_dim", None)  # some configurations have it as None
    return int(size) if size else int(config.hidden_size) // int(heads)  # type: ignore[union-attr]
