"""Mutants of what goes on with a compressed model: the next phase, the registry, tracking, the dashboard."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.dashboard import DashboardSubject
from harness.mutants.reference.registry import RegistrySubject
from harness.mutants.reference.tracking import TrackingSubject
from harness.mutants.reference.trained_on import TrainedOn

TRAINED = "test_the_output_can_be_trained_on"
TOKENIZER = "test_the_output_brings_the_tokenizer_of_the_original"

TELLS = "test_a_version_tells_gates_digests_and_lineage"
ONCE = "test_the_same_artefact_is_registered_once"
REFUSED = "test_a_gate_that_failed_cannot_be_promoted"
PROMOTED = "test_what_passed_every_gate_is_promoted_and_found"
FETCHED = "test_what_is_fetched_is_what_was_pushed_and_loads"
DAMAGE = "test_damage_in_the_registry_is_not_handed_out"

NINETEEN = "test_a_run_logs_the_nineteen_metrics_once_and_nothing_else"
SUMMARY = "test_the_summary_of_the_phase_says_the_same"
ABSENT = "test_what_was_not_measured_is_absent"
SERVER = "test_a_server_that_does_not_answer_stops_nothing"
SIZES = "test_sizes_and_counts_are_those_of_the_files"
QUALITY = "test_quality_is_that_of_the_models"
TAKEN_BACK = "test_recovery_is_told_by_what_it_took_back"
ARTEFACTS = "test_the_artefacts_are_as_they_are_said_to_be"

STARTS = "test_it_starts_and_answers_with_a_page"
ALONE = "test_no_other_machine_reaches_it"
FIGURES = "test_the_figures_of_the_scorecard_at_hand_are_shown"
ROWS = "test_every_row_is_shown_with_its_status_in_words"
RUN = "test_the_figures_of_a_run_are_shown"
EMPTY = "test_without_artefacts_every_page_says_something"

FAMILIES = (
    family_of_words(
        "next-phase",
        Stage("test_next_phase.py"),
        lambda words, _: TrainedOn(words),
        {"": "2.phase5-handoff"},
        {
            "weights that are not numbers": (TRAINED,),
            "a norm that lets nothing through": (TRAINED,),
            "the tokenizer of another model": (TOKENIZER,),
        },
    ),
    family_of_words(
        "registry",
        Stage("test_registry.py"),
        lambda words, _: RegistrySubject(words),
        {"": "2.model-registry"},
        {
            "origin lost": (TELLS,),
            "registered again each time": (ONCE, REFUSED),
            "scorecards lost": (ONCE,),
            "gates not looked at": (REFUSED,),
            "promotion without an effect": (PROMOTED,),
            "files left out": (PROMOTED, FETCHED, DAMAGE),
            "damage not looked for": (DAMAGE,),
        },
    ),
    family_of_words(
        "tracking",
        Stage("test_tracking.py", needs=("wandb",)),
        lambda words, _: TrackingSubject(words),
        {"": "2.wandb-logging"},
        {
            "one metric too few": (NINETEEN, TAKEN_BACK),
            "a record that breaks off": (NINETEEN, SERVER),
            "a summary of its own": (SUMMARY,),
            "zeros for what was not measured": (ABSENT,),
            "silent about the server": (SERVER,),
            "sizes by estimate": (SIZES,),
            "perplexity on another text": (QUALITY,),
            "recovery by default": (TAKEN_BACK,),
            "dequantization by default": (ARTEFACTS,),
        },
    ),
    family_of_words(
        "dashboard",
        Stage("test_dashboard.py"),
        lambda words, _: DashboardSubject(words),
        {"": "2.dashboard", ALONE: "A.loopback"},
        {
            "does not start": (STARTS, ALONE),
            "an error for a page": (STARTS,),
            "no page": (STARTS,),
            "listens everywhere": (ALONE,),
            "figures by heart": (FIGURES, ROWS),
            "figures left out": (FIGURES,),
            "colours without words": (ROWS,),
            "a run's perplexity is another's": (RUN,),
            "breaks where nothing is": Defect((FIGURES, ROWS, RUN, EMPTY), crashes=True),
            "silent where nothing is": (EMPTY,),
        },
    ),
)
