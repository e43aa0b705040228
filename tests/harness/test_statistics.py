"""Timing statistics: intervals cover what they should, order is random, and bad series are refused."""

import operator
import time

import numpy as np
import pytest

from harness.errors import AuditError
from harness.statistics import (
    Arm,
    Comparison,
    Interval,
    accuracy_difference,
    compare,
    interleave,
    paired_difference,
    perplexity_increase,
    ratio_interval,
)


def test_every_arm_runs_once_a_round_in_changing_order():
    calls: list[str] = []
    arms = [Arm(name, lambda name=name: calls.append(name)) for name in "abc"]
    times = interleave(arms, rounds=20, warmup=2, seed=3)
    assert {name: len(series) for name, series in times.items()} == {"a": 20, "b": 20, "c": 20}
    rounds = [tuple(calls[i : i + 3]) for i in range(6, len(calls), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 1


def test_an_arm_is_made_ready_before_each_run_and_not_timed():
    now = [0.0]
    arms = [Arm("a", lambda: now.append(1.0), ready=lambda: now.append(100.0)), Arm("b", lambda: now.append(2.0))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.statistics.time.perf_counter", lambda: sum(now))
        times = interleave(arms, rounds=5)
    assert times == {"a": [1.0] * 5, "b": [2.0] * 5}


def test_interval_covers_the_true_ratio_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        noise = rng.lognormal(0, 0.1, size=(2, 31))
        covered += ratio_interval(3.0 * noise[0], noise[1], seed=seed).straddles(3.0)
    assert covered >= 52  # a binomial with p = 0.95 falls below 52 of 60 less than once in 300 runs


def test_shared_disturbance_cancels_in_pairs():
    disturbance = np.linspace(1, 9, 15)
    interval = ratio_interval(2 * disturbance, disturbance)
    assert interval.value == pytest.approx(2.0)
    assert interval.low == pytest.approx(2.0)
    assert interval.high == pytest.approx(2.0)


def test_constant_times_give_a_point():
    assert ratio_interval([2.0] * 6, [1.0] * 6) == Interval(2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("numerator", "denominator", "fragment"),
    [
        ([1.0] * 4, [1.0] * 4, "at least 5 rounds"),
        ([1.0] * 6, [1.0] * 5, "one length"),
        ([1.0] * 5 + [float("nan")], [1.0] * 6, "not finite"),
        ([1.0] * 6, [1.0] * 5 + [0.0], "zero"),
    ],
)
def test_unusable_series_are_refused(numerator, denominator, fragment):
    with pytest.raises(AuditError, match=fragment):
        ratio_interval(numerator, denominator)


def test_too_few_rounds_and_twin_names_are_refused():
    with pytest.raises(AuditError, match="too few"):
        interleave([Arm("a", lambda: None)], rounds=1)
    with pytest.raises(AuditError, match="share one name"):
        interleave([Arm("a", lambda: None), Arm("a", lambda: None)], rounds=9)


def test_compare_reports_speedup_and_control(monkeypatch):
    """A clock that only the arms advance: the slow arm takes 4 s and the fast one 1 s, with a little jitter."""
    clock = {"now": 0.0}
    jitter = np.random.default_rng(2)

    def takes(seconds: float) -> str:
        clock["now"] += seconds * jitter.uniform(0.95, 1.05)
        return "the same"

    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    slow = Arm("slow", lambda: takes(4.0), {"threads": "1"})
    comparisons, times = compare(slow, [Arm("fast", lambda: takes(1.0))], 15, operator.eq)
    (comparison,) = comparisons
    assert (comparison.baseline, comparison.candidate) == ("slow", "fast")
    assert 3.6 < comparison.speedup.low <= comparison.speedup.value <= comparison.speedup.high < 4.4
    assert set(times) == {"slow", "slow (again)", "fast"}
    assert comparison.sound
    assert 0.9 < comparison.control.value < 1.1
    assert "as fast as slow (threads 1); A/A control" in str(comparison)
    biased = Comparison("slow", "fast", comparison.speedup, Interval(0.9, 0.85, 0.95), slow.settings)
    assert not biased.sound
    assert str(biased).endswith("which misses 1: no difference can be told")
    assert "as fast as slow;" in str(Comparison("slow", "fast", comparison.speedup, comparison.control))


def test_arms_with_different_outputs_are_not_timed():
    timed = []

    def other():
        timed.append(1)
        return 2

    with pytest.raises(AuditError, match="fast and slow give different outputs"):
        compare(Arm("slow", lambda: 1), [Arm("fast", other)], 9, operator.eq)
    assert timed == [1]


def test_series_that_are_not_paired_are_resampled_each_by_itself():
    drift = np.linspace(1, 2, 15)
    paired, single = ratio_interval(2 * drift, drift), ratio_interval(2 * drift, drift, paired=False)
    assert single.low < paired.low <= paired.high < single.high
    assert ratio_interval([2.0, 2.0, 2.1, 2.0, 1.9, 2.0], [1.0] * 5, paired=False).straddles(2.0)
    with pytest.raises(AuditError, match="at least 5 rounds"):
        ratio_interval([2.0] * 6, [1.0] * 4, paired=False)


# --------------------------------------------------------------------------- models over documents


def documents(count: int, increase: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Documents of very different difficulty, under two models whose mean loss differs by log(1 + increase)."""
    tokens = rng.integers(50, 200, count)
    loss = rng.uniform(1.0, 6.0, count)
    after = loss + np.log1p(increase) + rng.normal(0, 0.05, count)
    return -loss * tokens, -after * tokens, tokens


def test_the_increase_of_perplexity_is_that_of_the_summed_log_likelihoods():
    before, after, tokens = documents(9, 0.1, np.random.default_rng(0))
    interval = perplexity_increase(before, after, tokens)
    expected = np.exp(-after.sum() / tokens.sum()) / np.exp(-before.sum() / tokens.sum()) - 1
    assert interval.value == pytest.approx(expected, rel=1e-12)
    assert interval.low < interval.value < interval.high


def test_pairs_of_documents_cancel_their_difficulty_and_cover_the_truth():
    rng, covered = np.random.default_rng(1), 0
    for seed in range(40):
        interval = perplexity_increase(*documents(30, 0.1, rng), seed=seed)
        covered += interval.straddles(0.1)
        assert interval.high - interval.low < 0.1  # unpaired, the difficulty alone spreads over a factor of ten
    assert covered >= 33


def test_the_difference_of_accuracy_is_over_all_tokens():
    interval = accuracy_difference([50, 10, 30], [40, 10, 25], [100, 20, 50])
    assert interval.value == pytest.approx(-15 / 170)
    assert -0.1 <= interval.low <= interval.value <= interval.high <= 0.0
    assert accuracy_difference([0, 0], [0, 0], [9, 9]) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("compared", [perplexity_increase, accuracy_difference])
@pytest.mark.parametrize(
    ("before", "after", "tokens", "fragment"),
    [
        ([-1.0], [-1.0], [1], "at least two documents"),
        ([-1.0, -2.0], [-1.0], [1, 1], "one length"),
        ([-1.0, float("nan")], [-1.0, -2.0], [1, 1], "NaN or infinity"),
        ([-1.0, -2.0], [-1.0, -2.0], [1, 0], "has no tokens"),
    ],
)
def test_documents_that_cannot_be_compared_are_refused(compared, before, after, tokens, fragment):
    with pytest.raises(AuditError, match=fragment):
        compared(before, after, tokens)


def test_paired_difference():
    interval = paired_difference([1.0, 2.0, 3.0, 4.0], [2.0, 3.5, 4.0, 5.5])
    assert interval.value == pytest.approx(1.25)
    assert 1.0 <= interval.low <= interval.value <= interval.high <= 1.5
    assert paired_difference([1.0, 2.0], [2.0, 3.0]) == Interval(1.0, 1.0, 1.0)
    with pytest.raises(AuditError, match="at least two documents"):
        paired_difference([1.0], [2.0])
    with pytest.raises(AuditError, match="NaN"):
        paired_difference([1.0, float("nan")], [2.0, 3.0])
