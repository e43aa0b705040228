"""Causal language models from folders and GGUF files through transformers: quietly, strictly, and never by pickle.

transformers fills weights that a checkpoint lacks with random ones and leaves out those that it has no place for, each
time with a mere log line; here both are errors. Code that comes with a model is never run.
"""

import contextlib
import io
import json
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from bitnet.checkpoint import read_json
from bitnet.declared import Held, check_declared, check_shards, held_in_gguf, held_in_safetensors
from bitnet.errors import BitnetError, first_line

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""A folder without any of these has no tokenizer, though some tokenizer classes would then start out empty."""

SPLITS_DIGITS = (b"smollm",)
"""Names of GGUF pre-tokenizers that part every digit from its neighbours, which transformers does not know of."""
_PRE_TOKENIZER_KEY = b"tokenizer.ggml.pre"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and its log below errors, and restores both afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in evaluation mode, and the tokenizer of a Hugging Face folder (config, safetensors, tokenizer).

    Raises `BitnetError`, naming the folder and what is wrong in it, unless it is complete and nothing is left over.
    """
    check_config(path)
    check_shards(path)
    with quiet():
        model = _load_model(path, path, dtype, held_in_safetensors(sorted(path.glob("*.safetensors"))))
        return model, load_folder_tokenizer(path)


def load_folder_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder; a BitnetError if there is none that can be read."""
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise BitnetError(f"{path} has no tokenizer: save the model's tokenizer into the folder.")
    return _load_tokenizer(path, path)


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a GGUF file with its weights dequantized, in evaluation mode, and the tokenizer inside the file.

    Raises `BitnetError` for a damaged file, and for an architecture that transformers cannot read from GGUF.
    """
    # The reader draws a progress bar that no setting of transformers switches off.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        loaded = _load_model(path.parent, path, dtype, held_in_gguf(path), gguf_file=path.name)
        tokenizer = _load_tokenizer(path.parent, path, gguf_file=path.name)
    if _pre_tokenizer(path) in SPLITS_DIGITS:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    settings = loaded.config.to_dict()
    # The weights are plain floats by now; as long as the config says otherwise the model cannot be saved.
    settings.pop("quantization_config", None)
    with torch.random.fork_rng():  # the caller's random numbers do not depend on how a model was stored
        model = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(settings), dtype=dtype)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    return model.eval(), tokenizer


def save_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write a model and its tokenizer into the existing folder `path`, as `load_folder` reads it."""
    with quiet():
        model.save_pretrained(path)
        save_tokenizer(tokenizer, path)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write a tokenizer's files into the existing folder `path`; none of the names that it brings leads elsewhere.

    tokenizer.json, which can be a twentieth of a packed model's bytes, is written without the spaces in it.

    Raises:
        BitnetError: transformers refuses to save it, as it does with chat templates whose names are paths.
    """
    try:
        tokenizer.save_pretrained(path)
    except ValueError as error:
        raise BitnetError(f"The tokenizer cannot be saved ({first_line(error)}): correct its settings.") from error
    fast = path / "tokenizer.json"
    if fast.is_file():
        content = json.loads(fast.read_text(encoding="utf-8"))
        fast.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def check_config(path: Path) -> None:
    """Refuse, with a BitnetError, a folder that is not one of a causal language model in safetensors."""
    if not (path / "config.json").is_file():
        raise BitnetError(f"{path} has no config.json: give the folder that save_pretrained wrote.")
    config = read_json(path / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BitnetError(
            f"{path} has the model_type {kind!r}: only causal language models of transformers can be read."
        )
    if not any(path.glob("*.safetensors")):
        raise BitnetError(f"{path} has no safetensors weights: save the model again with save_pretrained.")


def _load_model(folder: Path, named: Path, dtype: torch.dtype, held: Held, **options: Any) -> PreTrainedModel:
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(str(folder), **safe, **options)
        check_declared(named, config, held)
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            **safe,
            ignore_mismatched_sizes=True,  # they are in the report, with their names
            output_loading_info=True,
            **options,
        )
    except BitnetError:
        raise
    except Exception as error:  # whatever a third-party reader makes of a damaged file
        raise BitnetError(f"Cannot load the model {named} ({first_line(error)}): check that it is complete.") from error
    _check_report(named, type(model).__name__, report)
    return model.eval()


def _pre_tokenizer(path: Path) -> bytes | None:
    """The name in a GGUF file of the rule that splits text into words, if there is one.

    An entry is the key's length (uint64), the key, the type (uint32, 8 for text), the text's length and the text. It
    is looked for as bytes, because reading all entries takes seconds.
    """
    entry = struct.pack("<Q", len(_PRE_TOKENIZER_KEY)) + _PRE_TOKENIZER_KEY + struct.pack("<I", 8)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(entry)
        if start < 0:
            return None
        start += len(entry)
        (length,) = struct.unpack_from("<Q", content, start)
        return content[start + 8 : start + 8 + length]


def _check_report(named: Path, architecture: str, report: dict[str, Any]) -> None:
    """Every weight of the architecture is in the checkpoint, in the right shape, and no other is."""
    for name, stored, expected in report["mismatched_keys"]:
        shapes = f"{tuple(stored)} instead of {tuple(expected)}"
        raise BitnetError(f"{named} has {name} in shape {shapes}: its config and its weights do not belong together.")
    for keys, problem in (("missing_keys", "lacks"), ("unexpected_keys", "has, beside the weights of the model,")):
        names = sorted(report[keys])
        if names:
            rest = f" and {len(names) - 1} more" if names[1:] else ""
            raise BitnetError(f"{named} {problem} {names[0]}{rest}: save the whole {architecture}, head included.")


def _load_tokenizer(folder: Path, named: Path, **options: Any) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # whatever a third-party reader makes of a damaged file
        reason = first_line(error)
        raise BitnetError(f"Cannot load the tokenizer of {named} ({reason}): check that it is complete.") from error
