"""What the gate found as workflow commands, which GitHub shows as annotations beside a change."""

from __future__ import annotations

from collections.abc import Iterator

from harness.gate import Judgement


def judgement_lines(judgement: Judgement) -> Iterator[str]:
    """An error for each breach, a notice for each expected failure, a warning for each doubtful expectation."""
    for breach in judgement.breaches:
        yield _command("error", f"gate: {breach.criterion}", str(breach))
    for breach, reason in judgement.expected:
        yield _command("notice", f"expected failure: {breach.criterion}", f"{breach} ({reason})")
    for warning in judgement.warnings:
        yield _command("warning", "expected failures", warning)


def _command(level: str, title: str, message: str) -> str:
    title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
