"""The capabilities that put a subject's models into other libraries' hands: transformers, llama.cpp and lm-eval.

What other libraries make of a packed artefact is measured with those libraries; the subject only writes or registers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol, runtime_checkable

EXPORT_TARGETS: Final = ("huggingface", "gguf", "gguf-f16")
"""Transformers' own `bitnet` format; GGUF in ternary types where they fit; GGUF in F16 throughout."""


@runtime_checkable
class RegistersWithTransformers(Protocol):
    """Its packed artefacts load through `AutoModelForCausalLM.from_pretrained` once a module has been imported."""

    @property
    def registering_module(self) -> str:
        """The name of that module, whose import loads neither torch nor transformers."""
        ...


@runtime_checkable
class ExportsModels(Protocol):
    """Writes packed artefacts in the formats of other programs."""

    @property
    def export_targets(self) -> tuple[str, ...]:
        """Those of `EXPORT_TARGETS` that it has."""
        ...

    def pack_for_export(self, model_folder: Path, target: str, out: Path) -> Path:
        """Compress a Hugging Face folder, without calibration or recovery, so that the target can hold the result.

        The packed artefact is made in `out`, which does not exist yet, and returned. For "gguf" each output channel
        has a scale of its own.
        """
        ...

    def export(self, packed: Path, target: str, out: Path) -> None:
        """Write a packed artefact as the new file or folder `out`.

        Raises, and leaves nothing behind, where the target cannot hold the weights exactly. A reciprocal of a scale
        may be rounded to float32.
        """
        ...


@runtime_checkable
class RunsInLmEval(Protocol):
    """lm-eval knows its packed artefacts by name, and tasks that need no network."""

    @property
    def lm_eval_model(self) -> tuple[str, str]:
        """The name that `--model` is given, and the argument in `--model_args` that takes the artefact."""
        ...

    @property
    def lm_eval_command(self) -> tuple[str, ...]:
        """The words that start lm-eval's command line with everything registered."""
        ...

    @property
    def task_folder(self) -> Path:
        """The folder that `--include_path` is given to know the local tasks by name."""
        ...

    @property
    def local_tasks(self) -> tuple[str, str]:
        """The names of two tasks of multiple choice.

        The first asks for names that the standard library documents. The documents of the second have `text`,
        `choices` and `answer`: words of the text, of which the one is right that followed the last word before.
        """
        ...
