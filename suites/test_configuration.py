"""Configuration: the audit's parameters, their defaults per model size, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from harness.subject import Configures, ReadsConfiguration, Subject, require
from suites.weights import rejected

NAN, INFINITY = float("nan"), float("inf")
MILLION, BILLION = 10**6, 10**9

FIXED_DEFAULTS: Final = {
    "quantization_bits": ("3.quantization-bits", 1.58),
    "fine_tune_lr": ("3.fine-tune-lr", 1e-5),
    "grokfast_lambda": ("3.grokfast-lambda", 2.0),
    "grokfast_alpha": ("3.grokfast-alpha", 0.98),
    "max_accuracy_drop": ("3.max-accuracy-drop", 0.10),
    "fine_tune_trigger": ("3.fine-tune-trigger", 0.05),
    "calibration_samples": ("3.calibration-samples", 1000),
}
OF_TRAINING: Final = {"fine_tune_lr", "grokfast_lambda", "grokfast_alpha"}
SIZE_TABLE: Final = {
    # size: (first and last parameter count that belongs to it, threshold, compression target, quality)
    "tiny": ((1, 50 * MILLION - 1), 0.05, 6.0, "conservative"),
    "small": ((50 * MILLION, 500 * MILLION - 1), 0.10, 8.0, "standard"),
    "medium": ((500 * MILLION, 2 * BILLION - 1), 0.15, 10.0, "aggressive"),
    "large": ((2 * BILLION, 10**13), 0.20, 12.0, "maximum"),
}
SETTABLE: Final = {
    "sparsity_threshold": ("3.sparsity-threshold", 0.33),
    "compression_target": ("3.compression-target", 7.5),
    "fine_tune_lr": ("3.fine-tune-lr", 3e-4),
    "grokfast_lambda": ("3.grokfast-lambda", 0.5),
    "grokfast_alpha": ("3.grokfast-alpha", 0.9),
    "max_accuracy_drop": ("3.max-accuracy-drop", 0.25),
    "fine_tune_trigger": ("3.fine-tune-trigger", 0.2),
    "calibration_samples": ("3.calibration-samples", 17),
}
OTHER: Final = {
    "sparsity_threshold": 0.07,
    "compression_target": 11.0,
    "fine_tune_lr": 2e-5,
    "grokfast_lambda": 1.0,
    "grokfast_alpha": 0.5,
    "max_accuracy_drop": 0.01,
    "fine_tune_trigger": 0.3,
    "calibration_samples": 40,
}
REFUSED: Final = {
    "quantization_bits": ("3.quantization-bits", (1, 2, 4, 8, 1.5, 0, -1.58, NAN, "1.58")),
    "sparsity_threshold": ("3.sparsity-threshold", (-0.01, 1.01, NAN, INFINITY, "low", True)),
    "compression_target": ("3.compression-target", (0.99, 0, -6.0, NAN, INFINITY, "8x")),
    "fine_tune_lr": ("3.fine-tune-lr", (0.0, -1e-5, NAN, INFINITY, None, "fast")),
    "grokfast_lambda": ("3.grokfast-lambda", (-0.1, NAN, INFINITY, None)),
    "grokfast_alpha": ("3.grokfast-alpha", (-0.01, 1.0, 1.5, NAN, None)),
    "max_accuracy_drop": ("3.max-accuracy-drop", (-0.1, NAN, INFINITY, None, "10%")),
    "fine_tune_trigger": ("3.fine-tune-trigger", (-0.05, NAN, INFINITY, None)),
    "calibration_samples": ("3.calibration-samples", (0, -1, 2.5, NAN, None, "many", True)),
}


def cases(table: Mapping[str, tuple[str, Any]], *also: str) -> pytest.MarkDecorator:
    """One test for each parameter of a table, giving evidence for that parameter's own row and the rows named."""
    return pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param(name, value, id=name, marks=pytest.mark.criterion(criterion, *also))
            for name, (criterion, value) in table.items()
        ],
    )


def size_cases() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "size", [pytest.param(size, id=size, marks=pytest.mark.criterion(f"3.size-{size}")) for size in SIZE_TABLE]
    )


def configure(subject: Subject, parameters: int, **user: Any) -> dict[str, Any]:
    return dict(require(subject, Configures).configure(parameters, **user))


# --------------------------------------------------------------------------- defaults


@cases(FIXED_DEFAULTS)
def test_default_is_the_audits(subject: Subject, name: str, value: float) -> None:
    """At every model size: only the two size-adaptive settings depend on it.

    A subject may declare a setting for training as the audit has it, where its own defaults follow measurements.
    """
    settings = subject.declaration.audit_settings if name in OF_TRAINING else {}
    for (first, last), *_ in SIZE_TABLE.values():
        for parameters in (first, last):
            assert configure(subject, parameters, **settings)[name] == value


