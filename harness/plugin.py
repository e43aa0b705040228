"""The pytest plugin that turns checks into evidence: `pytest -p harness.plugin --subject bitnet --scorecard DIR`.

A check is marked `criterion("1.1.sparsity-injection", ...)` with the rows that it gives evidence for, asks for the
`subject` and the capabilities that it needs, and records what it measures through `evidence`. A check marked
`profile("full")` is left out of the quick profile. Random numbers are seeded anew for each check from the run's seed
and the check's name, so that a check gives the same figures alone and in company.
"""

from __future__ import annotations

import datetime
import random
import shlex
import time
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

from harness.artefacts import HoldsArtefacts
from harness.criteria import Rulebook, load_rulebook
from harness.environment import describe_commit, describe_environment
from harness.errors import AuditError
from harness.evidence import (
    EVIDENCE_FILE,
    CheckRecord,
    DeselectedCheck,
    Evidence,
    EvidenceWriter,
    Outcome,
    Profile,
    RunEnd,
    RunStart,
    SubjectInfo,
    read_run,
)
from harness.outcomes import criteria_of, message_of, outcome_of, profile_of, shorten
from harness.scorecard import SCORECARD_FILE, build, save
from harness.subject import NotApplicable, Subject, load_subject

DEFAULT_SUBJECT = "bitnet"
DEFAULT_MODELS = ("tiny", "smollm2-135m")
HYPOTHESIS_EXAMPLES = {"quick": 50, "full": 200}
_SEVERITY: tuple[Outcome, ...] = ("passed", "skipped", "not_applicable", "failed", "error")


# --------------------------------------------------------------------------- options, markers, header


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the audit's options."""
    group = parser.getgroup("bitnet-audit", "audit of a ternary implementation")
    group.addoption(
        "--subject", default=DEFAULT_SUBJECT, help="a name or path/to/file.py:factory (default: %(default)s)"
    )
    group.addoption("--profile", default="quick", choices=("quick", "full"), help="which checks run")
    group.addoption("--model", action="append", default=None, help=f"repeatable (default: {', '.join(DEFAULT_MODELS)})")
    group.addoption("--seed", type=int, default=0, help="seed of the run (default: 0)")
    group.addoption("--only", action="append", default=None, metavar="ID", help="criteria to measure; repeatable")
    group.addoption("--scorecard", type=Path, default=None, metavar="DIR", help="write evidence and scorecard there")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, load the subject and start the audit."""
    config.addinivalue_line("markers", "criterion(*ids): the rows of the audit that this check gives evidence for")
    config.addinivalue_line("markers", 'profile(name): "full" leaves the check out of the quick profile')
    try:
        config.pluginmanager.register(Audit(config), "bitnet-audit")
    except AuditError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give hypothesis its settings back, for whoever runs pytest inside a larger process."""
    audit = config.pluginmanager.get_plugin("bitnet-audit")
    if isinstance(audit, Audit):
        hypothesis.settings.load_profile(audit.hypothesis_profile_before)


def _register_hypothesis_profile(profile: Profile) -> None:
    examples = HYPOTHESIS_EXAMPLES[profile]
    hypothesis.settings.register_profile(
        "bitnet-audit", derandomize=True, deadline=None, database=None, print_blob=False, max_examples=examples
    )
    hypothesis.settings.load_profile("bitnet-audit")


# --------------------------------------------------------------------------- fixtures


def _audit(config: pytest.Config) -> Audit:
    audit = config.pluginmanager.get_plugin("bitnet-audit")
    assert isinstance(audit, Audit)
    return audit


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Subject:
    """The implementation under audit."""
    return _audit(pytestconfig).subject


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config) -> tuple[str, ...]:
    """The models to audit with, as given on the command line."""
    return _audit(pytestconfig).models


@pytest.fixture(scope="session")
def profile(pytestconfig: pytest.Config) -> Profile:
    """The profile that runs."""
    return _audit(pytestconfig).profile


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The run's seed; fixtures that outlive a check must draw from it and not from global random state."""
    return _audit(pytestconfig).seed


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """The recorder of this check."""
    return _audit(request.config).trace(request.node).evidence


