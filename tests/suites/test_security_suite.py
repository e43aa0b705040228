"""What the suite of security says of sources, and that the auditor itself holds to it."""

import ast
import random
from pathlib import Path

import pytest

from suites.hostile import Tally, spoilt_json
from suites.test_security import unsafe

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["bitnet", "harness", "suites", "noxfile.py"])
def test_no_source_here_runs_what_it_reads(place: str) -> None:
    paths = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))
    assert paths
    assert not [(path, *what) for path in paths for what in unsafe(ast.parse(path.read_text(encoding="utf-8")))]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("torch.load(f, weights_only=False)", "torch.load without weights_only"),
        ("torch.load(f, weights_only=flag)", "torch.load without weights_only"),
        ("yaml.load(f)", "yaml.load without a safe loader"),
        ("run(x, shell=flag)", "shell"),
        ("from pickle import loads", "pickle"),
        ("import a, dill.session", "dill.session"),
    ],
)
def test_what_might_be_unsafe_counts_as_unsafe(source: str, what: str) -> None:
    assert [name for _, name in unsafe(ast.parse(source))] == [what]


def test_openings_are_counted_by_how_they_end() -> None:
    tally = Tally()
    for error in (None, ValueError("no"), ValueError(""), RecursionError("deep"), MemoryError()):
        tally.attempt("it", 5.0, lambda error=error: _raising(error))
    tally.attempt("it", 0.05, _for_ever)
    assert (tally.opened, tally.refused, len(tally.crashes), len(tally.hangs)) == (6, 2, 3, 1)


def test_documents_are_spoilt_in_many_ways_and_the_same_by_one_seed() -> None:
    made = {seed: spoilt_json('{"a": [1, {"b": "c"}]}', random.Random(seed)) for seed in range(40)}
    assert len(set(made.values())) > 15
    assert made[3] == spoilt_json('{"a": [1, {"b": "c"}]}', random.Random(3))


def _raising(error: Exception | None) -> None:
    if error is not None:
        raise error


def _for_ever() -> None:
    while True:
        pass
