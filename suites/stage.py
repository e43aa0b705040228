"""A pytest plugin that sets a suite up for small subjects: `pytest -p harness.plugin -p suites.stage --prop NAME ...`.

The suites are made for real implementations. Shown to mutants, of which there are hundreds, they are given small models
(`--model wide`, by the names in `MODELS`), fewer examples, and props: shorter texts, a clock that counts forward passes
in place of the machine's, an instrument that measures wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import hypothesis
import pytest
import torch
from transformers import PreTrainedModel

import harness.plugin
from suites.exports import save_wide_model
from suites.props import PROPS
from suites.small_architectures import save_small_model
from suites.small_models import save_random_llama

EXAMPLES: Final = 12
"""Instead of 50: a defect that a dozen examples find is found by fifty."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a stage."""
    group = parser.getgroup("bitnet-audit-stage", "small subjects")
    group.addoption("--prop", action="append", default=[], help=f"repeatable; one of {', '.join(PROPS)}")
    group.addoption("--prop-folder", type=Path, default=None, help="where small models are made, once")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the small models that are asked for, and let hypothesis stop at the first example that fails."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setitem(harness.plugin.HYPOTHESIS_EXAMPLES, "quick", EXAMPLES)
    patch.setitem(harness.plugin.HYPOTHESIS_EXAMPLES, "full", EXAMPLES)
    before = hypothesis.settings.get_current_profile_name()
    config.add_cleanup(lambda: hypothesis.settings.load_profile(before))
    # Shrinking a failure costs more than everything else.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("stage", phases=phases)
    hypothesis.settings.load_profile("stage")
    names, folder = config.getoption("--model") or [], config.getoption("--prop-folder")
    config.option.model = [str(small_model_folder(name, folder)) if name in MODELS else name for name in names] or None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Put the props in place, now that the modules that they change have been imported."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in config.getoption("--prop"):
        if name not in PROPS:
            raise pytest.UsageError(f"there is no prop {name!r}; use one of {', '.join(PROPS)}")
        PROPS[name](patch, config)


# --------------------------------------------------------------------------- models


def small_model_folder(name: str, root: Path) -> Path:
    """The folder of a small model below `root`, made when it is first asked for, by whichever process."""
    folder = root / name
    if not folder.is_dir():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_HUB_OFFLINE", "1")
            made = MODELS[name](root / f"{name}-{_own_number()}")
        try:
            made.rename(folder)
        except OSError:  # another process was faster, and its model is the same
            if not folder.is_dir():
                raise
    return folder


def _own_number() -> int:
    import os

    return os.getpid()


def _uneven(model: PreTrainedModel) -> None:
    """Some features are much larger than others, as in trained models."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layernorm.weight"):
                parameter.copy_(torch.linspace(-2, 2, len(parameter)).exp())


def _spread_norms(model: PreTrainedModel) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))


def _round_projections(model: PreTrainedModel) -> None:
    """Weights that compression gives back, so that all that is lost is lost by what comes after it."""
    with torch.no_grad():
        # Nearly uniform predictions: whatever goes wrong makes them worse.
        model.get_parameter("model.norm.weight").fill_(0.05)
        for name, parameter in model.named_parameters():
            if "proj" in name:
                parameter.copy_(0.3 * parameter.sign() * (parameter.abs() > 0.1))


MODELS: Final[Mapping[str, Callable[[Path], Path]]] = MappingProxyType(
    {
        "random": lambda folder: save_random_llama(folder, layers=1),
        "uneven": lambda folder: save_random_llama(folder, layers=1, change=_uneven),
        "wide": lambda folder: save_random_llama(folder, width=128),
        "narrow": lambda folder: save_random_llama(folder, change=_spread_norms),
        "ternary": lambda folder: save_random_llama(folder, change=_round_projections),
        "merging": save_wide_model,
        "untied": lambda folder: save_small_model(folder, "llama", tied=False),
    }
)
