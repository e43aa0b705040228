"""The command line, run from a shell: good input gives the artefacts and true figures, bad input one sentence.

The commands are those of the contract: `compress MODEL --out DIR [--config FILE] [--set key=value ...] [--json]`,
`eval MODEL_OR_DIR --text FILE [--json]`, `generate DIR "prompt" [--max-new-tokens N]`. Starting one takes seconds, so
each is run once and all checks look at what it left; the ones that refuse their input at once are in every profile.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM, PreTrainedModel

from harness.evidence import Evidence, Profile
from harness.oracles.perplexity import greedy_accuracy, lm_eval_perplexity
from harness.subject import CompressesModels, RunsCommand, Subject, require
from harness.texts import PROSE, held_out_excerpt
from suites.command_runs import Ended, beyond_progress, run
from suites.small_models import byte_tokenizer, save_random_llama

EVAL_KEYS: Final = (
    "tokens",
    "token_perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "next_token_accuracy",
)
TEXT: Final = PROSE[:300]  # fewer tokens than any context, so that all agree on the windows
CONTEXT_LENGTH: Final = 512
PROMPT, NEW_TOKENS = "Then he asked", 12
FULL_PRECISION_DIFFERENCE: Final = 1e-6
QUANTIZED_DIFFERENCE: Final = 1e-3
"""Another order of summation moves a few activations of a quantized model by a code."""

integration = pytest.mark.criterion("6.important.integration-tests", "5.yellow.integration-validation")
refuses = pytest.mark.criterion("A.bad-input", "6.important.integration-tests")


# --------------------------------------------------------------------------- bad input


@dataclass(frozen=True)
class Bad:
    """A bad input: the words of the command, what the sentence must name, and what is done to the folder first.

    The folder is that of `prepare`.
    """

    words: str
    names: str
    spoil: Callable[[Path], object] = lambda _: None
    profile: Profile = "quick"


def truncate(folder: Path) -> None:
    (weights,) = (folder / "small-llama").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])


def plant_nan(model: PreTrainedModel) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = math.nan


def unsupported(folder: Path) -> None:
    """A causal language model, in working order, of a kind that few programs know how to quantize."""
    shutil.rmtree(folder / "small-llama")
    config = BloomConfig(vocab_size=257, hidden_size=16, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256)
    BloomForCausalLM(config).save_pretrained(folder / "small-llama")
    byte_tokenizer().save_pretrained(folder / "small-llama")


def rewrite(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def remove_tokenizer(folder: Path) -> None:
    for path in folder.glob("small-llama/token*"):
        path.unlink()


def occupy(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("the only copy")


COMPRESS: Final = "compress small-llama --out out --set calibration_text=calibration.txt --set evaluation_text=text.txt"
BAD: Final[Mapping[str, Bad]] = {
    "missing-model": Bad("compress no-such-model --out out", "no-such-model"),
    "truncated-weights": Bad(COMPRESS, "small-llama", truncate),
    "config-is-not-json": Bad(
        "eval small-llama --text text.txt", "small-llama", rewrite("small-llama/config.json", "{")
    ),
    "nan-weight": Bad(COMPRESS, r"up_proj", lambda folder: save_random_llama(folder / "small-llama", change=plant_nan)),
    "unsupported-architecture": Bad(COMPRESS, r"[Bb]loom", unsupported),
    "missing-text": Bad("eval small-llama --text no-such-text.txt", r"no-such-text\.txt"),
    "empty-text": Bad("eval small-llama --text text.txt --json", r"text\.txt", rewrite("text.txt", ""), "full"),
    "text-too-short": Bad(COMPRESS, r"text\.txt", rewrite("text.txt", "Too short.")),
    "unknown-setting": Bad(f"{COMPRESS} --set sparsity_treshold=0.1", "sparsity_treshold"),
    "value-out-of-range": Bad(f"{COMPRESS} --set sparsity_threshold=7", "sparsity_threshold"),
    "output-exists": Bad(COMPRESS, r"\bout\b", occupy),
    "output-cannot-be-made": Bad(COMPRESS.replace("--out out", "--out text.txt/out"), r"text\.txt/out"),
    "nothing-to-generate-with": Bad("generate no-such-folder Once", "no-such-folder", profile="full"),
    "nan-weight-in-eval": Bad(
        "eval small-llama --text text.txt",
        r"up_proj",
        lambda folder: save_random_llama(folder / "small-llama", change=plant_nan),
        "full",
    ),
    "missing-configuration": Bad(f"{COMPRESS} --config no-such.yaml", r"no-such\.yaml", profile="full"),
    "missing-tokenizer": Bad("generate small-llama Once", "small-llama", remove_tokenizer, "full"),
}


def each_bad_input() -> pytest.MarkDecorator:
    params = [
        pytest.param(name, marks=[pytest.mark.profile("full")] if bad.profile == "full" else [])
        for name, bad in BAD.items()
    ]
    return pytest.mark.parametrize("name", params)


# --------------------------------------------------------------------------- running everything once


@dataclass(frozen=True)
class Runs:
    """Every command that was run, and the folder of the good ones."""

    folder: Path
    compress: Ended
    eval_model: Ended
    eval_packed: Ended
    generate: Ended
    bad: Mapping[str, Ended]

    @property
    def good(self) -> tuple[Ended, ...]:
        """The commands on good input."""
        return self.compress, self.eval_model, self.eval_packed, self.generate


@pytest.fixture(scope="module")
def runs(subject: Subject, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run the good commands one after another, and beside them the bad ones that a selected check looks at."""
    command = require(subject, RunsCommand).command
    root = tmp_path_factory.mktemp("command-line")
    save_random_llama(root / "small-llama", change=prefer_letters)
    folder = prepare(root, "good")
    selected = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    wanted = [name for name in BAD if name in selected]

    def run_bad(name: str) -> Ended:
        own = prepare(root, name)
        BAD[name].spoil(own)
        return run(command, BAD[name].words.split(), own)

    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(run_good, command, folder)
        ended = {name: pool.submit(run_bad, name) for name in wanted}
        return Runs(folder, *good.result(), bad={name: future.result() for name, future in ended.items()})


