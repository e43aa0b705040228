import io
import math
import re

import pytest
from rich.console import Console

from bitnet.perplexity import DocumentScore, PerplexityResult
from bitnet.quality import EXPLANATIONS, Measurements, gates
from bitnet.result import AttemptRow, FallbackRow, GateRow, Phase4Result, RecoveryRow
from bitnet.summary import print_evaluation, print_result, verdict
from tests.bitnet.made_up_result import VERIFIED, figures, layer, made_up_result

GOOD = Measurements(
    perplexity_before=20.0,
    perplexity_after=21.0,
    accuracy_before=0.5,
    accuracy_after=0.49,
    compression_ratio=8.25,
    gradient_flow=1.0,
    dequantized_fraction=1.0,
    agreement=0.999,
    nonfinite=0,
)
FAILED = {"packed_difference": None, "fp16_difference": None, "packed_identical": None, "fp16_identical": None}


def result(measured=GOOD, limit=0.1, target=8.0, verification=VERIFIED, **changes):
    rows = tuple(GateRow.of(gate) for gate in gates(measured, limit, target))
    success = all(row.passed for row in rows) and verification["reproduced"]
    return Phase4Result(**made_up_result(gates=rows, success=success, verification=verification, **changes))


def shown(function, *arguments, **options):
    console = Console(file=io.StringIO(), width=100, **options)
    function(*arguments, console)
    return console.file.getvalue()


def summary(record, tmp_path):
    return shown(print_result, record, tmp_path / "my out")


def row(text, name):
    """The cells of the table row `name`, which has two spaces or more between cells."""
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return [cell.strip() for cell in line.removeprefix(name).split("  ") if cell.strip()]


def test_figures_are_set_beside_each_other_with_their_relative_change(tmp_path):
    text = summary(result(), tmp_path)
    assert row(text, "token perplexity") == ["20.000", "25.000", "+25.0 %"]
    assert row(text, "next-token accuracy") == ["50.0 %", "40.0 %", "-20.0 %"]
    assert row(text, "packed ")[:3] == ["300 MB", "8.00x", "4.00x"]
    assert row(text, "full precision (FP32)")[0] == "2.4 GB"
    assert "34.6 % of them zero, 2.00 bits each (16.0x against FP32)" in text


def test_names_with_brackets_and_spaces_are_shown_as_they_are(tmp_path):
    text = summary(result(), tmp_path)
    assert "some[model] (llama, 1.5 million parameters, size class tiny) in 12 seconds" in text
    assert f"bitnet generate '{tmp_path}/my out/packed'" in text


def test_recovery_adds_a_column_and_the_change_is_that_of_the_final_model(tmp_path):
    recovery = RecoveryRow(
        perplexity_increase=0.25, trigger=0.05, triggered=True, steps=9, report={"steps": 7, "best_step": 5}
    )
    text = summary(result(recovered=figures(22.0), final=figures(22.0), recovery=recovery), tmp_path)
    assert row(text, "token perplexity") == ["20.000", "25.000", "22.000", "+10.0 %"]
    assert "Recovery: 7 training steps, of which 5 were kept" in text


def test_recovery_that_was_not_needed_differs_from_recovery_that_did_not_run(tmp_path):
    assert "Recovery: not needed, as perplexity rose by no more than 5 %" in summary(result(), tmp_path)
    recovery = RecoveryRow(perplexity_increase=0.25, trigger=0.05, triggered=True, steps=0, report=None)
    assert "Recovery: none" in summary(result(recovery=recovery), tmp_path)


def test_what_was_not_measured_is_not_shown_as_a_figure(tmp_path):
    missing = Measurements(**dict.fromkeys(vars(GOOD)))
    text = summary(result(missing, after=figures(None), final=figures(None)), tmp_path)
    assert row(text, "token perplexity") == ["20.000", "infinite", "not measured"]
    for name in EXPLANATIONS:
        cells = row(text, f"{name} ")
        assert (cells[0], cells[-1]) == ("not measured", "MISSED")


def test_fallbacks_are_named_with_their_reason(tmp_path):
    fallback = FallbackRow(step="calibration_text", used="standard library", reason="no text was given")
    text = summary(result(fallbacks=(fallback,)), tmp_path)
    assert "Fallbacks:\n  calibration_text: standard library (no text was given)" in text
    assert "Fallbacks" not in summary(result(), tmp_path)


def test_success_is_told_in_one_line():
    assert verdict(result()) == ["Success: every gate was passed."]


def test_missed_gates_are_named_explained_and_answered_with_settings_that_are_not_set_yet():
    measured = Measurements(**{**vars(GOOD), "perplexity_after": 30.0, "compression_ratio": 4.5})
    lines = verdict(result(measured))
    assert lines[0] == "Not a success: 2 of 7 gates missed (perplexity_increase, compression_ratio)."
    text = "\n".join(lines)
    assert EXPLANATIONS["compression_ratio"] in text
    assert "--set fine_tune_lr=1e-4" in text
    assert "--set granularity=group --set group_size=32" in text
    assert "--set codec=base3" in text
    assert "--set granularity=channel" not in text