@pytest.mark.criterion("2.size-adaptive", "3.sparsity-threshold", "3.compression-target")
@size_cases()
def test_size_table_holds_up_to_its_boundaries(subject: Subject, size: str) -> None:
    """The first and the last parameter count of the class, and one between them."""
    (first, last), threshold, target, quality = SIZE_TABLE[size]
    for parameters in (first, (first + last) // 2, last):
        settings = configure(subject, parameters)
        found = (settings["sparsity_threshold"], settings["compression_target"], settings["quality"])
        assert found == (threshold, target, quality), f"{parameters:,} parameters"


@pytest.mark.criterion("2.size-adaptive")
def test_larger_models_never_get_a_milder_setting(subject: Subject) -> None:
    """Ten sizes in each order of magnitude, from 1 to 10**13 parameters."""
    settings = [configure(subject, round(10 ** (step / 10))) for step in range(131)]
    for smaller, larger in pairwise(settings):
        for name in ("sparsity_threshold", "compression_target"):
            assert smaller[name] <= larger[name]


# --------------------------------------------------------------------------- the user's values


@pytest.mark.criterion("2.size-adaptive")
@cases(SETTABLE, "5.green.configuration-flexibility")
def test_a_users_value_is_never_overwritten(subject: Subject, name: str, value: float) -> None:
    """At every size, and without changing any other setting."""
    for (first, _), *_ in SIZE_TABLE.values():
        assert configure(subject, first, **{name: value}) == configure(subject, first) | {name: value}


@pytest.mark.criterion("2.size-adaptive", "5.green.configuration-flexibility")
def test_a_users_value_wins_even_where_it_equals_another_classs_default(subject: Subject) -> None:
    for (first, _), *_ in SIZE_TABLE.values():
        for _, threshold, target, _ in SIZE_TABLE.values():
            settings = configure(subject, first, sparsity_threshold=threshold, compression_target=target)
            assert (settings["sparsity_threshold"], settings["compression_target"]) == (threshold, target)


@cases(REFUSED, "5.green.configuration-flexibility", "A.bad-input")
def test_impossible_values_are_refused(subject: Subject, name: str, value: tuple[Any, ...]) -> None:
    """With a sentence that names the setting; also where the value is NaN, of another type or missing."""
    for each in value:
        with pytest.raises(ValueError, match=name):
            require(subject, Configures).reject(**{name: each})


@pytest.mark.criterion("5.green.configuration-flexibility")
@cases(SETTABLE)
def test_possible_values_are_accepted(subject: Subject, name: str, value: float) -> None:
    require(subject, Configures).reject(**{name: value})


@pytest.mark.criterion("5.green.configuration-flexibility")
def test_values_at_the_ends_of_their_ranges_are_accepted(subject: Subject) -> None:
    for name, value in [
        ("sparsity_threshold", 0.0),
        ("sparsity_threshold", 1.0),
        ("compression_target", 1.0),
        ("grokfast_lambda", 0.0),
        ("grokfast_alpha", 0.0),
        ("max_accuracy_drop", 0.0),
        ("fine_tune_trigger", 0.0),
        ("calibration_samples", 1),
        ("quantization_bits", 1.58),
    ]:
        require(subject, Configures).reject(**{name: value})
        assert configure(subject, MILLION, **{name: value})[name] == value


@pytest.mark.criterion("5.green.configuration-flexibility", "A.bad-input")
def test_an_unknown_setting_is_refused(subject: Subject) -> None:
    """A misspelt setting must not be dropped in silence."""
    with pytest.raises(ValueError, match="sparsity_treshold"):
        require(subject, Configures).reject(sparsity_treshold=0.1)


# --------------------------------------------------------------------------- files and overrides


@pytest.mark.criterion("5.green.configuration-flexibility")
@pytest.mark.parametrize("parameters", [MILLION, 3 * BILLION])
def test_a_written_configuration_reads_back_the_same(subject: Subject, parameters: int, tmp_path: Path) -> None:
    """Defaults, each setting alone and all of them; the size-adaptive ones stay open until the size is known."""
    files = require(subject, ReadsConfiguration)
    user = {name: value for name, (_, value) in SETTABLE.items()}
    for given_values in ({}, *({name: value} for name, value in user.items()), user):
        path = tmp_path / "settings.yaml"
        path.write_text(files.write_configuration(**given_values), encoding="utf-8")
        assert dict(files.read_configuration(parameters, path, [])) == configure(subject, parameters, **given_values)


@pytest.mark.criterion("5.green.configuration-flexibility")
@cases(SETTABLE)
def test_a_setting_given_as_text_wins_over_the_file(subject: Subject, name: str, value: float, tmp_path: Path) -> None:
    files = require(subject, ReadsConfiguration)
    path = tmp_path / "settings.yaml"
    path.write_text(files.write_configuration(**{name: OTHER[name]}), encoding="utf-8")
    for file in (None, path):
        settings = dict(files.read_configuration(MILLION, file, [f"{name}={value}"]))
        assert settings == configure(subject, MILLION, **{name: value})
        assert type(settings[name]) is type(value)


@pytest.mark.criterion("5.green.configuration-flexibility", "A.bad-input")
def test_bad_files_and_texts_are_refused(subject: Subject, tmp_path: Path) -> None:
    files = require(subject, ReadsConfiguration)
    path = tmp_path / "settings.yaml"
    for text in ("fine_tune_lr: -1\n", "no_such_setting: 1\n", "- a\n- list\n", "fine_tune_lr: [\n"):
        path.write_text(text, encoding="utf-8")
        rejected(files.read_configuration, MILLION, path, [])
    rejected(files.read_configuration, MILLION, tmp_path / "missing.yaml", [])
    for override in ("fine_tune_lr=-1", "no_such_setting=1", "fine_tune_lr", "=1", "calibration_samples=many"):
        rejected(files.read_configuration, MILLION, None, [override])
