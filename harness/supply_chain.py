"""What the wheel depends on: `python -m harness.supply_chain SBOM PYTHON` holds its licences and known faults to rules.

The bill of materials is CycloneDX JSON, written by cyclonedx-bom from an environment that holds the wheel and nothing
else. Licences are held to `[tool.bitnet-audit.licences]` of pyproject.toml. pip-audit asks a service on the network for
known vulnerabilities; where that does not answer, nothing is known, which is said and is not a pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import AuditError
from harness.files import parse_json, read_text, write_text

TABLE = "tool.bitnet-audit.licences"
REPORT = "report.json"
SECONDS = 600.0


@dataclass(frozen=True)
class Rules:
    """SPDX identifiers and classifiers that are allowed, and the licence of packages that do not tell it readably.

    `by_extras` are allowed besides for packages that only extras ask for.
    """

    allowed: frozenset[str]
    known: Mapping[str, str]
    by_extras: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Vulnerabilities:
    """`found` names packages and advisories; the status is "skipped" where nothing was answered, with a reason."""

    status: Literal["none known", "found", "skipped: unreachable", "skipped: failed"]
    found: tuple[str, ...] = ()
    reason: str = ""


def has_rules(pyproject: Path) -> bool:
    """Whether a project has rules of its own."""
    return f"[{TABLE}]" in read_text(pyproject, "the rules", "give the project's pyproject.toml").splitlines()


def read_rules(pyproject: Path) -> Rules:
    """The rules of pyproject.toml; raises AuditError where it has none."""
    try:
        data: Any = tomllib.loads(read_text(pyproject, "the rules", "give the project's pyproject.toml"))
        for name in TABLE.split("."):
            data = data[name]
        known = {str(key): str(each) for key, each in data["known"].items()}
        return Rules(frozenset(map(str, data["allowed"])), known, frozenset(map(str, data.get("by_extras", ()))))
    except (KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise AuditError(f"{pyproject} has no table [{TABLE}] with `allowed` and `known`; add it") from error


def licences(sbom: Path) -> dict[str, tuple[str, ...]]:
    """What every component of a bill says of its licence, by name; raises AuditError where it is no bill."""
    try:
        bill = parse_json(read_text(sbom, "the bill of materials", "write it with cyclonedx-py"))
        return {each["name"]: tuple(map(_told, each.get("licenses", ()))) for each in bill["components"]}
    except (KeyError, TypeError) as error:
        raise AuditError(f"{sbom} is no bill of materials ({error!r}); write it with cyclonedx-py") from error
    except json.JSONDecodeError as error:
        raise AuditError(f"{sbom} is not JSON: {error}; write it with cyclonedx-py") from error


def _told(entry: Mapping[str, Any]) -> str:
    if "expression" in entry:
        return str(entry["expression"])
    return str(entry["license"].get("id") or entry["license"]["name"])


def refused(told: Mapping[str, Sequence[str]], rules: Rules) -> tuple[str, ...]:
    """A sentence for each component whose licence is not allowed, or not known."""
    sentences = []
    for name, texts in sorted(told.items()):
        texts = (rules.known[name],) if name in rules.known else texts
        wrong = [text for text in texts if not allowed(text, rules.allowed)]
        if not texts:
            sentences.append(f"{name} does not tell its licence")
        elif wrong:
            sentences.append(f"{name} is under {wrong[0].partition(chr(10))[0][:80]}, which is not allowed")
    return tuple(sentences)


def allowed(text: str, known: frozenset[str]) -> bool:
    """Whether an SPDX expression, or a name as it stands, is allowed: one side of an OR is enough, AND needs both."""
    from license_expression import ExpressionError, get_spdx_licensing

    if text in known:
        return True
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(text, validate=True)
    except ExpressionError:
        return False

    def holds(part: Any) -> bool:
        if isinstance(part, licensing.OR):
            return any(map(holds, part.args))
        if isinstance(part, licensing.AND):
            return all(map(holds, part.args))
        return str(part) in known

    return parsed is not None and holds(parsed)


def vulnerabilities(command: Sequence[str]) -> Vulnerabilities:
    """What a command of pip-audit, whose output is JSON, finds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Vulnerabilities("skipped: unreachable", reason=f"no answer within {SECONDS:g} s")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        away = any(word in done.stderr for word in ("ConnectionError", "Could not connect", "ServiceError", "Timeout"))
        return Vulnerabilities("skipped: unreachable" if away else "skipped: failed", reason=reason)
    found = tuple(
        f"{each['name']} {each['version']}: {fault['id']}" for each in packages for fault in each.get("vulns", ())
    )
    unasked = ", ".join(each["name"] for each in packages if "skip_reason" in each)
    reason = f"not asked about: {unasked}" if unasked else ""
    return Vulnerabilities("found" if found else "none known", found, reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, write report.json beside the bill, and tell; 1 where a licence or a vulnerability stands against it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sbom", type=Path)
    parser.add_argument("packages", type=Path, help="the site-packages folder that pip-audit is to ask about")
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    options = parser.parse_args(arguments)
    told = licences(options.sbom)
    wrong = refused(told, read_rules(options.pyproject))
    words = ("--format", "json", "--progress-spinner", "off", "--timeout", "15", "--path", str(options.packages))
    faults = vulnerabilities((sys.executable, "-m", "pip_audit", *words))
    record = {"components": len(told), "licences": told, "refused": wrong, "vulnerabilities": asdict(faults)}
    write_text(options.sbom.with_name(REPORT), json.dumps(record, indent=2, sort_keys=True) + "\n")
    print(f"{len(told)} components in {options.sbom}, {len(wrong)} licences refused")
    for sentence in (*wrong, *faults.found):
        print(f"  {sentence}")
    print(f"vulnerabilities: {faults.status}{f' ({faults.reason})' if faults.reason else ''}")
    return 1 if wrong or faults.found or faults.status == "skipped: failed" else 0


if __name__ == "__main__":
    sys.exit(main())
