"""Audits of checks that are given as source, run under the plugin and inside the test process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import harness.plugin  # noqa: F401 - loaded before the inner runs, which forget what they import
from harness.evidence import EVIDENCE_FILE, CheckRecord, Run, read_run
from harness.scorecard import SCORECARD_FILE, Scorecard, load

SUBJECT = """
from harness.subject import Declaration

class Subject:
    declaration = Declaration(name="made-up", version="1.0")
"""
HEAD = """
import random, math
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from harness.subject import InfersLinear, NotApplicable, require

criterion = pytest.mark.criterion
"""
# Plugins of the outer run that have no business in the inner one.
QUIET = [word for name in ("cacheprovider", "xdist", "cov", "benchmark") for word in ("-p", f"no:{name}")]


@dataclass(frozen=True)
class Result:
    """What an inner run left behind."""

    status: int
    output: str
    directory: Path

    @property
    def run(self) -> Run:
        return read_run(self.directory / EVIDENCE_FILE)

    @property
    def card(self) -> Scorecard:
        return load(self.directory / SCORECARD_FILE)

    def check(self, name: str) -> CheckRecord:
        return next(record for record in self.run.records if record.nodeid.partition("::")[2] == name)

    @property
    def outcomes(self) -> dict[str, str]:
        return {record.nodeid.partition("::")[2]: record.outcome for record in self.run.records}


class Auditor:
    """Runs checks, given as source, under the plugin and inside this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makepyfile(made_up_subject=SUBJECT)

    def __call__(self, source: str, *options: str, scorecard: bool = True) -> Result:
        self._pytester.makepyfile(test_checks=HEAD + source)
        directory = self._pytester.path / "out"
        words = ["-p", "harness.plugin", *QUIET, "--strict-markers", "--subject", "made_up_subject.py:Subject"]
        words += ["--scorecard", str(directory)] if scorecard else []
        done = self._pytester.runpytest_inprocess(*words, *options, no_reraise_ctrlc=True)
        return Result(int(done.ret), "\n".join([*done.outlines, *done.errlines]), directory)


@pytest.fixture
def audit(pytester: pytest.Pytester) -> Auditor:
    return Auditor(pytester)


PROFILES = """
@criterion("2.ste")
def test_quick(): pass

@criterion("2.ste")
@pytest.mark.profile("full")
def test_full(): pass

@criterion("A.packing-exact")
@pytest.mark.profile("quick")
def test_packing(): pass
"""
"""Checks of two profiles and two rows."""


def dedent(source: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in source.splitlines())
