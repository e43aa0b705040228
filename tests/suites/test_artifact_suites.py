"""Each defect of a compressed model turns its own checks RED, and no others; compression by definition turns none."""

from pathlib import Path

import pytest
import torch

import suites.fixtures_artifacts
from harness.criteria import Status, load_rulebook
from harness.status import judge
from suites.small_architectures import save_small_model
from suites.small_models import save_random_llama
from tests.suites import compression_defects as defects
from tests.suites.audits import Audit, audit_class, checks_in
from tests.suites.compressing_subject import CompressingSubject, WithInt8Activations
from tests.suites.subjects import BareSubject

# Check names, by the suite that they stand in.
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

DEFECTS = {
    "test_compression.py": {
        defects.CodesStoredAsFloat32: {BYTES},
        defects.Int8StoredAsInt16: {INT8},
        defects.Int8LosesTheSign: {INT8},
        defects.ScaledValuesCastToInt8: {ZEROS, TERNARY, RUNS_ON_CODES},
        defects.NegativeCodesLost: {ZEROS, TERNARY},
        defects.NaNScale: {TERNARY, RUNS_ON_CODES},
        defects.MostWeightsZero: {ZEROS},
        defects.HardlyAnyZeros: {ZEROS},
        defects.RunsOnRoundedScales: {RUNS_ON_CODES},
        defects.Timestamp: {SAME_BYTES},
        defects.SeedIgnored: {SAME_BYTES},
    },
    "test_report.py": {
        defects.RatioOfTheWeightsAlone: {SIZE},
        defects.SizeWithoutTheTokenizer: {SIZE},
        defects.ThresholdReportedAsZeroFraction: {LAYERS},
        defects.LossReportedAsPerplexity: {BEFORE},
        defects.PerplexityAfterMeasuredBefore: {AFTER},
        defects.PerplexityNotANumber: {BEFORE, AFTER},
    },
    "test_layer_plan.py": {
        defects.Conv1DForgotten: {PROJECTIONS, PRESERVED},
        defects.NormTakenForAttention: {PROJECTIONS, AUDITED_PLAN, AGREES},
        defects.EveryLinearLayer: {PROJECTIONS, AUDITED_PLAN, PRESERVED},
        defects.LastProjectionLeftOut: {PROJECTIONS, AUDITED_PLAN},
        defects.EmbeddingNotListed: {COMPLETE, AUDITED_PLAN},
        defects.PlanNotFollowed: {AGREES, PRESERVED},
        defects.NormQuantized: {PRESERVED},
        defects.TransposeForgotten: {PRESERVED},
    },
    "test_artifacts.py": {
        defects.LatentWeightsInTheFP16Output: {HALF_WEIGHTS, SAME_CHOICE},
        defects.FP16FolderInFloat32: {HALF_FILES},
        defects.MissingKeysHidden: {HALF_PRESERVED, SAME_CHOICE},
    },
    "test_gradient_flow.py": {
        defects.DetachedLayer: {REACHES, SURROGATE, OWN_PASSES},
        defects.InputGradientLost: {REACHES, SURROGATE, OWN_PASSES},
        defects.GradientTimesScale: {SURROGATE},
        defects.StoredWeightComesBack: {BROKEN, OWN_FAILS},
        defects.OwnTestIsAPlaceholder: {OWN_FAILS},
        defects.OwnTestNeverPasses: {OWN_PASSES},
    },
}
FRESH_PROCESSES = {PACKED_ALONE, FP16_ALONE}
SUITES = (*DEFECTS, "test_recovery.py")
FULL_PROFILE = {"test_perplexity_of_large_models_recovers"}


