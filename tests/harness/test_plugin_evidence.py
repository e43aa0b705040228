"""What the plugin records of a check, and the numbers that a check draws."""

from __future__ import annotations

import re

import hypothesis
import pytest

from harness.criteria import Status
from tests.harness.inner_audits import PROFILES, Auditor, Result, audit

__all__ = ["audit"]

pytest_plugins = ["pytester"]


# --------------------------------------------------------------------------- evidence

OUTCOMES = """
@criterion("2.ste")
def test_passes(evidence):
    evidence.figure("error", 0.25, "x", interval=(0.2, 0.3))
    evidence.note("measured twice")
    evidence.attach("curve", np.arange(3))

@criterion("2.ste")
def test_fails(evidence):
    evidence.figure("error", float("nan"))
    assert 1 == 2, "they differ"

@criterion("2.ste")
def test_breaks(tmp_path):
    raise RuntimeError(f"no file in {tmp_path}/x at 0x7f1234567890 \\ud800")

@pytest.fixture
def broken():
    raise AssertionError("no model")

@criterion("2.ste")
def test_has_a_broken_fixture(broken): pass

@pytest.fixture
def untidy():
    yield
    raise ValueError("cannot clean up")

@criterion("2.ste")
def test_is_torn_down_badly(untidy): pass

@criterion("2.ste")
def test_skips():
    pytest.skip("no network")

@criterion("2.ste")
def test_does_not_apply(subject):
    require(subject, InfersLinear)

@criterion("2.ste")
@pytest.mark.xfail(strict=True, reason="known")
def test_is_expected_to_fail():
    assert False

@criterion("2.ste")
@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly(): pass

@criterion("2.ste")
def test_fails_in_a_group():
    raise ExceptionGroup("several", [AssertionError("a"), AssertionError("b")])

@criterion("2.ste")
def test_says_fail():
    pytest.fail("on purpose")
"""


@pytest.fixture
def outcomes(audit: Auditor) -> Result:
    return audit(OUTCOMES)


def test_every_outcome_is_recorded_as_what_it_is(outcomes: Result) -> None:
    assert outcomes.outcomes == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_breaks": "error",
        "test_has_a_broken_fixture": "error",
        "test_is_torn_down_badly": "error",
        "test_skips": "skipped",
        "test_does_not_apply": "not_applicable",
        "test_is_expected_to_fail": "failed",
        "test_passes_unexpectedly": "failed",
        "test_fails_in_a_group": "failed",
        "test_says_fail": "failed",
    }
    assert outcomes.status == pytest.ExitCode.TESTS_FAILED
    assert outcomes.card.complete  # the colours are another matter
    row = outcomes.card.row("2.ste")
    assert row is not None
    assert row.status is Status.RED


def test_messages_say_why_without_what_differs_between_machines(outcomes: Result) -> None:
    assert outcomes.check("test_passes").message == ""
    assert "they differ" in outcomes.check("test_fails").message
    assert re.fullmatch(
        r"RuntimeError: no file in <tmp>/\S+x at 0x\.\.\. \\ud800", outcomes.check("test_breaks").message
    )
    assert "cannot clean up" in outcomes.check("test_is_torn_down_badly").message
    assert outcomes.check("test_skips").message == "no network"
    assert outcomes.check("test_does_not_apply").message == "made-up does not offer InfersLinear"
    assert outcomes.check("test_is_expected_to_fail").message.startswith("expected to fail (known): ")
    assert "XPASS(strict)" in outcomes.check("test_passes_unexpectedly").message


def test_figures_notes_and_attachments_survive_a_check_that_fails(outcomes: Result) -> None:
    passed, failed = outcomes.check("test_passes"), outcomes.check("test_fails")
    assert (passed.figures["error"].value, passed.figures["error"].interval) == (0.25, (0.2, 0.3))
    assert passed.notes == ("measured twice",)
    assert passed.attachments == {"curve": [0, 1, 2]}
    assert not failed.figures["error"].finite


def test_every_check_names_the_command_that_runs_it_alone(outcomes: Result) -> None:
    assert outcomes.check("test_passes").command == (
        "python -m pytest -p harness.plugin test_checks.py::test_passes --subject made_up_subject.py:Subject "
        "--profile quick --seed 0 --model tiny --model smollm2-135m"
    )


