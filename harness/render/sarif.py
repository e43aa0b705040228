"""What is not met as SARIF 2.1.0, for a CI that shows results beside the code: a rule a criterion, a result a row.

RED rows are errors and YELLOW rows warnings. A row that is met or was not measured is no result, but stays a rule. A
result lies where the subject is written if the subject was named by a file, else in the check that failed or fell short
first.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from harness.criteria import Status
from harness.render.numbers import clean
from harness.scorecard import Row, Scorecard

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Status.RED: "error", Status.YELLOW: "warning"}


def render_sarif(scorecard: Scorecard) -> str:
    """The JSON text; the same scorecard gives the same text."""
    results = [_result(scorecard, row, index) for index, row in enumerate(scorecard.criteria) if row.status in _LEVELS]
    version = scorecard.environment.libraries.get("bitnet-audit")
    driver = {"name": "bitnet-audit", "rules": [_rule(row) for row in scorecard.criteria]}
    run = {
        "tool": {"driver": driver | ({"version": version} if version else {})},
        "automationDetails": {"id": f"bitnet-audit/{clean(scorecard.subject.name)}/{scorecard.profile}/"},
        "invocations": [_invocation(scorecard)],
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {
            "subject": f"{clean(scorecard.subject.name)} {clean(scorecard.subject.version)}",
            "overallScore": scorecard.overall.score,
            "environment": scorecard.environment.fingerprint,
            "commit": scorecard.commit.id if scorecard.commit else None,
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def _rule(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.title,
        "shortDescription": {"text": row.title},
        "fullDescription": {"text": row.reading or row.claim},
        "help": {"text": f"{row.explanation} Measure it again: {clean(row.command)}"},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [row.category]},
    }


def _result(scorecard: Scorecard, row: Row, index: int) -> dict[str, Any]:
    return {
        "ruleId": row.id,
        "ruleIndex": index,
        "level": _LEVELS[row.status],
        "kind": "fail",
        "message": {"text": f"{row.title} is {row.status.value}: {clean(row.reason) or 'no reason given'}"},
        "locations": [_location(scorecard, row)],
        "partialFingerprints": {"criterion/v1": row.id},
        "properties": {
            "figures": {each.name: repr(each.value) for each in reversed(row.figures)},
            "command": clean(row.command),
            "artefacts": row.artefacts,
        },
    }


def _location(scorecard: Scorecard, row: Row) -> dict[str, Any]:
    checks = scorecard.checks_of(row)
    failed = [check for check in checks if check.outcome in ("failed", "error")]
    file, separator, _ = scorecard.subject.spec.rpartition(":")
    if separator and file.endswith(".py"):
        return _place(file, 1)
    if not checks:  # a derived row has no check of its own; its rule is the place to look at
        return _place("harness/criteria.toml", 1)
    missed = [figure.nodeid for figure in row.figures if figure.status in _LEVELS]
    first = [*failed, *(check for check in checks if check.nodeid in missed), *checks][0]
    return _place(first.nodeid.partition("::")[0], max(first.line, 1))


def _place(file: str, line: int) -> dict[str, Any]:
    path = PurePosixPath(clean(file).replace("\\", "/")).as_posix()
    address = f"file://{quote(path)}" if path.startswith("/") else quote(path)
    return {"physicalLocation": {"artifactLocation": {"uri": address}, "region": {"startLine": line}}}


def _invocation(scorecard: Scorecard) -> dict[str, Any]:
    notes = [{"level": "error", "message": {"text": clean(problem)}} for problem in scorecard.problems]
    return {"executionSuccessful": scorecard.complete, "toolExecutionNotifications": notes}
