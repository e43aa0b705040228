"""The dashboard in headless Chromium, by `nox -s dashboard` alone: one browser for all, and servers of its own."""

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
from tests.bitnet.dashboard.made_up import write_reports, write_run
from tests.bitnet.phase4 import LENIENT, SETTINGS, write_model, write_texts
from tests.browser import chromium

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no Chromium: install it (chromium)")

#: What each page has to say of the made-up artefacts.
TOLD = {
    "Scorecard": "61.7 %",
    "Then and now": "better",
    "History": "Categories beside the overall score",
    "Run": "23.75",
    "Layers": "2 ternary layers",
    "Speed": "bitnet bench",
    "Outputs and handoff": "all but 1",
    "Live progress": "finished",
    "Compress a model": "Ternary planes of a weight",
    "Try it": "no-such-model",
}


#: Steps of recovery between two checkpoints.
KEPT_EVERY = 5
MODEL_FIELD = "[data-testid=stMain] [data-testid=stSelectbox] input"


@contextlib.contextmanager
def server(reports, runs):
    """A running dashboard, killed at the end without a warning."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "bitnet", "dashboard", "--reports", str(reports), "--run", str(runs)]
    with subprocess.Popen([*words, "--port", str(port)], cwd=runs, stdout=subprocess.DEVNULL) as process:
        try:
            wait(lambda: answers(port), 120)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGKILL)


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30):
            return True
    except OSError:
        return False


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a dashboard on made-up artefacts."""
    root = tmp_path_factory.mktemp("made-up")
    write_run(root / "runs" / "out")
    with server(write_reports(root / "reports", earlier=3), root / "runs") as found:
        yield found


@pytest.fixture
def out(tmp_path):
    """Where a run is to be; what fills it is ended, come what may."""
    (tmp_path / "runs").mkdir()
    yield tmp_path / "runs" / "out"
    job = jobs.read_job(tmp_path / "runs" / "out")
    if job is not None:
        jobs.stop(job)


def test_every_page_is_drawn_without_an_error_and_without_another_machine(page, address):
    assert TOLD.keys() == PAGES.keys()
    for dark in (False, True):
        page.open(address, dark=dark)
        for name, words in TOLD.items():
            page.wait_for(name, "[data-testid=stSidebar] label")
            page.choose(name)
            page.wait_for(name, "h1")
            page.wait_for(words, "[data-testid=stMain]")
            page.settle()
            assert "Traceback" not in page.text
    assert page.errors == []
    elsewhere = [url for url in page.requests if not url.startswith((address, "data:", "blob:", "about:"))]
    assert elsewhere == []


def test_the_scorecard_fits_a_phone(page, address):
    page.open(address, width=390, height=844, mobile=True)
    page.wait_for("61.7 %")
    page.settle()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_dashboard_that_is_killed_in_the_middle_of_a_run_loses_nothing(page, out, tmp_path):
    """A run that one server starts goes on when that is killed; another one stops, continues and tries it."""
    runs, reports = out.parent, write_reports(tmp_path / "reports")
    with contextlib.ExitStack() as waiting:
        with server(reports, runs) as address:
            show(page, address, "Compress a model", "Ternary planes of a weight")
            page.write(MODEL_FIELD, str(write_model(tmp_path / "model", "llama")))
            page.press_enter()
            page.write("textarea", settings(tmp_path))
            page.press("Start")
            page.wait_for("Started. It fills", seconds=120)
            begun = wait(lambda: recovering(out, 1), 240)
            program = waiting.enter_context(held(begun.process))
            show(page, address, "Live progress", "recover, step")
        job = jobs.read_job(out)
        program.resume()
        wait(lambda: recovering(out, begun.step + 2 * KEPT_EVERY), 240)  # nobody looks, and it goes on
        program.suspend()
        with server(reports, runs) as address:
            show(page, address, "Live progress", "recover, step")
            page.wait_for("out: ▶ running")
            page.wait_for("A checkpoint of recovery is kept")
            page.press("Stop it")
            program.resume()
            page.wait_for("out: ⏸ interrupted")
            wait(lambda: not program.is_running(), 60)
            page.settle()
            page.press("Continue")
            wait(lambda: (told := jobs.read_job(out)).exit_code is not None and told.process != job.process, 300)
            assert read_run(out).state == "finished"
            assert not list(runs.glob(".*.work"))
            show(page, address, "Try it", "Continue the prompt")
            page.press("Continue the prompt")
            for engine in ("native runtime (", "transformers: "):
                page.wait_for(engine, "[data-testid=stMain]", seconds=120)


def show(page, address, name, words):
    page.open(f"{address}?{urlencode({'page': name})}")
    page.wait_for(words)
    page.settle()


def recovering(out, step):
    """The progress of the run that fills `out`, once it has come to this step of recovery."""
    told = read_progress(out)
    return told if told is not None and told.running == "recover" and (told.step or 0) >= step else None


@contextlib.contextmanager
def held(process):
    """A program that stands still, so that it does not end while pages are loaded."""
    program = psutil.Process(process)
    program.suspend()
    try:
        yield program
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            program.resume()


def settings(folder):
    """As the form takes them: short texts, and a recovery that can be stopped in its middle."""
    told = {**SETTINGS, **LENIENT, **write_texts(folder), "fine_tune_steps": 200, "checkpoint_steps": KEPT_EVERY}
    return "\n".join(f"{key}={value}" for key, value in {**told, "fine_tune_trigger": 0.0}.items())