def prepare(root: Path, name: str) -> Path:
    """A folder with a copy of the small model, two texts and some settings."""
    folder = root / name
    shutil.copytree(root / "small-llama", folder / "small-llama")
    (folder / "text.txt").write_bytes(TEXT.encode())
    (folder / "calibration.txt").write_bytes(held_out_excerpt(4_000).encode())
    (folder / "settings.yaml").write_text("calibration_samples: 8\nfine_tune_steps: 0\n")
    return folder


def prefer_letters(model: PreTrainedModel) -> None:
    """Leave only letters to be generated, so that every continuation is whole characters."""
    alphabet = byte_tokenizer().get_vocab()
    others = [
        index for token, index in alphabet.items() if not (len(token) == 1 and token.isascii() and token.isalpha())
    ]
    with torch.no_grad():
        model.get_input_embeddings().weight[others] = 0.0


def run_good(command: Sequence[str], folder: Path) -> tuple[Ended, Ended, Ended, Ended]:
    """Compress, evaluate both forms, and generate."""
    return (
        run(command, [*COMPRESS.split(), "--config", "settings.yaml", "--json"], folder),
        run(command, ["eval", "small-llama", "--text", "text.txt", "--json"], folder),
        run(command, ["eval", "out/packed", "--text", "text.txt", "--json"], folder),
        run(command, ["generate", "out/packed", PROMPT, "--max-new-tokens", str(NEW_TOKENS)], folder),
    )


# --------------------------------------------------------------------------- good input


@integration
def test_compress_leaves_both_artefacts_and_nothing_else_beside_them(runs: Runs) -> None:
    """And the record on standard output says whether the run was a success, as the exit code does."""
    made = {path.partition("/")[0] for path in runs.compress.after.keys() - runs.compress.before.keys()}
    assert made == {"out"}
    assert runs.compress.after.keys() >= {"out/packed", "out/fp16"}
    assert {path: runs.compress.after[path] for path in runs.compress.before} == runs.compress.before
    assert runs.compress.code == (0 if runs.compress.json["success"] else 1)


