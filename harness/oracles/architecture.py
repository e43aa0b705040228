"""Which modules of a causal language model carry parameters, and which of them are projections inside its blocks.

Derived from the model itself, whatever its architecture: the decoder blocks are the one list of modules that has an
entry for each hidden layer of the configuration; a projection is a linear map that stands inside one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from harness.errors import AuditError


def decoder_blocks(model: PreTrainedModel) -> str:
    """The name of the list of decoder blocks; raises AuditError when the model does not have exactly one such list."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers
    ]
    outermost = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    if len(outermost) != 1:
        raise AuditError(f"{type(model).__name__} has {len(outermost)} lists of decoder blocks; audit another model")
    return str(outermost[0])


def block_projections(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear maps (nn.Linear, transformers' Conv1D) inside the decoder blocks, by name, in the model's order."""
    prefix = f"{decoder_blocks(model)}."
    return {
        name: module
        for name, module in model.named_modules()
        if name.startswith(prefix) and isinstance(module, (nn.Linear, Conv1D))
    }


def parameter_carriers(model: nn.Module) -> Mapping[str, list[nn.Parameter]]:
    """Every module that has parameters of its own, by name; a tied head has its embedding's."""
    carriers = {name: list(module.parameters(recurse=False)) for name, module in model.named_modules()}
    return {name: parameters for name, parameters in carriers.items() if parameters}


def matrix(module: nn.Module) -> Float[Tensor, "out in"]:
    """The weight of a projection as [out, in]; Conv1D keeps it as [in, out]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().T if isinstance(module, Conv1D) else weight.detach()
