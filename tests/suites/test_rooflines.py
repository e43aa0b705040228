"""The roofline places each arm by the bytes that it reads and the roof by the limits that were measured."""

import pytest

from harness.races import Entry, Finish, Race
from harness.render.plots import parse_plot
from harness.statistics import Arm
from suites.kernel_races import MEMORY, PEAK
from suites.rooflines import intensity, roofline


def finish(**rates: float) -> Finish:
    names = {name.replace("_", " "): rate for name, rate in rates.items()}
    entries = [Entry(Arm(name, lambda: None), rate) for name, rate in names.items()]
    seconds = {name: [1.0] * 5 for name in names}
    return Finish(Race("a race", "GMAC/s", entries[0], tuple(entries[1:])), seconds)


def test_arms_and_roof_lie_where_they_belong() -> None:
    cached = {1: finish(subject=180.0, torch_float32=4.0, int8_peak=230.0), 16: finish(subject=200.0, int8_peak=229.0)}
    spec = parse_plot(roofline(cached, finish(subject=90.0, memory_read=100.0)))
    assert (PEAK, MEMORY) == ("int8 peak", "memory read")
    assert spec.x == [0.25, 4.0, 64.0]
    assert spec.y["subject"] == [None, 180.0, 200.0]
    assert spec.y["subject, from memory"] == [None, 90.0, None]
    assert spec.y["torch float32"] == [4.0, None, None]
    assert spec.y["roof"] == [pytest.approx(6.25), pytest.approx(100.0), 230.0]
    assert spec.timing


def test_intensity_is_work_for_each_byte() -> None:
    assert intensity(1, 2.0) == 4.0
    assert intensity(16, 32.0) == 4.0