@integration
@pytest.mark.parametrize("form", ["model", "packed"])
def test_eval_gives_the_figures_of_the_contract(runs: Runs, form: str, evidence: Evidence) -> None:
    """All six, as finite numbers, on standard output and nothing beside them."""
    ended: Ended = getattr(runs, f"eval_{form}")
    assert ended.code == 0, ended.messages
    for key in EVAL_KEYS:
        assert isinstance(ended.json[key], (int, float)), key
        evidence.figure(key, ended.json[key])
        assert math.isfinite(ended.json[key]), key


@integration
def test_figures_of_the_full_precision_model_are_true(runs: Runs) -> None:
    model = AutoModelForCausalLM.from_pretrained(runs.folder / "small-llama", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(runs.folder / "small-llama")
    assert_true(runs.eval_model, model, tokenizer, FULL_PRECISION_DIFFERENCE)


@integration
def test_figures_of_the_packed_artefact_are_true(subject: Subject, runs: Runs) -> None:
    model, tokenizer = require(subject, CompressesModels).load_packed(runs.folder / "out" / "packed")
    assert_true(runs.eval_packed, model, tokenizer, QUANTIZED_DIFFERENCE)


@integration
@torch.no_grad()
def test_generate_continues_the_prompt_with_the_likeliest_tokens(subject: Subject, runs: Runs) -> None:
    """Each one chosen anew by the reloaded artefact, in one pass over all that precedes it."""
    assert runs.generate.code == 0, runs.generate.messages
    model, tokenizer = require(subject, CompressesModels).load_packed(runs.folder / "out" / "packed")
    tokens = torch.tensor([tokenizer.encode(PROMPT)])
    for _ in range(NEW_TOKENS):
        tokens = torch.cat([tokens, model(input_ids=tokens).logits[:, -1:].argmax(-1)], dim=1)
    continuation = tokenizer.decode(tokens[0, -NEW_TOKENS:])
    assert continuation in runs.generate.stdout
    assert runs.generate.stdout.split(continuation)[-1].strip() == "", "more than that was generated"


def assert_true(ended: Ended, model: PreTrainedModel, tokenizer: object, difference: float) -> None:
    """The printed figures against lm-eval's on the same model."""
    oracle = lm_eval_perplexity(model, tokenizer, [TEXT], CONTEXT_LENGTH)
    printed = ended.json
    assert printed["tokens"] == sum(oracle.tokens)
    assert printed["bits_per_byte"] == pytest.approx(oracle.bits_per_byte, rel=difference)
    for name in ("token_perplexity", "word_perplexity", "byte_perplexity"):
        # In nats: the small model takes about 30 a word, and their exponential would magnify every rounding.
        nats, expected = math.log(printed[name]), math.log(getattr(oracle, name))
        assert nats == pytest.approx(expected, rel=difference), name
    assert printed["next_token_accuracy"] == pytest.approx(greedy_accuracy(model, tokenizer, TEXT, CONTEXT_LENGTH))


# --------------------------------------------------------------------------- refusals


@refuses
@each_bad_input()
def test_bad_input_gives_exit_code_2(runs: Runs, name: str) -> None:
    assert runs.bad[name].code == 2, runs.bad[name].messages


@refuses
@each_bad_input()
def test_bad_input_is_told_in_one_sentence_that_names_it(runs: Runs, name: str) -> None:
    """Progress aside, one line on standard error and none on standard output: no traceback, no second complaint."""
    ended = runs.bad[name]
    sentences = beyond_progress(ended, runs.good)
    assert len(sentences) == 1, sentences
    assert re.search(BAD[name].names, sentences[0]), sentences[0]
    assert sentences[0].endswith("."), sentences[0]
    assert not re.search(r"[.!?]\s+[A-Z]", sentences[0]), sentences[0]
    assert ended.stdout == ""


@refuses
@each_bad_input()
def test_bad_input_leaves_nothing_behind(runs: Runs, name: str) -> None:
    """At the output, beside it, or changed."""
    assert runs.bad[name].after == runs.bad[name].before
