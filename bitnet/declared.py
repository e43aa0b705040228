"""Before a model is built: does its configuration describe no more than its files can hold?

A configuration of a few bytes may ask for 2^40 embeddings or ten million layers, and whoever builds that model first
and looks at its weights afterwards runs out of memory or time.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PretrainedConfig

from bitnet.errors import BitnetError, first_line, shortened
from bitnet.reading import check_regular, read_small

_FLOATS: Final = ("F64", "F32", "F16", "BF16")
_PACKED: Final = 16
"""Weights that an integer may stand for: a byte for 5 in base-3, 32 bits for 16 of two bits each."""
_PER_BYTE: Final = 6
"""Weights in a byte of llama.cpp's smallest types, at most: they have 1.56 bits."""
_FACTOR: Final = 2
"""Parameters beside those in the files that are left to the loader, which tells by name what is missing."""
_SMALL: Final = 2**24
"""Parameters that any machine has room for."""
_LAYER_COUNTS: Final = ("num_hidden_layers", "num_experts", "num_local_experts", "n_routed_experts")


class Held(NamedTuple):
    """What the weight files of a model have room for."""

    tensors: int
    weights: int


def held_in_safetensors(paths: Iterable[Path]) -> Held:
    """By the headers of safetensors files, which the library has held to the files' sizes.

    Raises:
        BitnetError: one of them cannot be read.
    """
    tensors = weights = 0
    for path in paths:
        check_regular(path)
        try:
            with safe_open(path, framework="numpy") as stored:
                for name in stored.keys():  # noqa: SIM118 - it is no mapping
                    part = stored.get_slice(name)
                    tensors += 1
                    weights += math.prod(part.get_shape()) * (1 if part.get_dtype() in _FLOATS else _PACKED)
        except (OSError, SafetensorError) as error:
            raise BitnetError(
                f"Cannot load the model {path} ({first_line(error)}): check that it is complete."
            ) from error
    return Held(tensors, weights)


def held_in_gguf(path: Path) -> Held:
    """By the head of a GGUF file: the number of tensors stands behind the magic and the version."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
    return Held(min(int.from_bytes(head[8:16], "little"), size), size * _PER_BYTE)


def check_shards(folder: Path) -> None:
    """Hold the shards that an index names to the folder: nothing else is opened on its word.

    Raises:
        BitnetError: the index is damaged, or names a file elsewhere.
    """
    for index in folder.glob("*.index.json"):
        try:
            named = set(json.loads(read_small(index))["weight_map"].values())
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise BitnetError(f"{index} is no index of weights ({first_line(error)}): save the model again.") from error
        for name in named:
            if not isinstance(name, str) or Path(name).name != name:
                told = shortened(str(name))
                raise BitnetError(f"{index} names the file {told}, which is not in its folder: save the model again.")


def check_declared(named: Path, config: PretrainedConfig, held: Held) -> None:
    """Build the model without its weights, and count.

    Raises:
        BitnetError: `config`, that of the model `named`, describes more than its files hold.
    """
    for name in _LAYER_COUNTS:
        count = getattr(config, name, None)
        if isinstance(count, int) and count > max(held.tensors, 1):
            raise BitnetError(
                f"The configuration of {named} has {name} = {count}, but its files hold {held.tensors} tensors: "
                "its config and its weights do not belong together."
            )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    described = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
    if described > _FACTOR * held.weights + _SMALL:
        raise BitnetError(
            f"The configuration of {named} describes {described} parameters, but its files have room for "
            f"{held.weights}: its config and its weights do not belong together."
        )
