"""The dashboard: it starts, for this machine alone, and shows the very figures that scorecards and runs hold.

What is shown is read as text, page by page; the figures are made up anew for each check, so that no page can know them
but from the files. Numbers count as shown where one stands there, rounded as people round them, also in percent.
"""

from __future__ import annotations

import http.client
import ipaddress
import math
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest

from harness.criteria import load_rulebook
from harness.environment import describe_environment
from harness.evidence import CheckRecord, Evidence, Figure, Run, RunEnd, RunStart, SubjectInfo
from harness.scorecard import SCORECARD_FILE, Scorecard, build, save
from harness.subject import ShowsDashboard, Subject, require
from suites.fixtures_small import SmallCompression

pytestmark = pytest.mark.criterion("2.dashboard", "6.nice.dashboard")

START_SECONDS: Final = 120.0
"""A page that is not there by then will not come."""
ROUNDING: Final = 2e-3
NUMBER: Final = re.compile(r"(\d[\d,]*)(?:\.(\d+))?(?:e([+-]?\d+))?")
"""Relative: a figure that is shown to three digits."""
FIGURE: Final = ("1.1.sparsity-injection", "zero_fraction")


# --------------------------------------------------------------------------- made-up scorecards


@dataclass(frozen=True)
class Made:
    """A scorecard and the folder of reports that holds it."""

    reports: Path
    card: Scorecard
    zero_fraction: float

    @property
    def figures(self) -> Mapping[str, float]:
        """Figures that are its own."""
        assert self.card.overall.score is not None
        return {"overall": self.card.overall.score, "zero_fraction": self.zero_fraction}


def make_scorecard(folder: Path, zero_fraction: float, every: int) -> Made:
    """An audit that measured one figure, and of whose other rows every so many-th has a check that passed."""
    identities = [each.id for each in load_rulebook().criteria if not each.derive and not each.figures][::every]
    checks = [_check(identity, {}) for identity in identities]
    checks.append(_check(FIGURE[0], {FIGURE[1]: Figure(value=zero_fraction)}))
    start = RunStart(
        subject=SubjectInfo(name="made-up", version="1.0", spec="made-up"),
        profile="quick",
        models=("made-up",),
        seed=0,
        only=(),
        environment=describe_environment(),
        commit=None,
        selected=tuple(check.nodeid for check in checks),
        deselected=(),
        collection_errors=(),
        started="2026-11-25T10:00:00+00:00",
    )
    end = RunEnd(exit_status=0, finished="2026-11-25T10:01:00+00:00", duration=60.0)
    card = build(Run(start=start, records=tuple(checks), end=end))
    save(card, folder / "latest" / SCORECARD_FILE)
    return Made(folder, card, zero_fraction)


def _check(criterion: str, figures: dict[str, Figure]) -> CheckRecord:
    node = f"suites/test_made_up.py::test_{criterion}"
    return CheckRecord(
        nodeid=node, criteria=(criterion,), outcome="passed", figures=figures, command="true", duration=1.0
    )


@pytest.fixture(scope="module")
def scorecards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Made]:
    """Two that share no figure."""
    root = tmp_path_factory.mktemp("scorecards")
    return make_scorecard(root / "one", 0.31734, 1), make_scorecard(root / "two", 0.22897, 3)


# --------------------------------------------------------------------------- looking


@pytest.fixture(scope="module")
def dashboard(subject: Subject) -> ShowsDashboard:
    """The subject's dashboard; skipped where an optional requirement of it is not installed."""
    shows = require(subject, ShowsDashboard)
    try:
        shows.dashboard_command(Path(), Path(), 1)
    except ModuleNotFoundError as error:
        pytest.skip(f"the dashboard needs {error.name}, which is not installed")
    return shows


def is_shown(value: float, text: str) -> bool:
    """Whether a number in the text is `value`, or that in percent: all but exactly, or rounded to three digits."""
    return any(
        math.isclose(number, target, rel_tol=ROUNDING)
        or (digits >= 3 and abs(number - target) <= unit / 2 * (1 + 1e-9))
        for number, digits, unit in map(as_written, NUMBER.finditer(text))
        for target in (value, 100 * value)
    )


def as_written(found: re.Match[str]) -> tuple[float, int, float]:
    """A number, how many digits it is written with, and what a unit of its last digit is worth."""
    whole, decimals, power = found[1].replace(",", ""), found[2] or "", int(found[3] or 0)
    digits = len((whole + decimals).lstrip("0"))
    return float(f"{whole}.{decimals or 0}e{power}"), digits, 10.0 ** (power - len(decimals))


