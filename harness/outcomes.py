"""What pytest's markers and reports mean for the audit: criteria, profiles, outcomes and readable messages."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.evidence import Outcome, encodable

MESSAGE_LIMIT = 800  # characters of a failure kept in the evidence


def criteria_of(item: pytest.Item) -> tuple[str, ...]:
    """The criteria that a check is marked with, on itself, its class and its module."""
    return tuple(dict.fromkeys(each for marker in item.iter_markers("criterion") for each in marker.args))


def profile_of(item: pytest.Item) -> Any:
    """The smallest profile that a check belongs to, as marked; None for a marker without a name."""
    marker = item.get_closest_marker("profile")
    return "quick" if marker is None else (marker.args[0] if marker.args else None)


def outcome_of(report: pytest.TestReport, error: BaseException | None) -> Outcome:
    """The outcome of one phase of a check; an expected failure is a failure, a fixture that fails is an error."""
    if report.passed:
        return "passed"
    if report.skipped:
        return "failed" if hasattr(report, "wasxfail") else "skipped"
    return "failed" if report.when == "call" and (error is None or _is_verdict(error)) else "error"


def _is_verdict(error: BaseException) -> bool:
    """Whether an exception says that the claim is false, rather than that the check broke."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_verdict(each) for each in error.exceptions)
    return isinstance(error, (AssertionError, pytest.fail.Exception))


def message_of(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """Why a phase did not pass; empty when it did."""
    if report.passed:
        return ""
    if call.excinfo is None:  # marked as an expected failure, strictly, and passed
        return str(report.longrepr)
    if hasattr(report, "wasxfail"):
        return f"expected to fail ({report.wasxfail or 'no reason given'}): {call.excinfo.exconly()}"
    if report.skipped:
        return str(getattr(call.excinfo.value, "msg", None) or call.excinfo.exconly())
    return call.excinfo.exconly()


def shorten(message: str, root: Path) -> str:
    """A message without what differs between machines and runs (places, addresses), cut to a readable length."""
    temporary = re.escape(tempfile.gettempdir()) + r"(/pytest-of-[^/]+/pytest-\d+)?(?=[/'\"\s]|$)"
    message = re.sub(temporary, "<tmp>", message)
    for place, name in ((str(root), "."), (str(Path.home()), "~")):
        message = message.replace(place + "/", name + "/")
    message = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x...", encodable(message)).strip()
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 4].rstrip() + " ..."
