"""How numbers and foreign text are written in every report: never rounded past their own verdict, never raw."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

# Characters that XML and HTML forbid: control characters, lone surrogates, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def clean(text: str) -> str:
    """Text without terminal colours, and with a replacement character for what XML and HTML forbid."""
    return _FORBIDDEN.sub("\ufffd", _ESCAPE_CODES.sub("", text.replace("\r\n", "\n")))


def number(value: float, digits: int = 4) -> str:
    """A number with that many significant digits, thousands separated; NaN and infinity by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("infinity" if value > 0 else "-infinity")
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) < 1e-4 or abs(value) >= 1e15:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def telling(value: float, judge: Callable[[float], object]) -> str:
    """A number with as many digits as it takes for the written number to be judged as the measured one is.

    7.99996 against a target of 8 is not written as 8.
    """
    for digits in range(4, 17):
        text = number(value, digits)
        if not math.isfinite(value) or judge(float(text.replace(",", ""))) == judge(value):
            return text
    return repr(value)


def with_unit(text: str, unit: str) -> str:
    """The number's text with its unit: a factor's x sits close, everything else is set apart."""
    if not unit:
        return text
    return f"{text}x" if unit == "x" else f"{text} {clean(unit)}"


def percent(share: float) -> str:
    """A share of 1 in percent, one decimal; whole tens (where targets lie) are written only where they were reached."""
    text = f"{100 * share:.1f}"
    if text == "0.0" and share > 0:
        text = "0.1"
    elif text.endswith("0.0") and 100 * share < float(text) - 1e-9:
        text = f"{float(text) - 0.1:.1f}"
    return f"{text} %"


def seconds(duration: float) -> str:
    """A duration for reading: 0.3 s, 48 s, 7 min 5 s, 1 h 2 min."""
    if duration < 9.95:
        return f"{duration:.1f} s"
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 check`, `2 checks`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
