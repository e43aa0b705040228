from __future__ import annotations

import io

from rich.console import Console

from harness.criteria import load_rulebook
from harness.evidence import CheckRecord, Figure
from harness.render.targets import print_targets, races, render_targets, targets
from harness.scorecard import Scorecard, build
from tests.harness import made_up

RACE = "product 2560 x 2560, 1 token, cached"


def measured(nodeid: str, row: str, figure: str, ratio: tuple[float, float, float]) -> CheckRecord:
    value, low, high = ratio
    figures = {
        figure: Figure(value=value, unit="x", interval=(low, high), timing=True),
        "rate of subject": Figure(value=180.0, unit="GMAC/s", timing=True),
        "rate of llama.cpp TQ2_0": Figure(value=55.0, unit="GMAC/s", timing=True),
    }
    notes = (f"race: {RACE}", "subject: threads 1, products 31")
    timings = {"subject": (0.001, 0.002, 0.003), "llama.cpp TQ2_0": (0.003, 0.004, 0.005)}
    return made_up.check(nodeid, row, figures=figures).model_copy(update={"notes": notes, "timings": timings})


def speeds() -> Scorecard:
    records = (
        measured("suites/test_a.py::a", "A.speed-gemv-cached-llama", "over_llama_ternary", (3.3, 3.1, 3.4)),
        measured("suites/test_a.py::b", "A.speed-gemv-cached-llama", "over_llama_ternary", (3.2, 2.9, 3.3)),
        made_up.check("suites/test_a.py::c", "A.speed-decode-llama-f16", outcome="skipped", message="llama | absent"),
        made_up.check("suites/test_b.py::d", "A.packing-exact"),
    )
    return build(made_up.run(*records), load_rulebook())


def test_each_target_has_a_row_and_the_worst_measurement_stands_for_it() -> None:
    rows = targets(speeds())
    assert len(rows) == 14
    first = rows[0]
    assert (first.target, first.measured, first.interval, first.status) == (">= 3.0x", "3.2x", "2.9 to 3.3", "RED")
    absent = next(row for row in rows if row.title == "Decoding over llama.cpp F16")
    assert (absent.measured, absent.status) == ("", "GREY")
    assert "llama | absent" in absent.reason


def test_a_race_is_told_once_with_every_arm() -> None:
    (race,) = races(speeds())
    assert race.title == RACE
    assert race.rates == (("subject", "180 GMAC/s"), ("llama.cpp TQ2_0", "55 GMAC/s"))
    assert race.notes == ("subject: threads 1, products 31",)


def test_the_markdown_has_the_table_and_the_races() -> None:
    text = render_targets(speeds())
    assert "| One token, cached, over llama.cpp | >= 3.0x | 3.2x | 2.9 to 3.3 | ✗ RED |" in text
    assert "llama \\| absent" in text
    assert f"## {RACE}" in text
    assert "- subject: threads 1, products 31" in text


def test_the_table_is_printed() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_targets(speeds(), console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "2.9 to 3.3" in printed
    assert "✗ RED" in printed
    assert printed.count("  subject: threads 1, products 31") == 1
    print_targets(speeds())
