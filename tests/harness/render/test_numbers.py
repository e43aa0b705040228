from __future__ import annotations

import math

import pytest

from harness.render.numbers import clean, number, percent, plural, seconds, telling, with_unit


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (1234567.0, "1,234,567"),
        (0.123456, "0.1235"),
        (29.6012, "29.6"),
        (1e-5, "1.000e-05"),
        (1.5e16, "1.500e+16"),
        (math.nan, "NaN"),
        (math.inf, "infinity"),
        (-math.inf, "-infinity"),
    ],
)
def test_numbers_are_written_with_the_digits_that_they_need(value: float, written: str) -> None:
    assert number(value) == written


def test_a_number_is_never_rounded_past_its_verdict() -> None:
    assert telling(7.99996, lambda value: value >= 8) == "7.99996"
    assert telling(8.00001, lambda value: value > 8) == "8.00001"
    assert telling(7.5, lambda value: value >= 8) == "7.5"
    assert telling(123456.4, lambda value: value >= 123456.4) == "123,456.4"
    assert telling(0.1 + 0.2, lambda value: value > 0.3) == "0.30000000000000004"
    assert telling(math.nan, lambda value: value >= 8) == "NaN"


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.0, "0.0 %"),
        (0.0001, "0.1 %"),
        (0.89996, "89.9 %"),
        (0.9, "90.0 %"),
        (0.29, "29.0 %"),
        (6 / 67, "9.0 %"),
        (0.9999, "99.9 %"),
        (1.0, "100.0 %"),
        (45 / 62, "72.6 %"),
    ],
)
def test_whole_tens_of_percent_are_written_only_where_they_were_reached(share: float, written: str) -> None:
    assert percent(share) == written


def test_durations_units_and_plurals() -> None:
    assert [seconds(each) for each in (0.31, 48.2, 425, 3720)] == ["0.3 s", "48 s", "7 min 5 s", "1 h 2 min"]
    assert [with_unit("2", each) for each in ("", "x", "%")] == ["2", "2x", "2 %"]
    assert plural(1, "check") == "1 check"
    assert plural(2, "criterion", "criteria") == "2 criteria"


def test_text_loses_colours_and_what_xml_forbids_and_nothing_else() -> None:
    assert clean("\x1b[1;31mred\x1b[0m\ttab\r\nline") == "red\ttab\nline"
    assert clean("a\x00b\x0bc\ud800d\ufffee\x85") == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffd"
    assert clean("✓ ≈ é 漢 😀") == "✓ ≈ é 漢 😀"
