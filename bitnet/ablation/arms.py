"""The arms of the ablation, as data: what is changed against the default settings, one thing at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Arm(NamedTuple):
    """One combination of settings; `control` trains the full-precision model instead of a compressed one."""

    table: str
    name: str
    settings: Mapping[str, Any]
    control: bool = False


UNTRAINED = {"fine_tune_steps": 0}
#: Learning rates at which each optimizer does well, so that none is compared at another's.
RATES = {"mugrokfast": 3e-3, "adamw": 3e-3}
LEARNING_RATES = (1e-5, 1e-4, 1e-3, 3e-3, 6e-3)


def arms() -> tuple[Arm, ...]:
    """All arms, the quick ones first."""
    untrained = (*_rules(), *_compensation(), *_texts(), *_tables(), *_smoothing(), *_reconstruction())
    return (*untrained, *_optimizers(), *_losses(), *_rates(), *_modes(), *_seeds(), *_controls())


def _rules() -> Iterator[Arm]:
    """Rules without training; the audit's threshold at both ends of its range."""
    rules: dict[str, dict[str, Any]] = {
        "threshold 0.05": {"rule": "threshold", "sparsity_threshold": 0.05},
        "threshold 0.20": {"rule": "threshold", "sparsity_threshold": 0.20},
        "absmean": {"rule": "absmean"},
        "optimal": {"rule": "optimal"},
    }
    for name, settings in rules.items():
        for granularity in ("channel", "group"):
            groups = {"granularity": granularity, "group_size": 64}
            yield Arm("rule x group", f"{name}, {granularity}", {**settings, **groups, **UNTRAINED})


def _compensation() -> Iterator[Arm]:
    for planes in (1, 2, 3):
        for compensation in ("none", "sequential"):
            for granularity in ("channel", "group"):
                settings = {"planes": planes, "compensation": compensation, "granularity": granularity}
                name = f"{planes} plane{'s'[: planes > 1]}, {compensation}, {granularity}"
                yield Arm("compensation x planes", name, {**settings, "group_size": 64, **UNTRAINED})


def _texts() -> Iterator[Arm]:
    """What compensation reads: text of the model's own, the training part of Python's language reference, or both."""
    for planes in (1, 2, 3):
        for source, name in (("model", "the model's own"), ("text", "the default text"), ("both", "half of each")):
            settings = {"planes": planes, "compensation": "sequential", "granularity": "group", "group_size": 64}
            arm = f"{planes} plane{'s'[: planes > 1]}, {name}"
            yield Arm("text of compensation", arm, {**settings, "compensation_source": source, **UNTRAINED})


def _tables() -> Iterator[Arm]:
    """How embedding and head are stored: without compensation "int6" takes the nearest codes."""
    for compensation in ("none", "sequential"):
        for dtype in ("float16", "int8", "int6"):
            settings = {"planes": 3, "compensation": compensation, "granularity": "group", "group_size": 64}
            yield Arm("tables", f"{dtype}, {compensation}", {**settings, "embedding_dtype": dtype, **UNTRAINED})


def _smoothing() -> Iterator[Arm]:
    """Features made alike before int8 rounds them, with compensation in groups of 64."""
    for planes in (1, 3):
        for strength in (0.0, 0.25, 0.5, 0.75):
            settings = {"planes": planes, "compensation": "sequential", "granularity": "group", "group_size": 64}
            name = f"{planes} plane{'s'[: planes > 1]}, strength {strength:g}"
            yield Arm("smoothing", name, {**settings, "smoothing": strength, **UNTRAINED})


def _reconstruction() -> Iterator[Arm]:
    """Blocks trained after compensation in groups of 64, to be held against the same without."""
    for planes in (1, 2):
        for steps, rate in ((50, 1e-3), (200, 3e-4), (200, 1e-3), (200, 3e-3)):
            settings = {"planes": planes, "compensation": "sequential", "granularity": "group", "group_size": 64}
            trained = {"reconstruction_steps": steps, "reconstruction_lr": rate, "reconstruction_batch_size": 8}
            name = f"{planes} plane{'s'[: planes > 1]}, {steps} steps, {rate:g}"
            yield Arm("reconstruction", name, {**settings, **trained, **UNTRAINED})


def _optimizers() -> Iterator[Arm]:
    for optimizer, rate in RATES.items():
        for strength in (0.0, 2.0):
            name = f"{'Muon' if optimizer == 'mugrokfast' else 'AdamW'}, {'Grokfast' if strength else 'plain'}"
            settings = {"fine_tune_optimizer": optimizer, "fine_tune_lr": rate, "grokfast_lambda": strength}
            yield Arm("optimizer x Grokfast", name, settings)


def _losses() -> Iterator[Arm]:
    for share in (0.0, 0.5, 1.0):
        yield Arm("loss", f"{share:g} distillation", {"distillation": share})
    yield Arm("loss", "hidden states as well", {"hidden_distillation": 1.0})


def _rates() -> Iterator[Arm]:
    for optimizer in RATES:
        for rate in LEARNING_RATES:
            settings = {"fine_tune_optimizer": optimizer, "fine_tune_lr": rate}
            yield Arm("learning rate", f"{optimizer}, {rate:g}", settings)
    yield Arm("learning rate", "the audit's recipe", {"recovery_recipe": "audit"})


def _modes() -> Iterator[Arm]:
    for mode in ("scales", "last_mile"):
        settings = {"fine_tune_mode": mode, "fine_tune_optimizer": "adamw", "fine_tune_lr": 1e-3}
        yield Arm("what is trained", mode, settings)
    yield Arm("what is trained", "quantized step by step", {"gradual_quantization": 0.5})
    for rate in (1e-3, 3e-3):
        settings = {"compensation": "sequential", "fine_tune_lr": rate}
        yield Arm("what is trained", f"after compensation, {rate:g}", settings)


def _seeds() -> Iterator[Arm]:
    """The defaults, started from other random numbers: what is nearer together than these is no difference."""
    for seed in (0, 1, 2):
        yield Arm("seed", f"seed {seed}", {"seed": seed})


def _controls() -> Iterator[Arm]:
    """Full precision, trained on for as many steps on the text, by what serves it best of these."""
    for rate in (1e-4, 1e-3):
        settings = {"fine_tune_optimizer": "adamw", "fine_tune_lr": rate, "distillation": 0.0}
        yield Arm("control", f"full precision, AdamW {rate:g}", settings, control=True)
