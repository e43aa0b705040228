"""Calls of the command line, in this process and as a program of its own."""

import re
import subprocess
import sys

from typer.testing import CliRunner

from bitnet.cli import app

SETTINGS = {
    "calibration_samples": 4,
    "calibration_tokens": 32,
    "evaluation_tokens": 200,
    "fine_tune_steps": 0,
}


def bitnet(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def program(*arguments: object, **options: object):
    return subprocess.run(
        [sys.executable, "-m", "bitnet", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def settings(**more: object) -> list[str]:
    return [f"--set={key}={value}" for key, value in {**SETTINGS, **more}.items()]


def assert_one_sentence(outcome, *fragments: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that holds the fragments."""
    code = outcome.exit_code if hasattr(outcome, "exit_code") else outcome.returncode
    told = [line for line in outcome.stderr.splitlines() if not re.match(r" *[\d.]+ s  \d/\d ", line)]
    assert (code, outcome.stdout) == (2, "")
    assert len(told) == 1, told
    assert told[0].startswith("Error: ")
    assert told[0].endswith(".")
    assert "Traceback" not in outcome.stderr
    for fragment in fragments:
        assert fragment in told[0]


def table_rows(shown: str) -> dict[str, list[str]]:
    """What looks like rows of tables: names and cells, with two spaces or more between them."""
    rows = [re.split(r" {2,}", line.rstrip()) for line in shown.splitlines()]
    return {cells[0]: cells[1:] for cells in rows}
