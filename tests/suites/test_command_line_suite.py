"""Each fault of a command line turns the checks of its own name RED, and no others."""

import json
from pathlib import Path

import pytest
import torch

from harness.oracles.perplexity import greedy_accuracy, lm_eval_perplexity
from suites.small_models import byte_tokenizer, random_llama
from suites.test_command_line import CONTEXT_LENGTH, EVAL_KEYS, NEW_TOKENS, PROMPT, TEXT, prefer_letters
from tests.suites.audits import Audit, audit, checks_in

SUITE = "test_command_line.py"
COMPRESS = "test_compress_leaves_both_artefacts_and_nothing_else_beside_them"
KEYS = "test_eval_gives_the_figures_of_the_contract"
MODEL = "test_figures_of_the_full_precision_model_are_true"
PACKED = "test_figures_of_the_packed_artefact_are_true"
GENERATE = "test_generate_continues_the_prompt_with_the_likeliest_tokens"
CODE = "test_bad_input_gives_exit_code_2"
SENTENCE = "test_bad_input_is_told_in_one_sentence_that_names_it"
NOTHING = "test_bad_input_leaves_nothing_behind"

FAULTS = {
    "exit code 1": {CODE},
    "a traceback": {SENTENCE},
    "two sentences": {SENTENCE},
    "the input is not named": {SENTENCE},
    "errors on standard output": {SENTENCE},
    "NaN is not looked for": {CODE, SENTENCE, NOTHING},
    "output replaced": {CODE, SENTENCE, NOTHING},
    "output made first": {CODE, SENTENCE, NOTHING},
    "temporary folder left": {COMPRESS, NOTHING},
    "one artefact": {COMPRESS},
    "success whatever the result": {COMPRESS},
    "log lines on standard output": {COMPRESS, KEYS, MODEL, PACKED},
    "a figure missing": {KEYS, MODEL, PACKED},
    "a figure is NaN": {KEYS, MODEL, PACKED},
    "wrong figures of the model": {MODEL},
    "wrong figures of the packed": {PACKED},
    "wrong accuracy": {MODEL, PACKED},
    "another continuation": {GENERATE},
    "no end to the continuation": {GENERATE},
}
EVERYTHING, REFUSALS = "", "bad_input and (nan or output or missing)"
ANSWERS, ANSWERS_BUT_FIGURES = "not bad_input", "not bad_input and not are_true"


def selection(red: set[str]) -> str:
    """The part of the suite that a fault is tried on: the oracle and many commands cost time."""
    if red & {CODE, SENTENCE, NOTHING}:
        return EVERYTHING if red & {COMPRESS} else REFUSALS
    return ANSWERS if red & {MODEL, PACKED} else ANSWERS_BUT_FIGURES


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is right for the small model that the suite makes."""
    model, tokenizer = random_llama(), byte_tokenizer()
    prefer_letters(model)
    oracle = lm_eval_perplexity(model, tokenizer, [TEXT], CONTEXT_LENGTH)
    figures = {name: getattr(oracle, name) for name in EVAL_KEYS if hasattr(oracle, name)}
    figures["tokens"] = sum(oracle.tokens)
    figures["next_token_accuracy"] = greedy_accuracy(model, tokenizer, TEXT, CONTEXT_LENGTH)
    tokens = model.generate(torch.tensor([tokenizer.encode(PROMPT)]), max_new_tokens=NEW_TOKENS, do_sample=False)
    path = tmp_path_factory.mktemp("answers") / "answers.json"
    path.write_text(json.dumps({"figures": figures, "continuation": tokenizer.decode(tokens[0, -NEW_TOKENS:])}))
    return path


def run(folder: Path, answers: Path, fault: str, only: str = "") -> Audit:
    source = (
        "from tests.suites.folder_subjects import CommandSubject\n"
        f"def factory():\n    return CommandSubject({str(answers)!r}, {fault!r})\n"
    )
    return audit(folder, SUITE, source, only=only)


def test_the_right_command_line_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path, answers: Path) -> None:
    done = run(tmp_path, answers, "")
    assert done.red == set(), done.messages()
    assert set.union(*FAULTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_under_its_own_name(tmp_path: Path, answers: Path, fault: str) -> None:
    done = run(tmp_path, answers, fault, selection(FAULTS[fault]))
    assert done.red == FAULTS[fault], done.messages()


def test_a_subject_without_a_command_line_is_not_applicable(tmp_path: Path) -> None:
    done = audit(tmp_path, SUITE, "from tests.suites.subjects import BareSubject as factory\n")
    assert {record.outcome for record in done.records} == {"not_applicable"}
