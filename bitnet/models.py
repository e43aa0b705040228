"""Models by the names that users give them: a built-in name, a folder, a GGUF file, a packed folder or a hub id."""

import difflib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.artifacts import load_packed
from bitnet.builtin import BUILTIN, materialise
from bitnet.errors import BitnetError, first_line
from bitnet.huggingface import load_folder, load_gguf
from bitnet.lending import is_lent, lent
from bitnet.packed_manifest import is_packed
from bitnet.streamed_folder import load_streamed

Kind = Literal["builtin", "folder", "gguf", "hub", "packed"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""OWNER/NAME, as the Hugging Face hub has them."""
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Config, weights and tokenizer; never pickled weights, never code."""
GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model in evaluation mode, its tokenizer, and where they come from.

    `source` is what the user wrote, `path` the folder or the .gguf file that was read.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path
    source: str
    kind: Kind

    @property
    def streamed(self) -> bool:
        """Whether the weights stay on disk but for the layer that runs."""
        return is_lent(self.model)


def load_model(source: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load the model that `source` names; a built-in name comes before a file or folder of the same name.

    A packed folder gives the model that runs on its packed codes, which is always in float32.

    Raises:
        BitnetError: nothing has that name, the hub cannot be reached, or the model cannot be read or is incomplete.
    """
    if source in BUILTIN:
        return _loaded(load_folder, materialise(source), dtype, source, "builtin")
    path = Path(source)
    try:
        is_folder, exists = path.is_dir(), path.exists()
        if exists and not is_folder:
            _check_gguf(path)
    except OSError as error:
        raise BitnetError(f"Cannot read the model {source} ({error.strerror}): give a readable one.") from error
    if exists:
        return _from_folder(path, dtype, source) if is_folder else _loaded(load_gguf, path, dtype, source, "gguf")
    if HUB_ID.fullmatch(source):
        return _from_hub(dtype, source)
    raise BitnetError(f"There is no model '{source}': {_accepted(source)}.")


def stream_model(source: str) -> LoadedModel | None:
    """The model of a folder in float32 with its weights left on disk; None for what is no folder of safetensors.

    Raises:
        BitnetError: the folder cannot be read or is incomplete.
    """
    path = streamable(source)
    if path is None:
        return None
    return _loaded(lambda folder, _: load_streamed(folder), path, torch.float32, source, "folder")


def streamable(source: str) -> Path | None:
    """The folder of safetensors that `source` is, if it is one and no packed one."""
    path = Path(source)
    if source in BUILTIN or not path.is_dir() or is_packed(path) or not any(path.glob("*.safetensors")):
        return None
    return path


def check_weights(model: nn.Module) -> None:
    """Raises `BitnetError` naming the first parameter or buffer of `model` that holds NaN or infinity."""
    for prefix, module in model.named_modules():
        with lent(module):
            own = itertools.chain(module.named_parameters(prefix, False), module.named_buffers(prefix, False))
            for name, tensor in own:
                # A sum is much faster than a mask; only where it is not finite (or has overflowed) each value decides.
                if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                    raise BitnetError(
                        f"The weight '{name}' holds NaN or infinite values: give a model with finite weights."
                    )


def count_parameters(model: nn.Module) -> int:
    """Parameters of a full-precision model; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _from_folder(path: Path, dtype: torch.dtype, source: str) -> LoadedModel:
    if is_packed(path):
        if dtype != torch.float32:
            raise BitnetError(f"{source} is a packed model, which runs in float32 only: leave the dtype out.")
        compressed, tokenizer = load_packed(path)
        return LoadedModel(compressed.model, tokenizer, path, source, "packed")
    parts = [path / part for part in ("packed", "fp16") if (path / part / "config.json").is_file()]
    if parts and not (path / "config.json").is_file():
        named = " or ".join(map(str, parts))
        raise BitnetError(f"{source} is the output folder of a run, not a model: give {named}.")
    return _loaded(load_folder, path, dtype, source, "folder")


def _from_hub(dtype: torch.dtype, source: str) -> LoadedModel:
    try:
        # Only files at the top: repositories keep copies in other formats in folders of their own.
        path = Path(snapshot_download(source, allow_patterns=HUB_FILES, ignore_patterns="*/*"))
    except Exception as error:  # whatever the hub's client makes of networks, refusals and its cache
        raise BitnetError(
            f"There is no file or folder '{source}', and the hub gives no such model ({first_line(error)}): "
            f"{_accepted(source)}."
        ) from error
    try:
        return _loaded(load_folder, path, dtype, source, "hub")
    except BitnetError as error:
        raise BitnetError(f"The hub's model {source} cannot be used: {error}") from error


def _loaded(
    load: Callable[[Path, torch.dtype], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    path: Path,
    dtype: torch.dtype,
    source: str,
    kind: Kind,
) -> LoadedModel:
    model, tokenizer = load(path, dtype)
    return LoadedModel(model, tokenizer, path, source, kind)


def _check_gguf(path: Path) -> None:
    with path.open("rb") as stream:
        magic = stream.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise BitnetError(f"{path} is not a GGUF file: give a .gguf file or the folder of a Hugging Face model.")


def _accepted(source: str) -> str:
    """What could be given instead of `source`, the likeliest slip first."""
    near = difflib.get_close_matches(source.lower(), BUILTIN, n=1)
    hint = f"did you mean {near[0]}? A model is" if near else "a model is"
    return f"{hint} a Hugging Face folder, a .gguf file, a hub id (OWNER/NAME) or one of {', '.join(BUILTIN)}"
