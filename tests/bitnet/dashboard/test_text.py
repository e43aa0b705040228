import math

import pytest

from bitnet.dashboard import text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "", "not measured"),
        (math.nan, "x", "NaN"),
        (math.inf, "", "infinite"),
        (-math.inf, "", "-infinite"),
        (3.14159, "x", "3.142 x"),
        (123456.7, "", "123,457"),
        (1e12, "", "1e+12"),
        (0.0, "", "0"),
    ],
)
def test_a_figure_is_shown_to_four_digits_or_in_words(value, unit, shown):
    assert text.number(value, unit) == shown


def test_what_streamlit_reads_as_markdown_is_escaped():
    for mark in "`*_[]()#!|<>$~:&":
        assert f"\\{mark}" in text.plain(f"a{mark}b")
    assert text.plain("two\nlines\t here") == "two lines here"
    assert text.plain("![x](http://elsewhere)") == r"\!\[x\]\(http\:\/\/elsewhere\)"


def test_statuses_and_outcomes_are_words():
    assert [text.status(name) for name in text.SYMBOLS] == ["✔ GREEN", "◐ YELLOW", "✘ RED", "○ GREY"]
    assert text.status("BLUE") == "? BLUE"
    assert (text.outcome(True), text.outcome(False)) == ("✔ passed", "✘ MISSED")


def test_sizes_durations_and_times():
    assert [text.size(count) for count in (12, 1500, 2_345_000, 3_000_000_000)] == [
        "12 B",
        "1.5 kB",
        "2.345 MB",
        "3 GB",
    ]
    assert [text.duration(each) for each in (1.25, 59.7, 61, 7325)] == ["1.2 s", "1 min 0 s", "1 min 1 s", "2 h 2 min"]
    assert text.moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert text.date("2026-11-25T11:00:59+01:00") == "2026-11-25 10:00 UTC"
    assert [text.date(told) for told in ("2026-11-25T11:00:59", "soon")] == ["2026-11-25T11:00:59", "soon"]
    assert (text.percent(0.123), text.percent(None)) == ("12.3 %", "not measured")
    assert (text.interval((1.0, 2.5)), text.interval(None)) == ("1 to 2.5", "")
