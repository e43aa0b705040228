from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

import harness.plugin  # noqa: F401 - loaded before the inner runs, which forget what they import
from harness.criteria import Status
from harness.evidence import EVIDENCE_FILE, CheckRecord, Run, read_run
from harness.scorecard import SCORECARD_FILE, Scorecard, load

pytest_plugins = ["pytester"]

SUBJECT = """
from harness.subject import Declaration

class Subject:
    declaration = Declaration(name="made-up", version="1.0")
"""
HEAD = """
import random, math
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from harness.subject import InfersLinear, NotApplicable, require

criterion = pytest.mark.criterion
"""
# Plugins of the outer run that have no business in the inner one.
QUIET = [word for name in ("cacheprovider", "xdist", "cov", "benchmark") for word in ("-p", f"no:{name}")]


@dataclass(frozen=True)
class Result:
    """What an inner run left behind."""

    status: int
    output: str
    directory: Path

    @property
    def run(self) -> Run:
        return read_run(self.directory / EVIDENCE_FILE)

    @property
    def card(self) -> Scorecard:
        return load(self.directory / SCORECARD_FILE)

    def check(self, name: str) -> CheckRecord:
        return next(record for record in self.run.records if record.nodeid.partition("::")[2] == name)

    @property
    def outcomes(self) -> dict[str, str]:
        return {record.nodeid.partition("::")[2]: record.outcome for record in self.run.records}


class Auditor:
    """Runs checks, given as source, under the plugin and inside this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makepyfile(made_up_subject=SUBJECT)

    def __call__(self, source: str, *options: str, scorecard: bool = True) -> Result:
        self._pytester.makepyfile(test_checks=HEAD + source)
        directory = self._pytester.path / "out"
        words = ["-p", "harness.plugin", *QUIET, "--strict-markers", "--subject", "made_up_subject.py:Subject"]
        words += ["--scorecard", str(directory)] if scorecard else []
        done = self._pytester.runpytest_inprocess(*words, *options, no_reraise_ctrlc=True)
        return Result(int(done.ret), "\n".join([*done.outlines, *done.errlines]), directory)


@pytest.fixture
def audit(pytester: pytest.Pytester) -> Auditor:
    return Auditor(pytester)


# --------------------------------------------------------------------------- markers


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def test_a(): pass", "test_checks.py::test_a gives evidence for nothing"),
        ("@criterion('9.z')\ndef test_a(): pass", "names the unknown criterion '9.z'"),
        ("@criterion('0.overall')\ndef test_a(): pass", "'0.overall', which is derived from other rows"),
        ("@criterion('2.ste')\n@pytest.mark.profile('slow')\ndef test_a(): pass", "unknown profile 'slow'"),
        ("@criterion('2.ste')\n@pytest.mark.profile()\ndef test_a(): pass", "unknown profile None"),
    ],
)
def test_a_check_with_a_wrong_marker_stops_the_run_before_it_starts(audit: Auditor, source: str, message: str) -> None:
    result = audit(source)
    assert result.status == pytest.ExitCode.USAGE_ERROR
    assert message in result.output
    assert not (result.directory / EVIDENCE_FILE).exists()


def test_markers_of_class_and_module_count_too(audit: Auditor) -> None:
    source = """
        pytestmark = criterion("2.ste")

        @criterion("A.packing-exact")
        class TestGroup:
            @criterion("A.bad-input", "2.ste")
            def test_a(self): pass
    """
    assert audit(_dedent(source)).check("TestGroup::test_a").criteria == ("A.bad-input", "2.ste", "A.packing-exact")


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "9.z"], "no criterion is called 9.z"),
        (["--subject", "nobody"], "unknown subject 'nobody'"),
        (["--subject", "missing.py:factory"], "there is no file missing.py"),
    ],
)
def test_bad_options_are_told_in_one_sentence(audit: Auditor, options: list[str], message: str) -> None:
    result = audit("@criterion('2.ste')\ndef test_a(): pass", *options)
    assert result.status == pytest.ExitCode.USAGE_ERROR
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_place_that_cannot_be_written_is_told(audit: Auditor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = audit("@criterion('2.ste')\ndef test_a(): pass", "--scorecard", str(tmp_path / "file" / "out"))
    assert result.status == pytest.ExitCode.USAGE_ERROR
    assert "choose another place with --out" in result.output


def test_the_header_names_subject_profile_seed_models_and_versions(audit: Auditor) -> None:
    result = audit("@criterion('2.ste')\ndef test_a(models, profile, seed): pass", "--model", "one", "--model", "two")
    assert "subject: made-up 1.0 (made_up_subject.py:Subject), profile quick, seed 0, models one, two" in result.output
    assert re.search(r"versions: .*torch \d", result.output)


def test_the_fixtures_give_what_the_command_line_said(audit: Auditor) -> None:
    source = """
        @criterion("2.ste")
        def test_a(subject, models, profile, seed):
            assert (subject.declaration.name, models, profile, seed) == ("made-up", ("one",), "full", 7)
    """
    result = audit(_dedent(source), "--model", "one", "--profile", "full", "--seed", "7")
    assert result.outcomes == {"test_a": "passed"}


PROFILES = """
@criterion("2.ste")
def test_quick(): pass

