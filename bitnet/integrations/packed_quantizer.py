"""Packed folders for `AutoModelForCausalLM.from_pretrained`: a quantizer and its configuration.

Imported while transformers is being imported, so everything that needs the whole of it is imported when it is used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from bitnet.config import Codec, Granularity, ScaleDtype, TableDtype
from bitnet.packed_settings import METHOD
from bitnet.scales import from_counts, memory_dtype
from bitnet.tables import CODE_LIMITS, decode_table

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from bitnet.architectures import LayerDecision

_log = logging.get_logger(__name__)


class PackedConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """`quantization_config` of a packed folder's config.json."""

    def __init__(
        self,
        codec: Codec,
        granularity: Granularity,
        group_size: int,
        scale_dtype: ScaleDtype,
        embedding_dtype: TableDtype,
        activation_bits: int | None,
        planes: int,
        other_planes: Mapping[str, int],
        kept: list[str],
        **_: Any,
    ) -> None:
        """Settings as in `bitnet.packed_settings`; others are left alone, for versions to come."""
        self.quant_method = METHOD
        self.codec, self.granularity, self.group_size = codec, granularity, group_size
        self.scale_dtype, self.embedding_dtype = scale_dtype, embedding_dtype
        self.activation_bits = activation_bits
        self.planes, self.other_planes, self.kept = planes, dict(other_planes), list(kept)


class PackedQuantizer(HfQuantizer):  # type: ignore[misc]
    """Gives a model the layers that packed weights are loaded into; nothing is quantized here.

    The model runs in float32 whatever dtype is asked for, as packed models do everywhere in this package, and has the
    logits of `bitnet.artifacts.load_packed`.
    """

    requires_calibration = True
    quantization_config: PackedConfig

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """float32, said in the log where another was asked for."""
        if dtype != torch.float32:
            _log.info("packed models run in float32, not in %s", dtype)
        return torch.float32

    def is_serializable(self) -> bool:
        """Not through `save_pretrained`: the folder that was loaded is the stored form."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Packed codes have no gradient."""
        return False

    def _process_model_before_weight_loading(
        self, model: "PreTrainedModel", checkpoint_files: list[str] | None = None, **_: Any
    ) -> None:
        from bitnet.architectures import keeping, layer_plan
        from bitnet.compressed_model import TABLE_KINDS

        _check_folder(checkpoint_files or [])
        plan = keeping(layer_plan(model), self.quantization_config.kept)
        for decision in plan:
            if decision.quantized:
                model.set_submodule(decision.name, self._layer(decision, model))
        coded = self.quantization_config.embedding_dtype in CODE_LIMITS
        self.columns = {
            decision.name: model.get_submodule(decision.name).weight.shape[1]
            for decision in plan
            if coded and decision.kind in TABLE_KINDS
        }
        in_bytes = self.quantization_config.scale_dtype == "uint8"
        self._counted = [decision.name for decision in plan if in_bytes and decision.quantized]

    def _layer(self, decision: "LayerDecision", model: "PreTrainedModel") -> "nn.Module":
        from bitnet.bitlinear import TernaryLinear
        from bitnet.compressed_model import matrix

        config, module = self.quantization_config, model.get_submodule(decision.name)
        rows, width = matrix(module).shape
        with torch.device("meta"):
            return TernaryLinear(
                width,
                rows,
                module.bias is not None,
                codec=config.codec,
                granularity=config.granularity,
                group_size=config.group_size,
                activation_bits=8 if config.activation_bits else None,
                planes=config.other_planes.get(decision.name, config.planes),
                scale_dtype=config.scale_dtype,
            )

    def _process_model_after_weight_loading(self, model: "PreTrainedModel", **_: Any) -> "PreTrainedModel":
        return model.requires_grad_(False)

    def get_weight_conversions(self) -> list[WeightConverter]:
        """How tables in codes become the float32 ones of the model, and bytes the scales of its layers."""
        tables = [
            WeightConverter([f"{name}.codes", f"{name}.scale"], f"{name}.weight", operations=[_DecodeTable(self)])
            for name in self.columns
        ]
        scales = [
            WeightConverter(
                [f"{name}.scale$", f"{name}.scale_exponent$"], f"{name}.scale", operations=[_DecodeScales(self)]
            )
            for name in self._counted
        ]
        return tables + scales


class _DecodeTable(ConversionOps):  # type: ignore[misc]
    """codes * scale of a table. The attribute keeps transformers from casting the two beforehand."""

    def __init__(self, hf_quantizer: PackedQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(self, input_dict: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """The table, under the name of the parameter."""
        found = {name.rpartition(".")[2]: _only(parts) for name, parts in input_dict.items()}
        (name,) = {name.rpartition(".")[0] for name in input_dict}
        return {f"{name}.weight": decode_table(found, self.hf_quantizer.columns[name])}


class _DecodeScales(ConversionOps):  # type: ignore[misc]
    """Scales of a layer from bytes and the exponents of its rows."""

    def __init__(self, hf_quantizer: PackedQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(self, input_dict: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """The scales, under the name of the buffer."""
        found = {name.rstrip("$").rpartition(".")[2]: _only(parts) for name, parts in input_dict.items()}
        (name,) = {name.rpartition(".")[0] for name in input_dict}
        scales = from_counts(found["scale"], found["scale_exponent"])
        return {f"{name}.scale": scales.to(memory_dtype("uint8"))}


def _only(parts: list[Tensor] | Tensor) -> Tensor:
    return parts[0] if isinstance(parts, list) else parts


def _check_folder(checkpoint_files: list[str]) -> None:
    """Where the manifest lies beside the weights, every file must be what it says; a hub's cache may not have it."""
    from bitnet.packed_manifest import check_files, is_packed, read_manifest

    for folder in {Path(file).parent for file in checkpoint_files}:
        if is_packed(folder):
            check_files(folder, read_manifest(folder))


def register() -> None:
    """Make the two known to transformers, once."""
    if AUTO_QUANTIZER_MAPPING.get(METHOD) is not PackedQuantizer:
        register_quantization_config(METHOD)(PackedConfig)
        register_quantizer(METHOD)(PackedQuantizer)
