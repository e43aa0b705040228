"""What the plugin makes of markers and options, and of runs that stop early."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.evidence import EVIDENCE_FILE
from tests.harness.inner_audits import HEAD, PROFILES, SUBJECT, Auditor, audit, dedent

__all__ = ["audit"]

pytest_plugins = ["pytester"]


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
    assert audit(dedent(source)).check("TestGroup::test_a").criteria == ("A.bad-input", "2.ste", "A.packing-exact")


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
    result = audit(dedent(source), "--model", "one", "--profile", "full", "--seed", "7")
    assert result.outcomes == {"test_a": "passed"}


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
    result = audit(dedent(source))
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
