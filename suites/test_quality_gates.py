"""Quality gates: what passes at a limit, what does not, and that success is every gate and nothing less."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from itertools import product
from typing import Any, Final

import pytest

from harness.subject import GATES, DecidesGates, GateDecision, GateMeasurements, Subject, require

DROP, TARGET = 0.10, 8.0
HAIR = 1e-9  # "just" inside or outside a limit, relative: far above rounding, far below any figure's own precision

PASSING: Final = GateMeasurements(
    perplexity_before=20.0,
    perplexity_after=21.0,
    accuracy_before=0.40,
    accuracy_after=0.39,
    compression_ratio=9.0,
    gradient_flow=1.0,
    dequantized_fraction=1.0,
    agreement=1.0,
    nonfinite=0,
    reproduced=True,
)


@dataclass(frozen=True)
class Limit:
    """The figure that one gate looks at: values that pass, the one exactly at the limit first, and one that fails."""

    figure: str
    passing: tuple[float, ...]
    failing: float


LIMITS: Final = {
    "perplexity_increase": Limit("perplexity_after", (22.0, 22.0 * (1 - HAIR), 20.0, 12.0), 22.0 * (1 + HAIR)),
    "accuracy_drop": Limit("accuracy_after", (0.36, 0.36 * (1 + HAIR), 0.40, 0.80), 0.36 * (1 - HAIR)),
    "compression_ratio": Limit("compression_ratio", (TARGET, TARGET * (1 + HAIR), 16.0), TARGET * (1 - HAIR)),
    "gradient_flow": Limit("gradient_flow", (1.0,), 209 / 210),
    "dequantization": Limit("dequantized_fraction", (1.0,), 1 - HAIR),
    "agreement": Limit("agreement", (0.995, 0.995 * (1 + HAIR), 1.0), 0.995 * (1 - HAIR)),
    "finiteness": Limit("nonfinite", (0,), 1),
}
MEASURED: Final = tuple(field.name for field in fields(GateMeasurements) if field.name != "reproduced")

gates_row = pytest.mark.criterion("2.quality-gates")
drop_rows = pytest.mark.criterion("2.quality-gates", "3.max-accuracy-drop")
trigger_row = pytest.mark.criterion("3.fine-tune-trigger")
each_gate = pytest.mark.parametrize("gate", GATES)


def but_for(**values: Any) -> GateMeasurements:
    """Measurements that pass every gate, but for the ones given."""
    return replace(PASSING, **values)


def decide(subject: Subject, measured: GateMeasurements, drop: float = DROP, target: float = TARGET) -> GateDecision:
    return require(subject, DecidesGates).decide_gates(measured, drop, target)


def failed(decision: GateDecision) -> set[str]:
    """The gates that did not pass; a gate that the subject does not have is an error."""
    return {gate for gate in GATES if decision.passed[gate] is not True}


# --------------------------------------------------------------------------- limits


@gates_row
@each_gate
def test_a_figure_at_its_limit_and_inside_it_passes(subject: Subject, gate: str) -> None:
    for value in LIMITS[gate].passing:
        decision = decide(subject, but_for(**{LIMITS[gate].figure: value}))
        assert failed(decision) == set(), f"{LIMITS[gate].figure} = {value}"
        assert decision.success is True


@gates_row
@each_gate
def test_a_figure_just_outside_its_limit_fails_that_gate_alone(subject: Subject, gate: str) -> None:
    decision = decide(subject, but_for(**{LIMITS[gate].figure: LIMITS[gate].failing}))
    assert failed(decision) == {gate}
    assert decision.success is False


@drop_rows
@pytest.mark.parametrize("percent", [0, 1, 5, 7, 10, 25, 33, 100])
def test_exactly_the_allowed_drop_passes(subject: Subject, percent: int) -> None:
    """Of figures written as decimals: 22.11 is 10 % above 20.1 although a division of floats may say a little more."""
    for cents in range(101, 6_000, 47):
        perplexity, accuracy = Decimal(cents) / 100, Decimal(cents % 100 + 1) / 100
        measured = but_for(
            perplexity_before=float(perplexity),
            perplexity_after=float(perplexity * (100 + percent) / 100),
            accuracy_before=float(accuracy),
            accuracy_after=float(accuracy * (100 - percent) / 100),
        )
        assert failed(decide(subject, measured, drop=percent / 100)) == set(), f"{measured}"


@drop_rows
@pytest.mark.parametrize("gate", ["perplexity_increase", "accuracy_drop"])
def test_the_configured_drop_is_the_limit(subject: Subject, gate: str) -> None:
    """A drop of 10 % passes where 10 or 25 % are allowed, and not where 9.9 % or nothing is."""
    measured = but_for(**{LIMITS[gate].figure: LIMITS[gate].passing[0]})
    for drop, allowed in ((0.25, True), (0.10, True), (0.099, False), (0.0, False)):
        assert decide(subject, measured, drop=drop).passed[gate] is allowed, f"limit {drop}"


@pytest.mark.criterion("2.quality-gates", "3.compression-target")
def test_the_configured_compression_target_is_the_limit(subject: Subject) -> None:
    for target, allowed in ((6.0, True), (9.0, True), (9.1, False), (12.0, False)):
        assert decide(subject, PASSING, target=target).passed["compression_ratio"] is allowed, f"target {target}"


# --------------------------------------------------------------------------- what was not measured


@gates_row
@pytest.mark.parametrize("figure", MEASURED)
def test_a_figure_that_was_not_measured_never_passes(subject: Subject, figure: str) -> None:
    """None, NaN and both infinities: comparisons with NaN are false, and that must not let a gate pass."""
    unusable = [None, math.nan, math.inf, -math.inf]
    for value in unusable[:1] if figure == "nonfinite" else unusable:
        decision = decide(subject, but_for(**{figure: value}))
        assert failed(decision), f"{figure} = {value} passed"
        assert decision.success is False


# --------------------------------------------------------------------------- success


@gates_row
def test_success_is_every_gate_and_a_reproduced_output(subject: Subject) -> None:
    """All combinations of gates that pass, fail and could not be measured."""
    for states in product(("pass", "fail", "missing"), repeat=len(GATES)):
        chosen = dict(zip(GATES, states, strict=True))
        values = {LIMITS[gate].figure: _value(LIMITS[gate], state) for gate, state in chosen.items()}
        expected = {gate for gate, state in chosen.items() if state != "pass"}
        for reproduced in (True, False):
            decision = decide(subject, but_for(reproduced=reproduced, **values))
            assert failed(decision) == expected
            assert decision.success is (reproduced and not expected), f"{expected} failed, reproduced: {reproduced}"


def _value(limit: Limit, state: str) -> float | None:
    return {"pass": limit.passing[0], "fail": limit.failing, "missing": None}[state]


# --------------------------------------------------------------------------- the trigger of recovery


@trigger_row
@pytest.mark.parametrize(
    ("before", "at_trigger", "trigger"), [(100.0, 105.0, 0.05), (20.1, 21.105, 0.05), (8.0, 12.0, 0.5)]
)
def test_recovery_starts_strictly_above_the_trigger(
    subject: Subject, before: float, at_trigger: float, trigger: float
) -> None:
    triggered = require(subject, DecidesGates).recovery_triggered
    for after, expected in (
        (before / 2, False),
        (before, False),
        (at_trigger * (1 - HAIR), False),
        (at_trigger, False),
        (at_trigger * (1 + HAIR), True),
        (before * 1e6, True),
    ):
        assert triggered(before, after, trigger) is expected, f"{before} to {after}"


@trigger_row
def test_a_model_that_gives_no_perplexity_is_not_left_as_it_is(subject: Subject) -> None:
    """NaN is above no trigger; taking that for "no recovery needed" would hand on a broken model."""
    triggered = require(subject, DecidesGates).recovery_triggered
    for after in (math.nan, math.inf):
        assert triggered(20.0, after, 0.05) is True, f"20 to {after}"
