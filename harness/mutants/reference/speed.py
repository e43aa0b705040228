"""A packed model that is the plain one, for checks that time whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject


class WithoutCache(torch.nn.Module):
    """A model that forgets what it has read before the token that it is given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.dtype = model, model.dtype

    @override
    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, use_cache: bool = False) -> Any:
        return self.model(input_ids=input_ids, use_cache=use_cache)


class SpeedSubject(FolderSubject):
    """Its packed model is the plain one."""

    @override
    def load_packed(self, path: Path) -> tuple[Any, Any]:
        model, tokenizer = super().load_packed(path)
        if self.defect == "logits that are always zero":
            model.lm_head.weight.data.zero_()
        return WithoutCache(model) if self.defect == "cache not used" else model, tokenizer