# --------------------------------------------------------------------------- the run


class _Trace:
    """What is known of a check while it runs."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.outcome: Outcome = "passed"
        self.messages: list[str] = []
        self.duration = 0.0

    def add(self, outcome: Outcome, message: str, duration: float) -> None:
        self.duration += duration
        self.outcome = max(self.outcome, outcome, key=_SEVERITY.index)
        if message and message not in self.messages:
            self.messages.append(message)


class Audit:
    """The state of a run: which checks give evidence for what, and where their records go."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        self.config = config
        self.rulebook: Rulebook = load_rulebook()
        self.profile: Profile = option("--profile")
        self.models: tuple[str, ...] = tuple(option("--model") or DEFAULT_MODELS)
        self.seed: int = option("--seed")
        self.only: tuple[str, ...] = tuple(option("--only") or ())
        self.directory: Path | None = option("--scorecard")
        self.spec: str = option("--subject")
        if self.directory and option("numprocesses", default=None):
            raise AuditError("an audit runs in one process; leave out -n together with --scorecard")
        if unknown := [each for each in self.only if not self.rulebook.matching([each])]:
            raise AuditError(f"no criterion is called {', '.join(unknown)}; `bitnet-audit run` lists them in its table")
        self.subject: Subject = load_subject(self.spec)
        self._writer: EvidenceWriter | None = None
        self._traces: dict[str, _Trace] = {}
        self._deselected: list[DeselectedCheck] = []
        self._collection_errors: list[str] = []
        self._collected = False
        self._began = time.perf_counter()
        self._started = _now()
        self.hypothesis_profile_before = hypothesis.settings.get_current_profile_name()
        _register_hypothesis_profile(self.profile)

    def trace(self, item: pytest.Item) -> _Trace:
        """What is known of a check so far."""
        return self._traces.setdefault(item.nodeid, _Trace())

    def pytest_report_header(self) -> list[str]:
        """Say in pytest's header what is audited with what."""
        environment = describe_environment()
        versions = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
        declared = self.subject.declaration
        return [
            f"subject: {declared.name} {declared.version} ({self.spec}), profile {self.profile}, seed {self.seed}, "
            f"models {', '.join(self.models)}",
            f"versions: {versions}",
        ]

    # ----------------------------------------------------------------- collection

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember what could not be collected."""
        if report.failed:
            last = str(report.longrepr).strip().splitlines()[-1:]
            self._collection_errors.append(shorten(f"{report.nodeid}: {''.join(last)}", self.config.rootpath))

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Hold the markers to the rulebook and leave out what this run does not ask for."""
        if faults := [fault for item in items for fault in self._marker_faults(item)]:
            raise pytest.UsageError("\n".join(faults))
        wanted = self._wanted()
        kept, left_out = [], []
        for item in items:
            criteria = criteria_of(item)
            if wanted is not None and wanted.isdisjoint(criteria):
                left_out.append(item)
            elif self.profile == "quick" and profile_of(item) == "full":
                left_out.append(item)
                self._deselected.append(DeselectedCheck(nodeid=item.nodeid, criteria=criteria, profile="full"))
            else:
                self._seed_hypothesis(item)
                kept.append(item)
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = kept
        self._collected = True

    def _marker_faults(self, item: pytest.Item) -> list[str]:
        criteria = criteria_of(item)
        if not criteria:
            return [f'{item.nodeid} gives evidence for nothing; mark it with @pytest.mark.criterion("...")']
        faults = []
        for each in criteria:
            known = self.rulebook.get(each)
            if known is None:
                faults.append(f"{item.nodeid} names the unknown criterion {each!r}; see harness/criteria.toml")
            elif known.derive:
                faults.append(f"{item.nodeid} names {each!r}, which is derived from other rows; mark it with those")
        if profile_of(item) not in ("quick", "full"):
            faults.append(f'{item.nodeid} names the unknown profile {profile_of(item)!r}; use "quick" or "full"')
        return faults

    def _wanted(self) -> set[str] | None:
        """The criteria that --only asks for, derived rows replaced by what they derive from; None without --only."""
        if not self.only:
            return None
        wanted, pending = set[str](), list(self.rulebook.matching(self.only))
        while pending:
            current = pending.pop()
            if current not in wanted:
                wanted.add(current)
                pending.extend(self.rulebook.sources(current))
        return wanted

    def _seed_hypothesis(self, item: pytest.Item) -> None:
        function: Any = getattr(item, "obj", None)
        function = getattr(function, "__func__", function)
        if getattr(function, "is_hypothesis_test", False):
            name = item.nodeid.partition("[")[0]  # the parametrized cases of a test share one function
            hypothesis.seed(self._seed_for(name))(function)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the first line of the evidence."""
        if not self._collected or self.directory is None or self.config.option.collectonly:
            return
        declared = self.subject.declaration
        start = RunStart(
            subject=SubjectInfo(name=declared.name, version=declared.version, spec=self.spec),
            profile=self.profile,
            models=self.models,
            seed=self.seed,
            only=self.only,
            environment=describe_environment(),
            commit=describe_commit(),
            selected=tuple(item.nodeid for item in session.items),
            deselected=tuple(self._deselected),
            collection_errors=tuple(self._collection_errors),
            started=self._started,
        )
        try:
            self._writer = EvidenceWriter(self.directory / EVIDENCE_FILE, start)
        except AuditError as error:
            raise pytest.UsageError(str(error)) from error

    # ----------------------------------------------------------------- running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Seed before the fixtures of a check."""
        self._seed_everything(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Seed again: a fixture that already existed has drawn nothing this time."""
        self._seed_everything(item)
        for held in getattr(item, "funcargs", {}).values():
            if isinstance(held, HoldsArtefacts):
                for name, path in held.artefacts.items():
                    self.trace(item).evidence.artefact(name, path)

    def _seed_for(self, name: str) -> int:
        return zlib.crc32(f"{self.seed}:{name}".encode())

    def _seed_everything(self, item: pytest.Item) -> None:
        value = self._seed_for(item.nodeid)
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give each phase of a check its outcome and write the record after the last one."""
        report = yield
        trace, root = self.trace(item), self.config.rootpath
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, NotApplicable):
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, (line or 0) + 1, f"not applicable: {error}")
            trace.add("not_applicable", shorten(str(error), root), report.duration)
        else:
            trace.add(outcome_of(report, error), shorten(message_of(report, call), root), report.duration)
        if report.when == "teardown":
            self._finish(item, trace)
        return report

    def _finish(self, item: pytest.Item, trace: _Trace) -> None:
        self._traces.pop(item.nodeid, None)
        if self._writer is None:
            return
        self._writer.check(
            CheckRecord(
                nodeid=item.nodeid,
                criteria=criteria_of(item),
                outcome=trace.outcome,
                message="\n".join(trace.messages),
                figures=trace.evidence.figures,
                notes=tuple(trace.evidence.notes),
                attachments=trace.evidence.attachments,
                timings=trace.evidence.timings,
                artefacts=trace.evidence.artefacts,
                line=(item.location[1] or 0) + 1,
                command=self._command(item),
                duration=trace.duration,
            )
        )

    def _command(self, item: pytest.Item) -> str:
        """The line that runs this check alone."""
        path, separator, name = item.nodeid.partition("::")
        words = ["python", "-m", "pytest", "-p", "harness.plugin"]
        if path.startswith("suites/"):  # installed with the auditor, so it is found from anywhere
            words += ["--pyargs", path.removesuffix(".py").replace("/", ".") + separator + name]
        else:
            words.append(item.nodeid)
        words += ["--subject", self.spec, "--profile", self.profile, "--seed", str(self.seed)]
        words += [word for model in self.models for word in ("--model", model)]
        return shlex.join(words)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the last line of the evidence and the scorecard."""
        if self._writer is None or self.directory is None:
            return
        self._writer.end(
            RunEnd(exit_status=int(exitstatus), finished=_now(), duration=time.perf_counter() - self._began)
        )
        save(build(read_run(self.directory / EVIDENCE_FILE), self.rulebook), self.directory / SCORECARD_FILE)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
