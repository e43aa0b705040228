from types import SimpleNamespace

import pytest

import harness.statistics
from harness.errors import AuditError
from harness.races import Entry, Race, run
from harness.statistics import Arm

ROUNDS = 5


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def entry(clock, name, seconds, work):
    def work_done():
        clock.now += seconds

    return Entry(Arm(name, work_done, {"threads": "1"}), work)


@pytest.fixture
def finish(clock):
    opponents = (entry(clock, "slow", 8.0, 10.0), entry(clock, "limit", 4.0, 40.0))
    return run(Race("a product", "GMAC/s", entry(clock, "subject", 2.0, 10.0), opponents, ("one is absent",)), ROUNDS)


def test_rates_are_work_over_median_times(finish):
    assert [finish.rate(name) for name in ("subject", "slow", "limit")] == [5.0, 1.25, 10.0]


def test_speedups_are_ratios_of_rates_whatever_the_work(finish):
    for name, ratio in (("slow", 4.0), ("limit", 0.5)):
        speedup = finish.speedup(name)
        assert (speedup.value, speedup.low, speedup.high) == (ratio, ratio, ratio)


def test_the_subject_is_its_own_control(finish):
    assert finish.control.value == 1.0
    assert finish.sound
    assert {len(series) for series in finish.seconds.values()} == {ROUNDS}
    assert "subject (again)" in finish.seconds


def test_the_fastest_is_chosen_among_those_that_took_part(finish):
    assert finish.fastest(["slow", "limit", "nobody"]) == "limit"
    assert finish.fastest(["nobody"]) is None
    assert finish.took_part("slow")
    assert not finish.took_part("nobody")


def test_an_arm_that_did_not_take_part_has_no_rate(finish):
    with pytest.raises(AuditError, match="'nobody' did not take part in 'a product'"):
        finish.rate("nobody")


def test_settings_are_told_in_words(finish):
    assert finish.race.settings[0] == "subject: threads 1"