@pytest.fixture(autouse=True)
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVALUATION_CHARACTERS", "UNSEEN_CHARACTERS", "SHORT_CHARACTERS"):
        monkeypatch.setattr(suites.fixtures_artifacts, name, 600)
    monkeypatch.setattr("suites.test_recovery.DOCUMENT_CHARACTERS", 200)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random Llamas: one wide enough to compress well, narrow ones for everything else."""
    root = tmp_path_factory.mktemp("models")
    return {
        "wide": save_random_llama(root / "wide", width=128),
        "narrow": save_random_llama(root / "narrow", change=spread_norms),
        "ternary": save_random_llama(root / "ternary", change=round_projections),
        "untied": save_small_model(root / "untied", "llama", tied=False),
    }


def spread_norms(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))


def round_projections(model):
    """Weights that compression gives back, so that all that is lost is lost by what comes after it."""
    with torch.no_grad():
        model.model.norm.weight.fill_(0.05)  # nearly uniform predictions: whatever goes wrong makes them worse
        for name, parameter in model.named_parameters():
            if "proj" in name:
                parameter.copy_(0.3 * parameter.sign() * (parameter.abs() > 0.1))


def run(folder: Path, suite: str, subject: type, model: Path, only: str = "not reloads") -> Audit:
    """All checks of a suite but those that start two processes, which take longer than the others together."""
    return audit_class(folder, suite, subject, [model], only)


def red(done: Audit) -> set[str]:
    """The checks that failed or broke, or that recorded a figure which its row makes RED."""
    rulebook = load_rulebook()
    missed = {
        record.nodeid.partition("::")[2].partition("[")[0]
        for record in done.records
        for criterion in map(rulebook.get, record.criteria)
        for figure in judge(criterion, [record], []).figures
        if figure.status is Status.RED
    }
    return done.red | missed


def model_for(suite: str) -> str:
    return "wide" if suite == "test_compression.py" else "narrow"


@pytest.mark.parametrize("suite", DEFECTS)
def test_compression_by_definition_passes_every_check(tmp_path, models, suite):
    done = run(tmp_path, suite, CompressingSubject, models[model_for(suite)], only="")
    assert red(done) == set(), done.messages()
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("suite", ["test_compression.py", "test_report.py", "test_gradient_flow.py"])
def test_quantized_activations_are_no_defect(tmp_path, models, suite):
    done = run(tmp_path, suite, WithInt8Activations, models[model_for(suite)])
    assert red(done) == set(), done.messages()


@pytest.mark.parametrize(
    ("suite", "defect"),
    [
        pytest.param(suite, defect, id=f"{suite.removesuffix('.py')}-{defect.__name__}")
        for suite, caught in DEFECTS.items()
        for defect in caught
    ],
)
def test_a_defect_is_caught_by_its_own_checks(tmp_path, models, suite, defect):
    done = run(tmp_path, suite, defect, models[model_for(suite)])
    assert red(done) == DEFECTS[suite][defect], done.messages()


def test_artefacts_that_do_not_stand_alone_are_caught(tmp_path, models):
    done = run(tmp_path, "test_artifacts.py", defects.NeitherStandsAlone, models["untied"], only="reloads")
    assert red(done) == FRESH_PROCESSES, done.messages()
    assert "missing_keys: lm_head.weight" in done.messages()


def test_recovery_is_judged_by_what_it_recovers(tmp_path, models):
    clean = run(tmp_path / "clean", "test_recovery.py", CompressingSubject, models["ternary"])
    assert red(clean) == set(), clean.messages()
    wrong = run(tmp_path / "wrong", "test_recovery.py", defects.RecoveryDiverges, models["ternary"])
    assert red(wrong) == {RECOVERS}, wrong.messages()


@pytest.mark.parametrize("suite", SUITES)
def test_a_subject_that_compresses_nothing_is_not_applicable(tmp_path, models, suite):
    done = run(tmp_path, suite, BareSubject, models["narrow"], only="")
    assert {record.outcome for record in done.records} == {"not_applicable"}


def test_every_check_is_killed_by_a_defect():
    killed = {check for caught in DEFECTS.values() for checks in caught.values() for check in checks}
    killed |= FRESH_PROCESSES | {RECOVERS}
    assert set().union(*map(checks_in, SUITES)) == killed | FULL_PROFILE