def all_of(texts: Mapping[str, str]) -> str:
    return "\n".join(texts.values())


@pytest.fixture(scope="module")
def shown(
    dashboard: ShowsDashboard, scorecards: tuple[Made, Made], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """All texts of either scorecard, beside no run."""
    folder = tmp_path_factory.mktemp("no-runs")
    one, two = (all_of(dashboard.dashboard_texts(made.reports, folder)) for made in scorecards)
    return one, two


@dataclass(frozen=True)
class Server:
    """The running dashboard, the status of its answer and what came with it."""

    process: psutil.Process
    port: int
    status: int
    kind: str
    seconds: float


@pytest.fixture(scope="module")
def server(
    dashboard: ShowsDashboard, scorecards: tuple[Made, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Start it on a free port, wait for its first answer, and end it."""
    folder = tmp_path_factory.mktemp("dashboard")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words, started = list(dashboard.dashboard_command(scorecards[0].reports, folder, port)), time.monotonic()
    with subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        process = psutil.Process(running.pid)
        try:
            status, kind = _first_answer(running, port)
            yield Server(process, port, status, kind, time.monotonic() - started)
        finally:
            if running.poll() is None:
                for each in (*process.children(recursive=True), process):
                    each.terminate()


def _first_answer(running: subprocess.Popen[bytes], port: int) -> tuple[int, str]:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and running.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type()
        except ConnectionRefusedError:
            time.sleep(0.1)
        finally:
            connection.close()
    pytest.fail(f"the dashboard did not answer within {START_SECONDS:g} s; exit code {running.poll()}")


# --------------------------------------------------------------------------- checks


def test_it_starts_and_answers_with_a_page(server: Server, evidence: Evidence) -> None:
    evidence.figure("seconds_to_the_first_answer", server.seconds, "s", timing=True)
    assert (server.status, server.kind) == (200, "text/html")


@pytest.mark.criterion("A.loopback")
def test_no_other_machine_reaches_it(server: Server) -> None:
    """All its listening sockets are on loopback addresses."""
    family = (server.process, *server.process.children(recursive=True))
    sockets = [each for one in family for each in one.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    assert any(each.laddr.port == server.port for each in sockets)
    assert all(ipaddress.ip_address(each.laddr.ip).is_loopback for each in sockets), sockets


def test_the_figures_of_the_scorecard_at_hand_are_shown(
    scorecards: tuple[Made, Made], shown: tuple[str, str], evidence: Evidence
) -> None:
    """Its own, for each of two, and never those of the other."""
    found = 0
    for text, made, other in zip(shown, scorecards, scorecards[::-1], strict=True):
        for name, value in made.figures.items():
            assert is_shown(value, text), f"{name} = {value} is not shown"
            found += 1
        for name, value in other.figures.items():
            assert not is_shown(value, text), f"{name} = {value} is shown, of another scorecard"
    evidence.figure("figures_found", found)


def test_every_row_is_shown_with_its_status_in_words(scorecards: tuple[Made, Made], shown: tuple[str, str]) -> None:
    """On one line: a colour alone is no status."""
    lines = shown[1].splitlines()
    for row in scorecards[1].card.criteria:
        assert any(row.id in line and row.status in line for line in lines), f"{row.id} {row.status}"


def test_the_figures_of_a_run_are_shown(
    dashboard: ShowsDashboard, small_compression: SmallCompression, tmp_path: Path, evidence: Evidence
) -> None:
    report = small_compression.outcome.report
    if report is None:
        pytest.skip("the subject reports no figures of a run")
    text = all_of(dashboard.dashboard_texts(tmp_path, small_compression.out.parent))
    for name in ("perplexity_before", "perplexity_after", "compression_ratio", "zero_fraction"):
        value = getattr(report, name)
        evidence.figure(name, value)
        assert is_shown(value, text), f"{name} = {value} is not shown"


def test_without_artefacts_every_page_says_something(dashboard: ShowsDashboard, tmp_path: Path) -> None:
    texts = dashboard.dashboard_texts(tmp_path / "no-reports", tmp_path / "no-runs")
    assert texts
    for page, text in texts.items():
        assert text.strip(), page
        assert "Traceback" not in text, page
