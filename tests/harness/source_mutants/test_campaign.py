from pathlib import Path

import pytest

from harness.errors import AuditError
from harness.source_mutants import campaign
from tests.harness.source_mutants.conftest import FILE, SOURCE, TEST

EQUAL = "- return a if a > b else b\n+ return a if a >= b else b"
MORE = """

def test_more():
    from made_up_place import nobody_asks

    assert nobody_asks(1) == 2
"""


def test_every_change_is_tried_and_only_the_survivors_again(place: Path) -> None:
    told = []
    report = campaign.run(FILE, 2, progress=lambda done, total, trial: told.append((done, total)))
    fates = {trial.change: trial.fate for trial in report.trials}
    assert fates == {
        EQUAL: "survived",
        "- return a if a > b else b\n+ return a if (a > b) and False else b": "killed",
        "- return a if a > b else b\n+ return a if (a > b) or True else b": "killed",
        "- return a + 1\n+ return a - 1": "survived",
        "- return a + 1\n+ return a + 2": "survived",
    }
    assert {trial.killer for trial in report.trials} == {"", f"{TEST}::test_larger"}
    assert told == [(number, 5) for number in range(1, 6)]
    assert report.noticed + len(report.survivors) == len(report.trials)

    (place / TEST).write_text((place / TEST).read_text(encoding="utf-8") + MORE, encoding="utf-8")
    again = campaign.run(FILE, 2, report)
    assert [trial.change for trial in again.survivors] == [EQUAL]
    assert len(again.trials) == len(report.trials)

    (place / FILE).write_text(SOURCE.replace("a + 1", "a + 2"), encoding="utf-8")
    with pytest.raises(AuditError, match="has changed since its survivors were found"):
        campaign.run(FILE, 2, report)


def test_a_file_without_tests_of_its_own_is_refused() -> None:
    with pytest.raises(AuditError, match=r"choose among bitnet/quantizer\.py"):
        campaign.run("bitnet/cli.py", 1)


def test_the_files_and_their_tests_are_there() -> None:
    for file, tests in campaign.TESTS.items():
        assert all((campaign.trial.ROOT / each).is_file() for each in (file, *tests))
