import re

import pytest

from bitnet import engines
from bitnet.generation import generate
from bitnet.huggingface import load_folder
from bitnet.kernels import backends
from tests.bitnet.cli.program import assert_one_sentence, bitnet


def test_generate_prints_the_prompt_and_its_continuation_and_tells_what_ran(folder):
    model, tokenizer = load_folder(folder)
    outcome = bitnet("generate", folder, "the cat", "--max-new-tokens", "8")
    assert outcome.exit_code == 0
    assert outcome.stdout == "the cat" + "".join(generate(model, tokenizer, "the cat", 8)) + "\n"
    assert re.fullmatch(r"transformers\n8 tokens, [\d.]+ s to the first, then [\d.,]+ a second\n", outcome.stderr)
    quiet = bitnet("generate", folder, "the cat", "--max-new-tokens", "8", "--quiet")
    assert (quiet.stdout, quiet.stderr) == (outcome.stdout, "")


def test_a_packed_model_runs_in_the_native_runtime_unless_told_otherwise(easy):
    arguments = ["generate", easy[1] / "packed", "the cat", "--max-new-tokens", "12"]
    native, slow, reference = (
        bitnet(*arguments),
        bitnet(*arguments, "--backend", "portable", "--threads", "2"),
        bitnet(*arguments, "--backend", "torch"),
    )
    assert native.stderr.startswith(f"native runtime ({backends()[0]}, 1 thread)\n12 tokens, ")
    assert slow.stderr.startswith("native runtime (portable, 2 threads)\n")
    assert reference.stderr.startswith("transformers\n")
    assert native.stdout == slow.stdout == reference.stdout


@pytest.mark.parametrize("name", ["packed", "fp16"])
def test_both_artefacts_generate_and_a_seed_decides_what(name, easy):
    def sample(seed):
        arguments = ["the", "--max-new-tokens", "12", "--temperature", "1.5", "--seed", seed]
        outcome = bitnet("generate", easy[1] / name, *arguments)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.stdout

    first, again, other = sample(1), sample(1), sample(2)
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([""], "prompt is empty"),
        (["the " * 200], "128 positions"),
        (["the", "--temperature", "-1"], "temperature is -1"),
        (["the", "--temperature", "nan"], "temperature is nan"),
        (["\udcff"], "prompt"),
        (["the", "--chat"], "no chat template"),
        (["the", "--backend", "portable"], "no packed model"),
    ],
)
def test_a_bad_request_is_one_sentence(arguments, fragment, folder):
    assert_one_sentence(bitnet("generate", folder, *arguments, "--quiet"), fragment)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([""], "prompt is empty"),
        (["the " * 200], "128 positions"),
        (["the", "--temperature", "-1"], "temperature is -1"),
        (["the", "--chat"], "no chat template"),
        (["the", "--backend", "abacus"], "'abacus' is not available here"),
    ],
)
def test_the_runtime_refuses_in_the_same_words(arguments, fragment, easy):
    assert_one_sentence(bitnet("generate", easy[1] / "packed", *arguments, "--quiet"), fragment)


def test_ctrl_c_leaves_what_was_written_and_ends_the_line(easy, monkeypatch):
    class Interrupted(engines.Stopwatch):
        def __iter__(self):
            for token in super().__iter__():
                if self.count > 5:
                    raise KeyboardInterrupt
                yield token

    monkeypatch.setattr(engines, "Stopwatch", Interrupted)
    outcome = bitnet("generate", easy[1] / "packed", "the cat")
    assert outcome.exit_code == 130
    assert outcome.stdout.startswith("the cat")
    assert outcome.stdout.endswith("\n")
    assert outcome.stderr.splitlines()[-1] == "Interrupted."
