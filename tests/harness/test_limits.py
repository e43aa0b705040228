import signal

import pytest

from harness.limits import HangError, bounds, time_limit


def for_ever():
    while True:
        pass


def test_what_never_ends_is_stopped():
    with pytest.raises(HangError), bounds(0.05):
        for_ever()
    with pytest.raises(TimeoutError), time_limit(0.05, TimeoutError):
        for_ever()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_memory_beyond_the_bound_is_a_crash():
    with pytest.raises(MemoryError), bounds(5.0):
        bytearray(8 << 30)
    assert bytearray(1 << 20), "the bound ends with the block"