@pytest.mark.parametrize("group_size", [32, 16])
def test_what_has_been_done_already_is_not_suggested(group_size):
    measured = Measurements(**{**vars(GOOD), "accuracy_after": 0.2, "compression_ratio": 4.5})
    config = {
        "codec": "base3",
        "embedding_dtype": "int8",
        "granularity": "group",
        "group_size": group_size,
        "fine_tune_lr": 2e-4,
        "compensation": "sequential",
        "planes": 3,
    }
    text = "\n".join(verdict(result(measured, config=config)))
    assert re.findall(r"--set (\S+)", text) == ["granularity=channel"]


def test_a_fault_of_the_output_is_not_answered_with_settings():
    text = "\n".join(verdict(result(Measurements(**{**vars(GOOD), "nonfinite": 3}))))
    assert "(finiteness)" in text
    assert "--set" not in text
    assert "result.json" in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({**FAILED, "error": "The file is gone."}, "Verification: FAILED. The file is gone."),
        ({"fp16_difference": 0.5}, "DID NOT reproduce both models (logits differ by 0.5, allowed 1e-05)"),
        ({"fp16_difference": None}, "DID NOT reproduce both models (logits are not finite)"),
        ({"packed_identical": False}, "DID NOT reproduce both models (weights differ)"),
    ],
)
def test_a_verification_that_fails_is_no_success_though_every_gate_passed(changes, told, tmp_path):
    verification = {**VERIFIED, **changes, "reproduced": False}
    text = summary(result(verification=verification), tmp_path)
    assert told in text
    assert "Success" not in text
    assert "Not a success: a fresh process did not reproduce the outputs" in text


def test_a_share_just_below_the_whole_is_not_rounded_up_to_it(tmp_path):
    text = summary(result(Measurements(**{**vars(GOOD), "dequantized_fraction": 0.999995})), tmp_path)
    assert row(text, "dequantization") == ["99.9995 %", ">= 100 %", "MISSED"]


def test_a_manifold_increase_is_told_as_a_factor(tmp_path):
    measured = Measurements(**{**vars(GOOD), "perplexity_after": 246_000.0})
    text = summary(result(measured, final=figures(246_000.0), after=figures(246_000.0)), tmp_path)
    assert row(text, "token perplexity") == ["20.000", "246,000", "12,300 times"]
    assert row(text, "perplexity_increase")[:2] == ["1,229,900 %", "<= 10.00 %"]


def test_colours_are_for_terminals(tmp_path):
    assert "\x1b[" not in summary(result(), tmp_path)
    assert "\x1b[" in shown(print_result, result(), tmp_path, force_terminal=True, color_system="standard")


def document(loglikelihood, tokens):
    return DocumentScore(loglikelihood=loglikelihood, tokens=tokens, words=5, bytes=40, correct_tokens=4)


def test_an_evaluation_of_one_text_is_one_table():
    text = shown(print_evaluation, PerplexityResult((document(-20.0, 10),)), ["a.txt"], "a [model]")
    assert text.startswith("a [model]\n")
    assert row(text, "token perplexity") == [f"{math.exp(2):.3f}"]
    assert row(text, "next-token accuracy") == ["40.0 %"]
    assert "a.txt" not in text


def test_an_evaluation_of_several_texts_has_a_row_for_each_that_was_scored():
    figures = PerplexityResult((document(-20.0, 10), document(-1e6, 10)))
    text = shown(print_evaluation, figures, ["[a].txt", "b.txt", "left-out.txt"], "model")
    assert row(text, "[a].txt")[:2] == ["10", f"{math.exp(2):.3f}"]
    assert row(text, "b.txt")[1] == "infinite"
    assert "left-out" not in text


def test_the_path_through_the_fallback_chain_and_the_planes_are_shown(tmp_path):
    attempts = (
        AttemptRow(name="as configured", token_perplexity=None, next_token_accuracy=0.1, layers_by_planes={1: 3}),
        AttemptRow(name="more planes", token_perplexity=21.5, next_token_accuracy=0.4, layers_by_planes={1: 1, 2: 2}),
    )
    layers = tuple(layer(f"layer {planes}", planes) for planes in (1, 2, 2))
    text = summary(result(attempts=attempts, layers=layers), tmp_path)
    assert "as configured: token perplexity infinite, next-token accuracy 10.0 %" in text
    assert "more planes: token perplexity 21.500" in text
    assert "layers by ternary planes: 1 with 1, 2 with 2" in text
    assert "Attempts" not in summary(result(), tmp_path)
