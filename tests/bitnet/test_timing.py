import random

import pytest

from bitnet.timing import paired_ratio, take_turns


def test_every_arm_runs_once_a_round_in_orders_that_differ():
    calls, progress = [], []
    arms = {name: lambda name=name: calls.append(name) or name.upper() for name in "abc"}
    found = take_turns(arms, 20, 0, lambda done, total: progress.append((done, total)))
    assert found == {name: [name.upper()] * 20 for name in "abc"}
    rounds = [tuple(calls[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 3
    assert progress == [(done, 60) for done in range(1, 61)]
    calls.clear()
    take_turns(arms, 20, 0, lambda *_: None)
    assert [tuple(calls[start : start + 3]) for start in range(0, 60, 3)] == rounds


@pytest.mark.parametrize(("seconds", "rounds"), [(0, 3), (70, 7), (75, 7), (1000, 20)])
def test_no_round_is_begun_that_would_end_too_late(monkeypatch, seconds, rounds):
    now = 0

    def work():
        nonlocal now
        now += 5

    monkeypatch.setattr("bitnet.timing.time.perf_counter", lambda: now)
    found = take_turns({"a": work, "b": work}, 20, 0, lambda *_: None, seconds)
    assert {name: len(runs) for name, runs in found.items()} == {"a": rounds, "b": rounds}


def test_the_ratio_is_that_of_medians_and_its_interval_holds_it():
    ratio = paired_ratio([2.0, 4.0, 6.0, 40.0, 3.0], [1.0, 2.0, 3.0, 4.0, 2.0])
    assert ratio.value == 2.0
    assert ratio.low <= 2.0 <= ratio.high


def test_what_slows_a_whole_round_does_not_widen_the_interval():
    load = [1.0, 3.0, 1.0, 2.0, 5.0, 1.0, 2.0]
    ratio = paired_ratio([3 * x for x in load], load)
    assert ratio == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = random.Random(0)
    hits = 0
    for seed in range(200):
        times = [2 * generator.lognormvariate(0, 0.1) for _ in range(15)]
        reference = [generator.lognormvariate(0, 0.1) for _ in range(15)]
        ratio = paired_ratio(times, reference, seed)
        hits += ratio.low <= 2.0 <= ratio.high
    assert 0.88 <= hits / 200 <= 1.0
