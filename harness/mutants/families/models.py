"""Mutants of whole compressed models: bytes, codes, report, plan, artefacts, gradients, recovery."""

from harness.mutants.defects import artifacts, compression, gradients
from harness.mutants.mutant import Defect, Stage, family_of_classes, family_of_words
from harness.mutants.reference.compressing import CompressingSubject

BYTES = "test_bytes_on_disk_against_full_precision"
INT8 = "test_a_layer_of_the_artefact_stored_as_int8"
ZEROS = "test_zero_fraction_of_the_stored_codes"
TERNARY = "test_stored_codes_are_ternary_and_use_all_three"
RUNS_ON_CODES = "test_the_reloaded_model_runs_on_the_stored_codes"
SAME_BYTES = "test_the_same_seed_gives_the_same_bytes"
SIZE = "test_reported_size_is_the_size_on_disk"
LAYERS = "test_reported_layers_and_zeros_are_the_stored_ones"
BEFORE = "test_reported_perplexity_before_is_the_full_precision_models"
AFTER = "test_reported_perplexity_after_is_the_packed_artefacts"
COMPLETE = "test_plan_of_every_architecture_is_complete"
PROJECTIONS = "test_plan_of_every_architecture_quantizes_the_block_projections"
AUDITED_PLAN = "test_plan_of_the_audited_model"
AGREES = "test_artefact_agrees_with_the_plan"
PRESERVED = "test_preserved_layers_keep_half_precision"
HALF_WEIGHTS = "test_fp16_weights_are_half_of_scale_times_codes"
HALF_PRESERVED = "test_fp16_preserved_parameters_are_those_of_the_packed_model"
HALF_FILES = "test_fp16_folder_is_stored_in_fp16"
SAME_CHOICE = "test_both_choose_the_same_next_token"
PACKED_ALONE = "test_packed_artefact_reloads_by_itself"
FP16_ALONE = "test_fp16_artefact_reloads_without_the_subject"
REACHES = "test_a_gradient_reaches_every_quantized_layer"
BROKEN = "test_a_broken_layer_fails_the_same_check"
SURROGATE = "test_gradients_are_those_of_the_declared_surrogate"
OWN_PASSES = "test_the_pipelines_own_test_passes_the_artefact"
OWN_FAILS = "test_the_pipelines_own_test_fails_a_broken_artefact"
RECOVERS = "test_perplexity_recovers"
RECOVERS_LARGE = "test_perplexity_of_large_models_recovers"

SHORT = ("short-texts",)
ALONE = Stage("test_artifacts.py", ("untied",), props=SHORT, only="reloads")
LARGE = Stage("test_recovery.py", ("ternary",), "full", props=(*SHORT, "large-models"))


def stage(suite: str, model: str) -> Stage:
    """All checks of a suite but those that start processes, which take longer than the others together."""
    return Stage(suite, (model,), props=SHORT, only="not reloads")


FAMILIES = (
    family_of_classes(
        "compression",
        stage("test_compression.py", "wide"),
        CompressingSubject,
        {
            "": "2.ternary-quantization",
            BYTES: "1.1.compression-ratio",
            INT8: "2.int8-storage",
            ZEROS: "1.1.sparsity-injection",
            SAME_BYTES: "A.reproducible",
        },
        {
            compression.CodesStoredAsFloat32: (BYTES,),
            compression.Int8StoredAsInt16: (INT8,),
            compression.Int8LosesTheSign: (INT8,),
            compression.ScaledValuesCastToInt8: (TERNARY, ZEROS, RUNS_ON_CODES),
            compression.NegativeCodesLost: (TERNARY, ZEROS),
            compression.NaNScale: (TERNARY, RUNS_ON_CODES),
            compression.MostWeightsZero: (ZEROS,),
            compression.HardlyAnyZeros: (ZEROS,),
            compression.RunsOnRoundedScales: (RUNS_ON_CODES,),
            compression.Timestamp: (SAME_BYTES,),
            compression.SeedIgnored: (SAME_BYTES,),
        },
    ),
    family_of_words(
        "report",
        stage("test_report.py", "narrow"),
        lambda words, _: compression.MisreportingSubject(words),
        {"": "5.yellow.integration-validation"},
        {
            "ratio of the weights alone": (SIZE,),
            "size without the tokenizer": (SIZE,),
            "threshold as the share of zeros": (LAYERS,),
            "loss as the perplexity": (BEFORE,),
            "perplexity after is that before": (AFTER,),
            "no perplexity is a number": (BEFORE, AFTER),
        },
    ),
    family_of_classes(
        "layer-plan",
        stage("test_layer_plan.py", "narrow"),
        CompressingSubject,
        {"": "2.precision-preservation"},
        {
            artifacts.Conv1DForgotten: (PROJECTIONS, PRESERVED),
            artifacts.NormTakenForAttention: (PROJECTIONS, AUDITED_PLAN, AGREES),
            artifacts.EveryLinearLayer: (PROJECTIONS, AUDITED_PLAN, PRESERVED),
            artifacts.LastProjectionLeftOut: (PROJECTIONS, AUDITED_PLAN),
            artifacts.EmbeddingNotListed: (COMPLETE, AUDITED_PLAN),
            artifacts.PlanNotFollowed: (AGREES, PRESERVED),
            artifacts.NormQuantized: (PRESERVED,),
            artifacts.TransposeForgotten: (PRESERVED,),
        },
    ),
    family_of_classes(
        "artefacts",
        stage("test_artifacts.py", "narrow"),
        CompressingSubject,
        {"": "2.dual-output", PACKED_ALONE: "A.third-party-reload"},
        {
            artifacts.LatentWeightsInTheFP16Output: (HALF_WEIGHTS, SAME_CHOICE),
            artifacts.FP16FolderInFloat32: (HALF_FILES,),
            artifacts.MissingKeysHidden: (HALF_PRESERVED, SAME_CHOICE),
            artifacts.NeitherStandsAlone: Defect((PACKED_ALONE, FP16_ALONE), ALONE),
        },
    ),
    family_of_classes(
        "gradient-flow",
        stage("test_gradient_flow.py", "narrow"),
        CompressingSubject,
        {"": "5.red.gradient-flow", OWN_PASSES: "6.critical.gradient-flow", OWN_FAILS: "6.critical.gradient-flow"},
        {
            gradients.DetachedLayer: (REACHES, SURROGATE, OWN_PASSES),
            gradients.InputGradientLost: (REACHES, SURROGATE, OWN_PASSES),
            gradients.GradientTimesScale: (SURROGATE,),
            gradients.StoredWeightComesBack: (BROKEN, OWN_FAILS),
            gradients.OwnTestIsAPlaceholder: (OWN_FAILS,),
            gradients.OwnTestNeverPasses: (OWN_PASSES,),
        },
    ),
    family_of_classes(
        "recovery",
        Stage("test_recovery.py", ("ternary",), props=SHORT),
        CompressingSubject,
        {"": "1.1.fine-tuning"},
        {
            gradients.RecoveryDiverges: (RECOVERS,),
            gradients.RecoveryOfLargeModelsDiverges: Defect((RECOVERS_LARGE,), LARGE),
        },
    ),
)
