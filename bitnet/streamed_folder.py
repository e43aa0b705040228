"""Full-precision models that stay in their shards: each layer's weights are read whenever it runs, and not kept."""

from functools import partial
from pathlib import Path
from typing import Final, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from bitnet.architectures import is_norm
from bitnet.checkpoint import read_json
from bitnet.declared import check_declared, held_in_safetensors
from bitnet.errors import BitnetError, first_line
from bitnet.huggingface import check_config, load_folder_tokenizer, quiet
from bitnet.lending import lend, lend_head, without_weights
from bitnet.tensor_file import TensorReader

INDEX: Final = "model.safetensors.index.json"


def load_streamed(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What `bitnet.huggingface.load_folder` gives, in float32, with weights that are read layer by layer.

    Raises:
        BitnetError: as `load_folder`; also where tensors do not have the names that `save_pretrained` gives them.
    """
    check_config(path)
    shards = open_shards(path)
    with quiet():
        model = cast(PreTrainedModel, without_weights(partial(_build, path)))
        tokenizer = load_folder_tokenizer(path)
    _check_names(path, model, shards)
    for name, module in model.named_modules():
        if module is _tied_head(model) or not dict(module.named_parameters(recurse=False)):
            continue
        if is_norm(module):  # vectors: few, and a backward pass needs them
            _read(module, name, shards)
        else:
            lend(module, partial(_read, name=name, shards=shards))
    lend_head(model)
    return model.eval(), tokenizer


def open_shards(path: Path) -> TensorReader:
    """The tensors of a model folder, of the files in its index if it has one.

    Raises:
        BitnetError: a shard is missing or unreadable.
    """
    index = path / INDEX
    if not index.is_file():
        return TensorReader(*sorted(path.glob("*.safetensors")))
    record = read_json(index)
    homes = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(homes, dict) or not all(isinstance(home, str) for home in homes.values()):
        raise BitnetError(f"{index} has no weight_map: save the model again with save_pretrained.")
    strange = [home for home in homes.values() if Path(home).name != home]
    if strange:
        raise BitnetError(f"{index} names the shard {strange[0]!r}, which is not in its folder: save the model again.")
    return TensorReader(*(path / home for home in sorted(set(homes.values()))))


def count_stored(path: Path) -> int:
    """Parameters in the shards of a folder, told from their headers alone."""
    return sum(torch.Size(shape).numel() for _, shape in open_shards(path).described.values())


def _build(path: Path) -> nn.Module:
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        check_declared(path, config, held_in_safetensors(sorted(path.glob("*.safetensors"))))
        with torch.random.fork_rng(devices=[]):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if (path / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(path)
    except BitnetError:
        raise
    except Exception as error:  # whatever a third-party reader makes of a damaged file
        raise BitnetError(f"Cannot load the model {path} ({first_line(error)}): check that it is complete.") from error
    return cast(nn.Module, model)


def _tied_head(model: PreTrainedModel) -> nn.Module | None:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head if head is not None and head.weight is embedding.weight else None


def _check_names(path: Path, model: PreTrainedModel, shards: TensorReader) -> None:
    """Every weight of the architecture is in the shards, in the right shape, and no other is."""
    stored, known = shards.described, model.state_dict()
    needed = dict(model.named_parameters())
    for names, problem in (
        (needed.keys() - stored.keys(), "lacks"),
        (stored.keys() - known.keys(), "has, beside them,"),
    ):
        if names:
            raise BitnetError(
                f"{path} {problem} {min(names)}, as its weights are named: save the whole {type(model).__name__} again "
                "with save_pretrained, or set streaming=never."
            )
    for name, parameter in needed.items():
        if stored[name][1] != tuple(parameter.shape):
            raise BitnetError(
                f"{path} has {name} in shape {stored[name][1]} instead of {tuple(parameter.shape)}: its config and its "
                "weights do not belong together."
            )


def _read(module: nn.Module, name: str, shards: TensorReader) -> None:
    for key, parameter in module.named_parameters(recurse=False):
        parameter.data = shards.get(f"{name}.{key}").to(parameter.dtype)
