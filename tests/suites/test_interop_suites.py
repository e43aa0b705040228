"""Each defect of what is handed to other libraries turns its own checks RED.

Only these run on it: exporting and loading models take longer than the checks of other suites.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import suites.test_interop_transformers
from harness.criteria import Status, load_rulebook
from harness.status import judge
from suites.fresh_process import Reloaded, load_plain
from suites.small_models import save_random_llama
from tests.suites.audits import Audit, audit_class, audit_defect, checks_in
from tests.suites.interop_subjects import InteropSubject
from tests.suites.subjects import BareSubject

AUTO = "test_auto_model_gives_the_packed_models_logits"
LIGHT = "test_importing_the_package_loads_no_library"
STORED = "test_exported_weights_are_the_packed_ones"
PLAIN = "test_plain_transformers_reproduces_the_logits"
REFUSED = "test_what_the_format_cannot_hold_is_refused"

DECODED = "test_every_tensor_is_decoded_to_the_packed_weights"
TOKENIZER = "test_the_tokenizer_is_in_the_file"
F16, TERNARY = "test_llama_cpp_runs_the_f16_export", "test_llama_cpp_runs_the_ternary_export"
BLOCKS = "test_llama_cpp_runs_ternary_blocks"

BY_NAME = "test_lm_eval_scores_the_artefact_by_its_name"
FACTS = "test_facts_have_one_right_answer_that_is_not_given_away"
COPYING = "test_copying_is_solved_by_looking_back_and_by_nothing_else"
FULL_PROFILE = {
    "test_lm_eval_s_command_line_knows_the_name",
    "test_a_real_model_copies_and_needs_its_attention_for_it",
}

DEFECTS = {
    "test_interop_transformers.py": {
        "no word for transformers": {AUTO},
        "a heavy import": {LIGHT},
        "scales that multiply": {STORED, PLAIN},
        "rows in another order": {STORED},
        "an export that needs the package": {PLAIN},
        "what does not fit is left out": {REFUSED},
    },
    "test_interop_gguf.py": {
        "a byte of codes changed": {DECODED},
        "tokens with other names": {TOKENIZER},
    },
    "test_interop_lm_eval.py": {
        "another model in memory": {BY_NAME},
        "the answer in the question": {FACTS},
        "facts with a favourite place": {FACTS},
        "copying that counting solves": {COPYING},
        "copying that looking back does not solve": {COPYING},
    },
}
LLAMA_CPP = {F16, TERNARY, BLOCKS}
WITHOUT_LLAMA_CPP = " and ".join(f"not {name}" for name in sorted(LLAMA_CPP))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "random", layers=1)


class InThisProcess:
    """Loads as a fresh process would, which takes as long to start as everything else together."""

    def __init__(self, folder: Path, text: str, *_: object) -> None:
        self.folder, self.text = folder, text

    def result(self) -> Reloaded:
        with torch.compiler.set_stance("force_eager"), torch.no_grad():
            model, tokenizer, problems = load_plain(str(self.folder))
            tokens = torch.tensor([tokenizer.encode(self.text)])
            return Reloaded(tokens, model.eval()(input_ids=tokens, use_cache=False).logits, tuple(problems), ())


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites.test_interop_transformers, "Reload", InThisProcess)


def red(done: Audit) -> set[str]:
    """The checks that failed or broke, or that recorded a figure which its row makes RED."""
    rulebook = load_rulebook()
    missed = {
        record.nodeid.partition("::")[2].partition("[")[0]
        for record in done.records
        for criterion in map(rulebook.get, record.criteria)
        for figure in judge(criterion, [record], []).figures
        if figure.name in record.figures and figure.status is Status.RED
    }
    return done.red | missed


def run(folder: Path, suite: str, model: Path, defect: str = "", only: str = WITHOUT_LLAMA_CPP) -> Audit:
    return audit_defect(folder, suite, InteropSubject, defect, [model], only)


@pytest.mark.parametrize("suite", DEFECTS)
def test_models_without_a_defect_pass_every_check(tmp_path, model, suite):
    done = run(tmp_path, suite, model)
    assert red(done) == set(), done.messages()
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize(
    ("suite", "defect"), [pytest.param(suite, defect, id=defect) for suite in DEFECTS for defect in DEFECTS[suite]]
)
def test_a_defect_turns_its_own_checks_red(tmp_path, model, suite, defect):
    expected = DEFECTS[suite][defect]
    done = run(tmp_path, suite, model, defect, " or ".join(expected))
    assert red(done) == expected, done.messages()


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
def test_llama_cpp_runs_what_is_right_and_notices_what_is_not(tmp_path, model):
    clean = audit_defect(tmp_path / "clean", "test_interop_gguf.py", InteropSubject, "", [model], BLOCKS)
    assert red(clean) == set(), clean.messages()
    wrong = "a third of the weights zero"
    broken = audit_defect(tmp_path / "broken", "test_interop_gguf.py", InteropSubject, wrong, [model], BLOCKS)
    assert red(broken) == {BLOCKS}, broken.messages()


@pytest.mark.parametrize("suite", DEFECTS)
def test_a_subject_without_such_capabilities_is_not_applicable(tmp_path, model, suite):
    done = audit_class(tmp_path, suite, BareSubject, [model])
    assert {record.outcome for record in done.records} <= {"not_applicable", "skipped"}, done.messages()


def test_every_check_can_fail():
    killed = {check for caught in DEFECTS.values() for checks in caught.values() for check in checks}
    assert set().union(*map(checks_in, DEFECTS)) == killed | LLAMA_CPP | FULL_PROFILE
