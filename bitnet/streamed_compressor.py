"""Stage 4 for models that do not fit into memory: read a layer, make it ternary by the rule, write it, forget it.

Beside the process itself no more is held than one layer, in float32 and with what the rule needs to work on it. Both
artefacts are written in the one pass over the shards, byte for byte as `bitnet.artifacts` writes them.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn

from bitnet.architectures import LayerDecision, layer_plan
from bitnet.artifacts import describe_packed, layer_record, load_packed, preserved_tensors, ternary_tensors
from bitnet.bitlinear import TernaryLinear
from bitnet.compressed_model import TABLE_KINDS, CompressedModel, matrix, plain_layer, ternary_layer
from bitnet.compressor import Compression
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.huggingface import save_tokenizer
from bitnet.lending import lent
from bitnet.memory import available
from bitnet.models import streamable
from bitnet.packed_manifest import TENSORS, LayerRecord
from bitnet.phase_state import Calibration, Run
from bitnet.progress import Advance
from bitnet.result import FallbackRow
from bitnet.scales import encode_scales
from bitnet.streamed_folder import INDEX, count_stored
from bitnet.tables import decode_table, encode_table, table_layout, to_float16
from bitnet.tensor_file import Described, TensorWriter

#: Bytes a parameter that a run takes which holds its model: float32 weights, those of the trainable form and what is
#: written of it.
HELD_BYTES: Final = 12
#: Largest file of the FP16 artefact, as `save_pretrained` has it.
MAX_SHARD: Final = "50GB"
#: Settings of a run that need the whole model, and what they are without it.
_WHOLE_MODEL: Final = {"compensation": "none", "fine_tune_steps": 0, "max_minutes": None}


def streams(source: str, config: Phase4Config) -> bool:
    """Whether the model is to stay on disk.

    Raises:
        BitnetError: it is asked for, but `source` is no folder of safetensors.
    """
    folder = streamable(source)
    if config.streaming == "always" and folder is None:
        raise BitnetError(f"{source} cannot be streamed: give a Hugging Face folder with safetensors weights.")
    if config.streaming != "auto" or folder is None:
        return config.streaming == "always"
    free = available()
    return free is not None and HELD_BYTES * count_stored(folder) > free


def streamable_settings(config: Phase4Config, parameters: int) -> tuple[Phase4Config, list[FallbackRow]]:
    """The settings without what needs the whole model, and what that would have been at this size.

    Raises:
        BitnetError: the user has set such a thing.
    """
    whole = config.resolved(parameters)
    left_out = {name: without for name, without in _WHOLE_MODEL.items() if getattr(whole, name) != without}
    for name, without in left_out.items():
        if name in config.model_fields_set:
            raise BitnetError(
                f"{name} = {getattr(config, name)} needs the whole model in memory, and this one is streamed: set "
                f"{name}={'null' if without is None else without}, or streaming=never."
            )
    reason = "the model is streamed from its shards, and this needs all of it"
    rows = [FallbackRow(step=name, used=str(without), reason=reason) for name, without in left_out.items()]
    given = config.model_fields_set | {"rule", *_WHOLE_MODEL}
    return Phase4Config.model_construct(_fields_set=given, **{**dict(config), **_WHOLE_MODEL}), rows


@torch.no_grad()
def compress_streamed(run: Run, calibration: Calibration, directory: Path, progress: Advance) -> Compression:
    """Write `directory`/packed and `directory`/fp16; the model that comes back reads its layers from the former."""
    model, config = run.loaded.model, run.config
    plan = layer_plan(model)
    packed, fp16 = directory / "packed", directory / "fp16"
    packed.mkdir()
    fp16.mkdir()
    records: list[LayerRecord] = []
    with (
        TensorWriter(packed / TENSORS, _packed_layout(model, plan, config)) as packed_file,
        _plain_files(fp16, model) as put_plain,
    ):
        for done, decision in enumerate(plan, start=1):
            module = model.get_submodule(decision.name)
            with lent(module):
                layer = None
                if decision.quantized:
                    moment = None if calibration.moments is None else calibration.moments[decision.name]
                    layer = ternary_layer(module, config, moment)
                    records.append(layer_record(decision.name, layer, config))
                    stored = ternary_tensors(decision.name, layer, config)
                else:
                    stored = preserved_tensors(decision, module, config)
                for name, tensor in stored.items():
                    packed_file.put(name, tensor)
                for name, tensor in _plain_tensors(decision, module, layer, config).items():
                    put_plain(name, tensor)
            progress(done, len(plan))
    described = CompressedModel(model, plan, config, {})
    describe_packed(described, tuple(records), run.loaded.tokenizer, packed)
    _describe_plain(run, fp16)
    return Compression(load_packed(packed, streamed=True)[0])


def _packed_layout(model: nn.Module, plan: tuple[LayerDecision, ...], config: Phase4Config) -> dict[str, Described]:
    """What `ternary_tensors` and `preserved_tensors` give for each layer, told from shapes alone."""
    layout: dict[str, Described] = {}
    for decision in plan:
        module = model.get_submodule(decision.name)
        if decision.quantized:
            layout |= _ternary_layout(decision, module, config)
            continue
        for key, value in module.named_parameters(recurse=False):
            if decision.kind in TABLE_KINDS and key == "weight":
                layout |= _table_layout(decision.name, tuple(value.shape), config)
            else:
                layout[f"{decision.name}.{key}"] = Described(torch.float32, tuple(value.shape))
    return layout


def _ternary_layout(decision: LayerDecision, module: nn.Module, config: Phase4Config) -> dict[str, Described]:
    rows, columns = matrix(module).shape
    with torch.device("meta"):
        layer = TernaryLinear(
            columns,
            rows,
            module.bias is not None,
            codec=config.codec,
            granularity=config.granularity,
            group_size=config.group_size,
            planes=config.planes,
            scale_dtype=config.scale_dtype,
        )
    scales = encode_scales(decision.name, layer.scale.float(), config.scale_dtype)
    tensors = {f"{decision.name}.packed": layer.packed, **scales}
    if layer.bias is not None:
        tensors[f"{decision.name}.bias"] = layer.bias
    return {name: Described.of(tensor) for name, tensor in tensors.items()}


def _table_layout(name: str, shape: tuple[int, ...], config: Phase4Config) -> dict[str, Described]:
    layout = table_layout(config.embedding_dtype, shape)
    return {f"{name}.{part}": Described(*kind) for part, kind in layout.items()}


def _plain_tensors(
    decision: LayerDecision, module: nn.Module, layer: TernaryLinear | None, config: Phase4Config
) -> dict[str, Tensor]:
    """What the FP16 artefact holds of a layer, as `CompressedModel.dequantized` has it; `layer` is its packed form."""
    plain = module if layer is None else plain_layer(layer, decision.kind)
    tensors: dict[str, Tensor] = {}
    for key, parameter in plain.named_parameters(recurse=False):
        name, value = f"{decision.name}.{key}", parameter.detach()
        if decision.kind in TABLE_KINDS and key == "weight":
            value = decode_table(encode_table(decision.name, value, config.embedding_dtype), value.shape[1])
        tensors[name] = to_float16(name, value)
    return tensors


@contextlib.contextmanager
def _plain_files(folder: Path, model: nn.Module) -> Iterator[Callable[[str, Tensor], None]]:
    """Gives `put(name, tensor)` for the weights of the FP16 folder, in as many files as `save_pretrained` makes."""
    whole = {
        name: torch.empty(value.shape, dtype=torch.float16, device="meta") for name, value in model.named_parameters()
    }
    split = split_torch_state_dict_into_shards(whole, max_shard_size=MAX_SHARD)
    with contextlib.ExitStack() as stack:
        writers: dict[str, TensorWriter] = {}
        for file, names in split.filename_to_tensors.items():
            layout = {name: Described.of(whole[name]) for name in names}
            writers |= dict.fromkeys(names, stack.enter_context(TensorWriter(folder / file, layout)))
        yield lambda name, tensor: writers[name].put(name, tensor)
    if split.is_sharded:
        total = {"total_parameters": sum(value.numel() for value in whole.values()), **split.metadata}
        index = {"metadata": total, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _describe_plain(run: Run, folder: Path) -> None:
    """Everything of the FP16 folder but its weights."""
    model = run.loaded.model
    config = copy.deepcopy(model.config)
    config.dtype, config.architectures = "float16", [type(model).__name__]
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    save_tokenizer(run.loaded.tokenizer, folder)
