"""Mutants of what is checked by reading it: sources, documents, coverage data, reports; each a made-up repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.mutants.mutant import Defect, Entry, Stage, family_of_words
from harness.mutants.reference.repositories import (
    BLEMISHES,
    SHORTFALLS,
    changed_repository,
    documented_repository,
    measured_repository,
    source_tree,
)

STRUCTURE = "test_each_responsibility_has_a_module_of_its_own"
DRAWER = "test_there_is_no_drawer_for_everything_else"
LENGTH = "test_no_function_is_longer_than_a_page"
HINTS = "test_public_functions_are_annotated"
DOCSTRINGS = "test_everything_public_is_documented"
EACH_MODULE = "test_every_module_by_itself_meets_the_rules"
CYCLE = "test_imports_form_no_cycle"
AUDITOR = "test_the_subject_does_not_know_its_auditor"
SWALLOWED = "test_no_error_is_swallowed"
EVERY = (STRUCTURE, DRAWER, LENGTH, HINTS, DOCSTRINGS, EACH_MODULE, CYCLE, AUDITOR, SWALLOWED)

NAMED = "test_what_the_documents_name_exists"
SHARE = "test_share_of_references_that_hold"
LINKS = "test_links_lead_to_what_is_there"
BLOCKS = "test_every_block_can_be_run_or_says_why_not"
RUNS = "test_every_block_runs"

CHANGES = "test_every_change_to_the_source_is_noticed_or_explained"

PACKAGES = "test_lines_and_branches_are_covered"
MODULES = "test_the_modules_that_lacked_tests_are_covered"

SOURCE: Mapping[str, Entry] = {
    "a room is missing": (STRUCTURE,),
    "a room is empty": (STRUCTURE,),
    "a drawer": (DRAWER,),
    "a function of 61 lines": (LENGTH, EACH_MODULE),
    "a missing hint": (HINTS, EACH_MODULE),
    "a module that nobody annotated, among many that are": (EACH_MODULE,),
    "a missing docstring": (DOCSTRINGS, EACH_MODULE),
    "a cycle of imports": (CYCLE,),
    "a cycle through a function": (CYCLE,),
    "knows its auditor": (AUDITOR,),
    "a bare except": (SWALLOWED,),
    "every error passed over": (SWALLOWED,),
    "every error turned into nothing": (SWALLOWED,),
    "no source at all": Defect(EVERY, crashes=True),
    "source that does not parse": Defect(EVERY, crashes=True),
}
DOCUMENTS: Mapping[str, Entry] = {
    "a path that moved": (NAMED, SHARE, LINKS),
    "a file that was renamed": (NAMED, SHARE),
    "a session that was renamed": (NAMED, SHARE),
    "a program that is not installed": (NAMED, SHARE),
    "a name that is gone": (NAMED, SHARE, RUNS),
    "a block that does not parse": (NAMED, SHARE, BLOCKS, RUNS),
    "one wrong path among many right ones": (NAMED, SHARE),
    "a path that moved, in the guide": (NAMED, SHARE),
    "a link to a heading that is gone": (LINKS,),
    "a heading that was renamed": (LINKS,),
    "a command that bash cannot read": (BLOCKS,),
    "settings that do not parse": (BLOCKS,),
    "a reduced form that leaves the command out": (BLOCKS, NAMED, SHARE),
    "excuses for everything": (BLOCKS,),
    "a block that fails": (RUNS,),
    "a Python block that fails": (RUNS,),
}
SURVIVING: Mapping[str, Entry] = dict.fromkeys(
    (
        "a survivor that nobody explained",
        "an explanation of another function",
        "an explanation of another change",
        "a file that nothing was changed in",
    ),
    (CHANGES,),
)
COVERAGE: Mapping[str, Entry] = {
    **dict.fromkeys(SHORTFALLS, (PACKAGES,)),
    "a line of calibration": (MODULES, PACKAGES),
    "fine-tuning was never imported": (MODULES,),
}


def _each_by_itself(folder: Path) -> Path:
    return folder / "repository"


FAMILIES = (
    family_of_words(
        "code-quality",
        Stage("test_code_quality.py"),
        lambda words, folder: source_tree(_each_by_itself(folder), BLEMISHES.get(words, {})),
        {
            "": "4.file-structure",
            LENGTH: "4.function-length",
            HINTS: "4.type-hints",
            DOCSTRINGS: "4.docstrings",
            EACH_MODULE: "5.green.code-quality",
            CYCLE: "5.green.architecture-quality",
            AUDITOR: "5.green.architecture-quality",
            SWALLOWED: "4.fallback-chains",
        },
        SOURCE,
    ),
    family_of_words(
        "documentation",
        Stage("test_documentation.py", profile="full"),
        lambda words, folder: documented_repository(_each_by_itself(folder), words),
        {
            "": "5.yellow.documentation-paths",
            LINKS: "A.documentation-links",
            BLOCKS: "A.documentation-blocks",
            RUNS: "A.documentation-runs",
        },
        DOCUMENTS,
    ),
    family_of_words(
        "coverage",
        Stage("test_coverage.py"),
        lambda words, folder: measured_repository(_each_by_itself(folder), SHORTFALLS.get(words, {})),
        {"": "0.test-coverage", MODULES: "6.critical.unit-tests"},
        COVERAGE,
    ),
    family_of_words(
        "source-mutants",
        Stage("test_source_mutants.py", profile="full"),
        lambda words, folder: changed_repository(_each_by_itself(folder), words),
        {"": "A.source-mutants"},
        SURVIVING,
    ),
)
