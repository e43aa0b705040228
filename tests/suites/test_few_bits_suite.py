"""How compressions by a command are timed, limited, and seen by the memory that they take."""

import sys
from pathlib import Path

import pytest

from suites import effortful_runs
from suites.effortful_runs import MINUTES, USUAL_MINUTES, compress_all, minutes_granted

PROGRAM = """
import pathlib, sys, time
words = sys.argv[1:]
assert words[0] == "compress" and words[-2] == "--out"
held = b"x" * int(words[1])
print("compressing", flush=True)
time.sleep(float(words[2]))
if words[3] != "nothing":
    (pathlib.Path(words[-1]) / "packed").mkdir(parents=True)
sys.exit(int(words[4]))
"""


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return (sys.executable, "-I", "-S", str(file))


def test_each_run_is_seen_by_its_own_peak_and_end(command: tuple[str, ...], tmp_path: Path) -> None:
    runs = {"small": ("0", "0.3", "packed", "0"), "large": ("300000000", "0.3", "packed", "1")}
    held_here = bytearray(b"x") * 200_000_000
    small, large = compress_all(command, runs, tmp_path, 1.0)
    assert small.peak < 100_000_000 < len(held_here) < 300_000_000 < large.peak
    assert (small.code, large.code) == (0, 1)
    assert small.packed == tmp_path / "small" / "packed"
    assert large.packed.is_dir()
    assert small.minutes > 0.3 / 60


@pytest.mark.parametrize(
    ("words", "message"),
    [(("0", "0", "packed", "2"), "ended with 2: compressing"), (("0", "0", "nothing", "0"), "no packed artefact")],
)
def test_a_run_without_an_artefact_is_told_by_its_last_words(
    command: tuple[str, ...], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (ended,) = compress_all(command, {"out": words}, tmp_path, 1.0)
    with pytest.raises(AssertionError, match=message):
        _ = ended.packed


def test_a_run_that_takes_much_too_long_is_ended(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effortful_runs, "MINUTE", 0.1)
    (ended,) = compress_all(command, {"out": ("0", "60", "packed", "0")}, tmp_path, 1.0)
    assert ended.code < 0
    with pytest.raises(AssertionError, match="ended with -9"):
        _ = ended.packed


def test_minutes_are_granted_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MINUTES, raising=False)
    assert minutes_granted() == USUAL_MINUTES
    monkeypatch.setenv(MINUTES, "60")
    assert minutes_granted() == 60.0
