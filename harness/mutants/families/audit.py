"""Mutants of this very audit: a run of mutants with a survivor, one with an idle check, one with a false alarm."""

from __future__ import annotations

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.bare import BareSubject
from harness.run import suites_directory

SURVIVORS = "test_every_mutant_is_killed"
IDLE = "test_every_check_kills_a_mutant"
ALARMS = "test_the_clean_subjects_pass_every_check"

FAMILIES = (
    family_of_words(
        "audit",
        Stage("test_mutants.py", profile="full", props=("made-up-mutants",)),
        lambda *_: BareSubject(suites_directory().parent / "bitnet"),  # the project's own, for no other has these rows
        {"": "A.mutants-killed", IDLE: "A.idle-checks", ALARMS: "A.false-alarms"},
        {
            "a mutant that survives": Defect((SURVIVORS,), prop="a-survivor"),
            "a mutant that equals the clean subject": Defect((SURVIVORS,), prop="an-equal-mutant"),
            "a check that kills no mutant": Defect((IDLE,), prop="an-idle-check"),
            "a clean subject that is accused": Defect((ALARMS,), prop="a-false-alarm"),
        },
    ),
)
