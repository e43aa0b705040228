"""Mutants of what a command line does when it is killed, signalled, starved or damaged."""

from harness.mutants.mutant import Defect, Entry, Stage, family_of_words
from harness.mutants.reference.enduring import EnduringSubject

BETWEEN = "test_a_kill_between_stages_is_survived"
WITHIN = "test_a_kill_within_a_write_is_survived"
CHAIN = "test_kills_one_after_another_are_survived"
OTHER = "test_the_state_of_another_run_is_not_taken"
FAILS = "test_a_write_that_fails_is_told_and_survived"
ASKED = "test_a_run_that_is_asked_to_end_says_how_it_goes_on"
MEMORY = "test_a_run_without_memory_tells_so"
OUTPUT = "test_damage_of_an_output_is_noticed"
STATE = "test_damage_of_the_state_changes_nothing"
INPUT = "test_damage_of_an_input_is_told"
PAIR = "test_two_runs_on_one_output_do_not_mix"
CLOCK = "test_a_clock_that_jumps_changes_nothing"
SERVICE = "test_a_service_that_does_not_answer_stops_nothing"


def _seen_by(*checks: str) -> Entry:
    """Shown to these checks alone: the others would take as long and say the same."""
    only = " or ".join(checks)
    return Defect(checks, Stage("test_faults.py", profile="full", props=("some-faults",), only=only))


FAMILIES = (
    family_of_words(
        "faults",
        Stage("test_faults.py", profile="full", props=("some-faults",)),
        lambda words, _: EnduringSubject(words),
        {
            **dict.fromkeys((BETWEEN, WITHIN, CHAIN, OTHER), "A.faults-killed"),
            FAILS: "A.faults-writes",
            ASKED: "A.faults-signals",
            MEMORY: "A.faults-memory",
            **dict.fromkeys((OUTPUT, STATE, INPUT), "A.faults-damage"),
            **dict.fromkeys((PAIR, CLOCK, SERVICE), "A.faults-surroundings"),
        },
        {
            "says nothing of going on": _seen_by(ASKED),
            "ends at SIGTERM without a word": _seen_by(ASKED),
            "written in place": _seen_by(WITHIN),
            "half-written outputs pass": _seen_by(WITHIN),
            "work done twice": _seen_by(WITHIN),
            "a lock outlives its process": _seen_by(BETWEEN, CHAIN),
            "state left behind": _seen_by(BETWEEN),
            "state of other settings taken": _seen_by(OTHER),
            "traceback where the disk is full": _seen_by(FAILS),
            "exit code 1 for a failed write": _seen_by(FAILS),
            "traceback where memory runs out": _seen_by(MEMORY),
            "digests not compared": _seen_by(OUTPUT),
            "damaged state taken": _seen_by(STATE),
            "traceback for a damaged input": _seen_by(INPUT),
            "two runs mix": _seen_by(PAIR),
            "the clock decides": _seen_by(CLOCK),
            "stopped by a service": _seen_by(SERVICE),
        },
    ),
)
