"""Dashboard and static report in headless Chromium, by `nox -s dashboard` alone, as it takes minutes."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlencode

import psutil
import pytest

from bitnet.dashboard import jobs
from bitnet.dashboard.app import PAGES
from bitnet.dashboard.runs import read_run
from bitnet.progress_file import read_progress
from harness.render import FORMATS
from tests.bitnet.dashboard.made_up import write_reports, write_run
from tests.browser import chromium
from tests.harness.render.cards import scorecard

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no Chromium: install it (chromium)")


@contextlib.contextmanager
def server(reports, runs):
    """A running dashboard, killed at the end without a warning."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "bitnet", "dashboard", "--reports", str(reports), "--run", str(runs)]
    with subprocess.Popen([*words, "--port", str(port)], cwd=runs, stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 120
            while time.monotonic() < end:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10):
                        break
                except OSError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def out(tmp_path):
    """Where a run is to be; what fills it is ended, come what may."""
    (tmp_path / "runs").mkdir()
    yield tmp_path / "runs" / "out"
    job = jobs.read_job(tmp_path / "runs" / "out")
    if job is not None:
        jobs.stop(job)


@pytest.fixture
def folders(tmp_path):
    write_run(tmp_path / "runs" / "out")
    return write_reports(tmp_path / "reports", earlier=3), tmp_path / "runs"


def test_every_page_is_drawn_without_an_error_and_without_another_machine(folders, tmp_path):
    told = {
        "Scorecard": "61.7 %",
        "Then and now": "better",
        "History": "Categories beside the overall score",
        "Run": "23.75",
        "Layers": "2 ternary layers",
        "Speed": "bitnet bench",
        "Outputs and handoff": "63 of 64",
        "Live progress": "finished",
        "Compress a model": "Ternary planes of a weight",
        "Try it": "no-such-model",
    }
    assert told.keys() == PAGES.keys()
    with server(*folders) as address, chromium.page(tmp_path / "profile") as page:
        for dark in (False, True):
            for name, words in told.items():
                page.open(f"{address}?{urlencode({'page': name})}", dark=dark)
                page.wait_for(name, "h1")
                page.wait_for(words, "[data-testid=stMain]")
                page.settle()
                assert "Traceback" not in page.text
        assert page.errors == []
        elsewhere = [url for url in page.requests if not url.startswith((address, "data:", "blob:", "about:"))]
        assert elsewhere == []


def test_the_scorecard_fits_a_phone(folders, tmp_path):
    with server(*folders) as address, chromium.page(tmp_path / "profile") as page:
        page.open(address, width=390, height=844, mobile=True)
        page.wait_for("61.7 %")
        page.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_dashboard_that_is_killed_in_the_middle_of_a_run_loses_nothing(out, tmp_path):
    """Started from the page, seen by two servers and ended by the second one; the run never notices."""
    runs, reports = out.parent, write_reports(tmp_path / "reports")
    with chromium.page(tmp_path / "profile") as page:
        with server(reports, runs) as address:
            page.open(f"{address}?{urlencode({'page': 'Compress a model'})}")
            page.wait_for("Ternary planes of a weight")
            page.settle()
            page.evaluate("[...document.querySelectorAll('button')].find(b => b.innerText.includes('Start')).click()")
            page.wait_for("Started. It fills", seconds=120)
            wait(lambda: (told := read_progress(out)) is not None and told.running == "recover", 600)
            page.open(f"{address}?{urlencode({'page': 'Live progress'})}")
            page.wait_for("recover, step")
        job = jobs.read_job(out)
        program = psutil.Process(read_progress(out).process)
        assert program.is_running()
        with server(reports, runs) as address:
            page.open(f"{address}?{urlencode({'page': 'Live progress'})}")
            page.wait_for("out: ▶ running")
            page.wait_for("recover, step")
            page.evaluate("[...document.querySelectorAll('button')].find(b => b.innerText.includes('Stop it')).click()")
            page.wait_for("out: ⏸ interrupted")
            wait(lambda: not program.is_running(), 60)
            page.settle()
            page.evaluate(
                "[...document.querySelectorAll('button')].find(b => b.innerText.includes('Continue')).click()"
            )
            page.wait_for("out: ▶ running", seconds=120)
    assert jobs.read_job(out).process != job.process
    wait(lambda: not read_run(out).active, 900)
    assert read_run(out).state == "finished"
    assert not list(runs.glob(".*.work"))


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_static_report_is_readable_printable_and_needs_no_network(tmp_path):
    report = tmp_path / "report.html"
    report.write_text(FORMATS["html"](scorecard()))
    with chromium.page(tmp_path / "profile") as page:
        colours = []
        for dark in (False, True):
            page.open(report.as_uri(), width=390, height=844, dark=dark, mobile=True)
            page.wait_for("Quality against size")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1]
        page.pdf(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
