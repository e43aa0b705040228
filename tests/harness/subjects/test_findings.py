"""Every finding in another library is shown again by its few lines, where the library is installed."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.third_parties import FOLDER, read_summaries, third_parties

REPOSITORY = Path(__file__).parents[3]
FINDINGS = tomllib.loads((REPOSITORY / FOLDER / "findings.toml").read_text(encoding="utf-8"))["finding"]


@pytest.mark.parametrize("finding", FINDINGS, ids=[each["title"] for each in FINDINGS])
def test_the_reproduction_prints_what_the_finding_says(finding, capsys):
    library = next(line.split()[1] for line in finding["reproduction"].splitlines() if line.startswith("from "))
    if find_spec(library.partition(".")[0]) is None:
        pytest.skip(f"{library.partition('.')[0]} is not installed; `nox -s subjects` has it")
    exec(finding["reproduction"], {})
    assert capsys.readouterr().out.strip() == finding["prints"].strip()


def test_every_failed_check_has_a_finding_and_every_finding_its_failed_check():
    summaries = {each.subject: each for each in read_summaries(REPOSITORY / FOLDER)}
    failed = {(name, function_of(check.nodeid)) for name, each in summaries.items() for check in each.failed}
    explained = {(name, check) for each in FINDINGS for name in each["subjects"] for check in each["checks"]}
    assert explained == failed


def function_of(nodeid):
    return nodeid.partition("::")[2].partition("[")[0]


@pytest.mark.parametrize("finding", FINDINGS, ids=[each["title"] for each in FINDINGS])
def test_a_finding_says_what_was_promised_what_happens_and_where(finding):
    assert finding.keys() == {"subjects", "title", "says", "does", "where", "checks", "reproduction", "prints"}
    assert set(finding["subjects"]) <= set(third_parties())
    assert all(finding[field] for field in ("title", "says", "does", "where", "reproduction", "prints"))
