"""Reference models that the suites measure on: loaded by plain transformers, never by the subject.

A module that asks for ``reference`` runs once per audited model. Models are loaded once per session and kept: loading
the larger one costs more than most checks.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

LARGE_PARAMETERS = 50_000_000
"""From here on a model is not "tiny" in the audit's table, and the quick profile measures it with smaller samples."""


@dataclass(frozen=True)
class ReferenceModel:
    """A full-precision model on disk, loaded in float32 when it is first asked for."""

    name: str
    folder: Path

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model in float32, in evaluation mode. Checks must not change it."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    @cached_property
    def in_float64(self) -> PreTrainedModel:
        """The same weights in float64, where the order of a sum decides nothing."""
        return copy.deepcopy(self.model).double()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def parameters(self) -> int:
        """Unique parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def large(self) -> bool:
        """Whether the quick profile has to be sparing with this model."""
        return self.parameters >= LARGE_PARAMETERS


def parametrize_reference(metafunc: pytest.Metafunc, names: tuple[str, ...]) -> None:
    """Run a check that asks for ``reference`` once per audited model."""
    if "reference" in metafunc.fixturenames:
        ids = [Path(name).name for name in names]
        metafunc.parametrize("reference", names, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def load_reference() -> Iterator[Callable[[str], ReferenceModel]]:
    """Give the reference model of a built-in name or a folder; the same object for the same name."""
    loaded: dict[str, ReferenceModel] = {}

    def load(name: str) -> ReferenceModel:
        if name not in loaded:
            loaded[name] = ReferenceModel(Path(name).name, _folder(name))
        return loaded[name]

    yield load
    loaded.clear()


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest, load_reference: Callable[[str], ReferenceModel]) -> ReferenceModel:
    """The audited model that this check runs on."""
    return load_reference(request.param)


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    from harness.subjects.bitnet import reference_model  # only built-in names need the code that makes them

    return reference_model(name)