def test_a_check_records_the_artefacts_that_its_fixtures_hold_and_where_it_stands(audit: Auditor) -> None:
    result = audit("""
from harness.artefacts import HoldsArtefacts

class Held(HoldsArtefacts):
    def __init__(self, path): self.path = path
    @property
    def artefacts(self): return {"tiny packed": self.path}

@pytest.fixture
def held(tmp_path):
    (tmp_path / "file").write_text("x")
    return Held(tmp_path / "file")

@pytest.fixture
def derived(held): return held.path

@criterion("2.ste")
def test_looks(derived):
    assert not derived.exists(), "fails, and is recorded all the same"

@criterion("2.ste")
def test_looks_at_nothing(): pass
""")
    digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert result.check("test_looks").artefacts == {"tiny packed": digest}
    assert result.check("test_looks_at_nothing").artefacts == {}
    source = (result.directory.parent / "test_checks.py").read_text().splitlines()
    assert source[result.check("test_looks").line - 1].startswith(("def test_looks(", '@criterion("2.ste")'))
    row = result.card.row("2.ste")
    assert row is not None
    assert row.artefacts == {"tiny packed": digest}


def test_nan_makes_a_passed_check_s_row_red(audit: Auditor) -> None:
    result = audit("@criterion('2.ste')\ndef test_a(evidence): evidence.figure('error', math.nan)")
    row = result.card.row("2.ste")
    assert row is not None
    assert (row.status, row.reason) == (Status.RED, "not a finite number: error in test_checks.py::test_a")


def test_a_subject_that_lacks_what_a_row_needs_leaves_it_grey(audit: Auditor) -> None:
    result = audit("@criterion('2.ste')\ndef test_a(subject): require(subject, InfersLinear)")
    row = result.card.row("2.ste")
    assert row is not None
    assert row.status is Status.GREY
    assert result.card.complete


def test_without_a_place_for_the_scorecard_nothing_is_written(audit: Auditor) -> None:
    result = audit(PROFILES, scorecard=False)
    assert result.status == 0
    assert not result.directory.exists()


# --------------------------------------------------------------------------- seeds

RANDOM = """
@pytest.fixture(scope="session")
def greedy():
    return [random.random() for _ in range(5)]

@criterion("2.ste")
def test_first(evidence):
    random.random(), np.random.rand(), torch.rand(1)
    evidence.attach("drawn", [random.random(), float(np.random.rand()), float(torch.rand(1))])

@criterion("2.ste")
@pytest.mark.parametrize("case", [1, 2])
def test_second(greedy, evidence, case):
    evidence.attach("drawn", [random.random(), float(np.random.rand()), float(torch.rand(1))])

examples = []

@criterion("2.ste")
@given(st.integers())
def test_given(number):
    examples.append(number)

@criterion("2.ste")
def test_z_examples(evidence):
    evidence.attach("examples", [str(each) for each in examples])
"""


def test_a_check_draws_the_same_numbers_alone_and_in_company(audit: Auditor) -> None:
    together = audit(RANDOM)
    drawn = {name: together.check(name).attachments for name in together.outcomes}
    assert drawn["test_second[1]"] != drawn["test_second[2]"] != drawn["test_first"]
    alone = audit(RANDOM, "-k", "test_second and 2")
    assert alone.check("test_second[2]").attachments == drawn["test_second[2]"]


def test_the_seed_decides_also_what_hypothesis_tries(audit: Auditor) -> None:
    def drawn(*options: str) -> tuple[object, object]:
        result = audit(RANDOM, *options)
        return result.check("test_first").attachments, result.check("test_z_examples").attachments["examples"]

    first, again, other = drawn(), drawn(), drawn("--seed", "1")
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]
    assert isinstance(first[1], list)
    assert len(first[1]) == 50  # the quick profile's examples


def test_the_process_around_an_audit_keeps_its_own_hypothesis_settings(audit: Auditor) -> None:
    before = hypothesis.settings().max_examples
    audit(PROFILES)
    assert hypothesis.settings().max_examples == before
