"""Words, symbols and colours of the dashboard: a colour never stands without its word."""

import datetime
import math
import re
from typing import Final

#: Statuses of an audit, the best first, each with a symbol and a colour that is legible on white and on black.
SYMBOLS: Final = {"GREEN": "✔", "YELLOW": "◐", "RED": "✘", "GREY": "○"}
COLOURS: Final = {"GREEN": "#2f9e5b", "YELLOW": "#d9a514", "RED": "#d1495b", "GREY": "#8a8f98"}
MEANINGS: Final = {
    "GREEN": "target met",
    "YELLOW": "short of the target, within tolerance",
    "RED": "target missed",
    "GREY": "not measured",
}
NOT_MEASURED: Final = "not measured"
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~:&@/])")


def plain(text: str) -> str:
    """`text` for where Streamlit reads Markdown, so that it is shown as it is: no link, no image, no HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def status(name: str) -> str:
    """A status as symbol and word."""
    return f"{SYMBOLS.get(name, '?')} {name}"


def outcome(passed: bool) -> str:
    """The result of a gate or a check as symbol and word."""
    return "✔ passed" if passed else "✘ MISSED"


def number(value: float | None, unit: str = "") -> str:
    """A figure to four digits with its unit, or in words why there is none."""
    if value is None:
        return NOT_MEASURED
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    text = f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def interval(ends: tuple[float, float] | None) -> str:
    """A 95 % interval, "" where there is none."""
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def size(count: int) -> str:
    """Bytes in units of powers of ten."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.4g} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(epoch: float) -> str:
    """A time of day, in UTC."""
    return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def date(told: str) -> str:
    """A time in ISO 8601, as files have it, to the minute and in UTC; other text as it is."""
    try:
        found = datetime.datetime.fromisoformat(told)
    except ValueError:
        return told
    return found.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC") if found.tzinfo else told