@criterion("2.ste")
@pytest.mark.profile("full")
def test_full(): pass

@criterion("A.packing-exact")
@pytest.mark.profile("quick")
def test_packing(): pass
"""


def test_the_quick_profile_leaves_out_what_is_marked_full_and_records_that(audit: Auditor) -> None:
    result = audit(PROFILES)
    assert set(result.outcomes) == {"test_quick", "test_packing"}
    assert [each.nodeid for each in result.run.start.deselected] == ["test_checks.py::test_full"]
    row = result.card.row("2.ste")
    assert row is not None
    assert row.reason == "1 check passed, 1 more in the full profile"
    assert result.card.complete


def test_the_full_profile_runs_everything(audit: Auditor) -> None:
    result = audit(PROFILES, "--profile", "full")
    assert set(result.outcomes) == {"test_quick", "test_full", "test_packing"}


def test_only_leaves_out_other_rows_and_takes_patterns_and_the_sources_of_derived_rows(audit: Auditor) -> None:
    assert set(audit(PROFILES, "--only", "A.*").outcomes) == {"test_packing"}
    result = audit(PROFILES, "--only", "0.feature-completion")  # the mean of the rows 2.*
    assert set(result.outcomes) == {"test_quick"}
    assert result.card.only == ("0.feature-completion",)


def test_a_selection_that_no_check_measures_is_not_complete(audit: Auditor) -> None:
    result = audit(PROFILES, "--only", "2.dashboard")
    assert result.status == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no check was selected" in result.card.problems


def test_an_audit_is_not_spread_over_processes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(made_up_subject=SUBJECT, test_checks=HEAD + PROFILES)
    words = ["-p", "harness.plugin", "-n", "2", "--subject", "made_up_subject.py:Subject", "--scorecard", "out"]
    result = pytester.runpytest_inprocess(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "an audit runs in one process" in "\n".join([*result.outlines, *result.errlines])


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


# --------------------------------------------------------------------------- runs that stop early


def test_a_run_that_is_interrupted_keeps_what_it_had_and_is_not_complete(audit: Auditor) -> None:
    source = """
        @criterion("2.ste")
        def test_a(): pass

        @criterion("2.ste")
        def test_b(): raise KeyboardInterrupt

        @criterion("2.ste")
        def test_c(): pass
    """
    result = audit(_dedent(source))
    assert result.outcomes == {"test_a": "passed"}
    assert "2 of 3 checks left no record, the first test_checks.py::test_b" in result.card.problems
    assert "the run ended with pytest's exit status 2" in result.card.problems


def test_a_module_that_cannot_be_imported_is_a_problem_and_the_rest_still_runs(
    audit: Auditor, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_broken="import nothing_of_this_name")
    result = audit(PROFILES, "--continue-on-collection-errors")
    assert set(result.outcomes) == {"test_quick", "test_packing"}
    (problem,) = result.card.problems
    assert problem.startswith("not collected: test_broken.py: ")
    assert "nothing_of_this_name" in problem


def test_a_run_that_only_collects_writes_nothing(audit: Auditor) -> None:
    result = audit(PROFILES, "--collect-only")
    assert result.status == 0
    assert not (result.directory / EVIDENCE_FILE).exists()


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


def _dedent(source: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in source.splitlines())
