"""transformers' own ternary layer as an opponent: `BitLinear` on offline packed weights, as its BitNet models run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from harness.opponents import OpponentAbsent
from harness.subject import GivenWeights


def with_bitlinear(model: Any, weights: GivenWeights) -> Any:
    """A copy of a model in bfloat16, its block projections in `BitLinear`; raises OpponentAbsent where it does not fit.

    `BitLinear` divides by `weight_scale`, so that gets the inverse of the scale.
    """
    from transformers.integrations.bitnet import BitLinear, pack_weights

    made: nn.Module = copy.deepcopy(model).to(torch.bfloat16)
    layers = [name for name, module in made.named_modules() if isinstance(module, nn.Linear) and ".layers." in name]
    for name in layers:
        linear: Any = made.get_submodule(name)
        if linear.out_features % 4 or linear.bias is not None:
            raise OpponentAbsent(f"transformers BitLinear is absent: it does not take {linear.out_features} outputs")
        given = weights.ternary(name, (linear.out_features, linear.in_features))
        layer = BitLinear(linear.in_features, linear.out_features, bias=False, dtype=torch.bfloat16)
        layer.weight = pack_weights(given.codes.float())
        layer.weight_scale = (1 / given.scale.view(1)).to(torch.bfloat16)
        parent, _, child = name.rpartition(".")
        setattr(made.get_submodule(parent), child, layer)
    return made.eval()
