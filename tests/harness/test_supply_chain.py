import json
import sys

import pytest

from harness.errors import AuditError
from harness.supply_chain import Rules, allowed, has_rules, licences, main, read_rules, refused, vulnerabilities
from tests.harness.test_scorecard_document import ROOT

RULES = Rules(frozenset({"MIT", "Apache-2.0", "License :: OSI Approved :: BSD License"}), {"silent": "MIT"})
needs_expressions = pytest.mark.usefixtures("expressions")


@pytest.fixture
def expressions():
    pytest.importorskip("license_expression")


def answering(output="", errors="", code=0):
    """A command that answers like pip-audit."""
    program = f"import sys; print({output!r}); print({errors!r}, file=sys.stderr); sys.exit({code})"
    return [sys.executable, "-c", program]


@needs_expressions
@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT AND Apache-2.0) OR GPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("License :: OSI Approved :: BSD License", True),
        ("see the file LICENSE", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_by_its_parts(text, fine):
    assert allowed(text, RULES.allowed) is fine


@needs_expressions
def test_what_is_not_told_or_not_allowed_is_named():
    told = {"good": ("MIT",), "silent": (), "mute": (), "bad": ("MIT", "GPL-3.0-only")}
    assert refused(told, RULES) == (
        "bad is under GPL-3.0-only, which is not allowed",
        "mute does not tell its licence",
    )


def test_vulnerabilities_are_told_or_said_to_be_unknown():
    found = {
        "dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]}, {"name": "b", "version": "2"}]
    }
    assert vulnerabilities(answering(json.dumps(found), code=1)).found == ("a 1: PYSEC-1",)
    clean = {"dependencies": [{"name": "b", "skip_reason": "not on PyPI"}]}
    none = vulnerabilities(answering(json.dumps(clean)))
    assert (none.status, none.reason) == ("none known", "not asked about: b")
    away = vulnerabilities(answering(errors="x\nrequests.exceptions.ConnectionError: no route", code=1))
    assert (away.status, away.found) == ("skipped: unreachable", ())
    assert vulnerabilities(answering("[]", "a bug", 1)).status == "skipped: failed"


def test_a_service_that_never_answers_is_unreachable(monkeypatch):
    monkeypatch.setattr("harness.supply_chain.SECONDS", 0.01)
    assert vulnerabilities([sys.executable, "-c", "import time; time.sleep(9)"]).status == "skipped: unreachable"


@pytest.mark.parametrize("text", ["{", "[]", '{"components": [1]}', '{"components": [{"licenses": []}]}'])
def test_what_is_no_bill_is_refused(text, tmp_path):
    (tmp_path / "sbom.json").write_text(text)
    with pytest.raises(AuditError, match=r"sbom\.json is (no bill of materials|not JSON)"):
        licences(tmp_path / "sbom.json")


def test_the_project_has_rules_and_none_are_made_up(tmp_path):
    rules = read_rules(ROOT / "pyproject.toml")
    assert "MIT" in rules.allowed
    assert not any("GPL" in each for each in rules.allowed)
    assert rules.by_extras
    assert has_rules(ROOT / "pyproject.toml")
    (tmp_path / "pyproject.toml").write_text("tool = 1")
    assert not has_rules(tmp_path / "pyproject.toml")
    with pytest.raises(AuditError, match=r"has no table \[tool\.bitnet-audit\.licences\]"):
        read_rules(tmp_path / "pyproject.toml")


@needs_expressions
def test_all_of_it_is_written_beside_the_bill(tmp_path, monkeypatch, capsys):
    names = {"a": {"license": {"id": "MIT"}}, "b": {"expression": "MIT OR Zlib"}, "c": {"license": {"name": "Secret"}}}
    bill = {"components": [{"name": name, "licenses": [entry]} for name, entry in names.items()]}
    (tmp_path / "sbom.json").write_text(json.dumps(bill))
    (tmp_path / "pyproject.toml").write_text("[tool.bitnet-audit.licences]\nallowed = ['MIT']\nknown = {}\n")
    words = [str(tmp_path / "sbom.json"), str(tmp_path), "--pyproject", str(tmp_path / "pyproject.toml")]
    unreachable = vulnerabilities(answering(errors="ConnectionError", code=1))
    monkeypatch.setattr("harness.supply_chain.vulnerabilities", lambda _: unreachable)
    assert main(words) == 1
    assert "c is under Secret, which is not allowed" in (shown := capsys.readouterr().out)
    assert "vulnerabilities: skipped: unreachable" in shown
    assert json.loads((tmp_path / "report.json").read_text())["vulnerabilities"]["status"] == "skipped: unreachable"
    monkeypatch.setattr("harness.supply_chain.licences", lambda _: {"a": ("MIT",)})
    assert main(words) == 0
