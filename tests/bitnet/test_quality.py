import math

import pytest

from bitnet.quality import (
    EXPLANATIONS,
    Gate,
    Measurements,
    gates,
    recovery_triggered,
    relative_drop,
    relative_increase,
    succeeded,
)

GOOD = Measurements(
    perplexity_before=100.0,
    perplexity_after=110.0,
    accuracy_before=0.5,
    accuracy_after=0.45,
    compression_ratio=8.0,
    gradient_flow=1.0,
    dequantized_fraction=1.0,
    agreement=0.995,
    nonfinite=0,
)


def outcome(**changes):
    measured = Measurements(**{**vars(GOOD), **changes})
    return {gate.name: gate.passed for gate in gates(measured, max_accuracy_drop=0.1, compression_target=8.0)}


def test_every_gate_passes_exactly_at_its_limit():
    assert outcome() == dict.fromkeys(EXPLANATIONS, True)


def test_every_gate_says_what_it_holds_to_what():
    decided = gates(GOOD, max_accuracy_drop=0.1, compression_target=8.0)
    assert {gate.name: gate.explanation for gate in decided} == EXPLANATIONS
    assert [(gate.name, gate.measured, gate.comparison, gate.limit) for gate in decided] == [
        ("perplexity_increase", 0.1, "<=", 0.1),
        ("accuracy_drop", 0.1, "<=", 0.1),
        ("compression_ratio", 8.0, ">=", 8.0),
        ("gradient_flow", 1.0, ">=", 1.0),
        ("dequantization", 1.0, ">=", 1.0),
        ("agreement", 0.995, ">=", 0.995),
        ("finiteness", 0.0, "<=", 0.0),
    ]


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("perplexity_increase", {"perplexity_after": 110.0000001}),
        ("accuracy_drop", {"accuracy_after": 0.4499999}),
        ("compression_ratio", {"compression_ratio": 7.9999999}),
        ("gradient_flow", {"gradient_flow": 0.99}),
        ("dequantization", {"dequantized_fraction": 1 - 1e-9}),
        ("agreement", {"agreement": 0.9949}),
        ("finiteness", {"nonfinite": 1}),
    ],
)
def test_just_past_its_limit_only_that_gate_fails(gate, change):
    assert [name for name, passed in outcome(**change).items() if not passed] == [gate]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
@pytest.mark.parametrize("field", [name for name in vars(GOOD) if name != "nonfinite"])
def test_a_missing_or_non_finite_figure_never_passes(field, missing):
    results = outcome(**{field: missing})
    assert sum(not passed for passed in results.values()) == 1


def test_nonfinite_values_that_were_not_counted_do_not_pass():
    assert outcome(nonfinite=None)["finiteness"] is False


@pytest.mark.parametrize("comparison", ["<=", ">="])
def test_a_limit_that_is_not_a_number_passes_nothing(comparison):
    assert not Gate("g", 1.0, math.nan, comparison, "").passed


def test_an_improved_model_passes_both_quality_gates():
    results = outcome(perplexity_after=90.0, accuracy_after=0.6)
    assert results["perplexity_increase"]
    assert results["accuracy_drop"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(100.0, 110.0, 0.1), (20.1, 22.11, 0.1), (30.0, 33.0, 0.1), (0.7, 0.735, 0.05), (20.0, 20.0, 0.0)],
)
def test_relative_increase_is_exact_in_the_decimals_shown(before, after, expected):
    assert relative_increase(before, after) == expected


@pytest.mark.parametrize("before", [0.0, -1.0, math.nan, None])
def test_relative_increase_needs_a_positive_denominator(before):
    assert relative_increase(before, 1.0) is None


def test_no_drop_is_a_plain_zero():
    assert math.copysign(1, relative_drop(0.5, 0.5)) == 1.0
    assert relative_drop(None, 0.5) is None


def test_recovery_is_triggered_strictly_above_the_trigger():
    assert not recovery_triggered(20.0, 21.0, 0.05)
    assert recovery_triggered(20.0, 21.000001, 0.05)
    assert recovery_triggered(20.0, math.inf, 0.05)
    assert not recovery_triggered(20.0, 19.0, 0.05)


def test_success_is_every_gate_and_a_reproduced_output():
    passed, missed = Gate("a", 1.0, 1.0, "<=", ""), Gate("b", None, 1.0, "<=", "")
    assert succeeded([passed, passed], reproduced=True)
    assert not succeeded([passed, missed], reproduced=True)
    assert not succeeded([passed], reproduced=False)
