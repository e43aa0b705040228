import math

import pytest

from harness.comparison import Comparison
from harness.errors import AuditError


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        (">= 8.0", 8.0, True),
        (">= 8.0", 7.999, False),
        ("<= 0.1", 0.1, True),
        ("<= 0.1", 0.1000001, False),
        ("> 0", 0.0, False),
        ("> 0", 1e-9, True),
        ("< 1", 1.0, False),
        ("< 1", -3.0, True),
        ("== 13", 13.0, True),
        ("== 13", 13.5, False),
        ("<= 1e-6", 1e-6, True),
        ("within 0.05..0.45", 0.05, True),
        ("within 0.05..0.45", 0.45, True),
        ("within 0.05..0.45", 0.4501, False),
        ("within -1..1", 0.0, True),
    ],
)
def test_bounds_belong_to_what_is_written(text: str, value: float, holds: bool) -> None:
    assert Comparison.parse(text).holds(value) is holds


@pytest.mark.parametrize("text", [">= 0", "<= 0", "> -5", "< 5", "== 0", "within -9..9"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_a_finite_number_never_holds(text: str, value: float | None) -> None:
    assert not Comparison.parse(text).holds(value)


@pytest.mark.parametrize("text", ["", "8", ">= eight", "=> 8", "within 1", "within 2..1", ">= 1 <= 2", ">= nan", None])
def test_an_unreadable_comparison_is_refused(text: str) -> None:
    with pytest.raises(AuditError, match="cannot read the comparison"):
        Comparison.parse(text)


@pytest.mark.parametrize(
    ("text", "better", "worse"),
    [(">= 8", 7.0, 6.0), ("<= 8", 9.0, 10.0), ("within 0..1", 0.4, 0.9), ("== 3", 3.5, 5.0), ("> 1", 5.0, math.nan)],
)
def test_the_margin_orders_measurements_from_bad_to_good(text: str, better: float, worse: float) -> None:
    comparison = Comparison.parse(text)
    assert comparison.margin(better) > comparison.margin(worse)
