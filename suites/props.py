"""What the suites are given in place of the real thing when they are shown to small subjects, by name."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import harness.statistics
from harness.opponents import llama_cpp
from harness.opponents.decoders import TransformersArm
from harness.opponents.products import SubjectProduct, in_turn
from harness.oracles.perplexity import greedy_accuracy, lm_eval_perplexity
from harness.subject import DecodesPacked, MultipliesTernary, ResumesFineTuning, StreamsModels, require
from harness.texts import held_out_excerpt
from suites import kernel_races, text_races
from suites.counted_work import CountedProcess
from suites.fresh_process import Reloaded, load_plain
from suites.kernel_races import Task
from suites.process_costs import Cost
from suites.resident_memory import Resident
from suites.small_models import byte_tokenizer, random_llama
from suites.spoilt_props import SPOILT, Prop

TEXT_CHARACTERS: Final = 600
DOCUMENT_CHARACTERS: Final = 200
ROUNDS: Final = 5
NEW_TOKENS: Final = 3
SECONDS: Final = {"subject": 1.0, "llama": 4.0, "int8": 2.0, "limit": 0.5}
"""How long a product takes on the clock of `small_products`."""


def _subject(config: pytest.Config) -> Any:
    audit: Any = config.pluginmanager.get_plugin("bitnet-audit")
    return audit.subject


# --------------------------------------------------------------------------- less of everything


def short_texts(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """Compressed models are measured on little text."""
    for name in ("EVALUATION_CHARACTERS", "UNSEEN_CHARACTERS", "SHORT_CHARACTERS"):
        patch.setattr(f"suites.fixtures_artifacts.{name}", TEXT_CHARACTERS)
    patch.setattr("suites.test_recovery.DOCUMENT_CHARACTERS", DOCUMENT_CHARACTERS)


def few_windows(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """A decoder is compared with transformers on little text."""
    patch.setattr("suites.test_decoder.WINDOWS", 3)


def large_models(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """Every model counts as large."""
    patch.setattr("suites.fixtures_models.LARGE_PARAMETERS", 0)


def little_training(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """A warm-up is watched for a few steps."""
    patch.setattr("suites.test_fine_tuning.TRAINING_STEPS", 8)


def some_faults(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """A command that is over in no time is disturbed less often, and its model need not have learnt anything."""
    few = {"boundaries": 3, "writes": 16, "damage of a file": 1, "damage of the state": 4, "pairs": 4}
    patch.setattr("suites.test_faults.COUNTS", defaultdict(lambda: {"quick": 2, "full": 2}, _for_both(few)))
    patch.setattr("suites.fault_scenes.TRAINING_STEPS", 0)


def _for_both(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {kind: {"quick": count, "full": count} for kind, count in counts.items()}


def short_patience(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """Hostile files are waited for a moment, and of settings alone there are as many as have to be tried."""
    patch.setattr("suites.test_security.SECONDS", 0.1)
    patch.setattr("suites.test_security.INPUTS", {"settings": 15})


def one_step(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """For a subject whose perplexity rises whatever it does."""
    patch.setattr("suites.test_fallbacks.TRAINING_STEPS", 1)


def resume_here(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
    """Training goes on in this process, which takes seconds less; small subjects keep nothing of one in it."""

    def resume(spec: str, packed: Any, samples: Tensor, steps: int, folder: Any) -> dict[str, Tensor]:
        subject = require(_subject(config), ResumesFineTuning)
        model = subject.fine_tune_resumably(packed, samples, steps, folder, None)
        assert model is not None, f"{spec} has stopped without being told to"
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    patch.setattr("suites.test_checkpoints.resume_in_fresh_process", resume)


def small_scale(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
    """A billion parameters become two million, and one fresh process compresses all, of which its growth alone counts.

    Time passes by the numbers that torch works on.
    """

    def process(spec: str, exact: bool) -> CountedProcess:
        return CountedProcess(require(_subject(config), StreamsModels), spec, exact)

    @cache
    def shared(spec: str) -> CountedProcess:
        started = process(spec, exact=True)
        config.add_cleanup(started.close)
        return started

    def compress(spec: str, model: Path, out: Path) -> Cost:
        cost = shared(spec).compress(model, out)
        return Cost(cost.seconds, 0, cost.growth)

    sizes = {"10M": (128, 2), "100M": (256, 4), "1B": (256, 24)}
    patch.setattr("suites.test_scale.SIZES", sizes)
    patch.setattr("suites.test_scale.REPETITIONS", dict.fromkeys(sizes, 1))
    patch.setattr("suites.test_scale.SHARD", 2**21)
    patch.setattr("suites.test_scale.ALLOWANCE", 3 * 2**23)
    patch.setattr("suites.test_scale.FreshProcess", process)
    patch.setattr("suites.test_scale.compress_in_fresh_process", compress)


def short_hours(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """An hour takes half a minute, a GiB is 64 MiB, and there is little text."""
    patch.setattr("suites.effortful_runs.MINUTE", 0.5)
    patch.setattr("suites.test_few_bits.minutes_granted", lambda: 60.0)
    patch.setattr("suites.test_few_bits.GIB", 2**26)
    patch.setattr("suites.test_few_bits.CHOSEN_BY_CHARACTERS", TEXT_CHARACTERS)
    patch.setattr("suites.test_few_bits.held_out_text", lambda: held_out_excerpt(4 * TEXT_CHARACTERS))
    patch.setattr("suites.test_few_bits.DOCUMENT_CHARACTERS", DOCUMENT_CHARACTERS)


def answers(_: pytest.MonkeyPatch, config: pytest.Config) -> None:
    """Write what is right for the suite's own small model where the made-up command line looks it up."""
    known = config.getoption("--prop-folder") / "answers.json"
    if not known.is_file():
        written = known.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(_right_answers()), encoding="utf-8")
        written.replace(known)
    shutil.copyfile(known, _subject(config).answers)


def _right_answers() -> dict[str, Any]:
    from suites import test_command_line as suite

    model, tokenizer = random_llama(), byte_tokenizer()
    suite.prefer_letters(model)
    oracle = lm_eval_perplexity(model, tokenizer, [suite.TEXT], suite.CONTEXT_LENGTH)
    figures = {name: getattr(oracle, name) for name in suite.EVAL_KEYS if hasattr(oracle, name)}
    figures["tokens"] = sum(oracle.tokens)
    figures["next_token_accuracy"] = greedy_accuracy(model, tokenizer, suite.TEXT, suite.CONTEXT_LENGTH)
    prompt, generate = torch.tensor([tokenizer.encode(suite.PROMPT)]), cast("Any", model).generate
    tokens = generate(prompt, max_new_tokens=suite.NEW_TOKENS, do_sample=False)
    return {"figures": figures, "continuation": tokenizer.decode(tokens[0, -suite.NEW_TOKENS :])}


class InThisProcess:
    """Loads as a fresh process would, which takes as long to start as everything else together."""

    def __init__(self, folder: Any, text: str, *_: object) -> None:
        self.folder, self.text = folder, text

    def result(self) -> Reloaded:
        """What a fresh process would find; of its modules nothing is known."""
        with torch.compiler.set_stance("force_eager"), torch.no_grad():
            try:
                model, tokenizer, problems = load_plain(str(self.folder))
            except Exception as error:
                raise AssertionError(f"the artefact cannot be reloaded: {error}") from error
            tokens = torch.tensor([tokenizer.encode(self.text)])
            return Reloaded(tokens, model.eval()(input_ids=tokens, use_cache=False).logits, tuple(problems), ())


def one_process(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """What transformers makes of an export is seen in this process."""
    patch.setattr("suites.test_interop_transformers.Reload", InThisProcess)


def a_model_that_copies(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """The audited model looks back for the last word and says what followed it, unless its attention is taken away."""
    from lm_eval.api.model import LM

    from suites import test_interop_lm_eval as suite

    class Copies(LM):  # type: ignore[misc]
        def __init__(self, looks_back: bool) -> None:
            super().__init__()
            self.looks_back = looks_back

        def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            asked = [(request.args[0].split(), request.args[1].strip()) for request in requests]
            return [(-float(not self.follows(words, word)), False) for words, word in asked]

        def follows(self, words: list[str], word: str) -> bool:
            return self.looks_back and words[words.index(words[-1]) + 1 :][:1] == [word]

        def loglikelihood_rolling(self, requests: Any, **_: Any) -> Any:
            raise NotImplementedError

        def generate_until(self, requests: Any, **_: Any) -> Any:
            raise NotImplementedError

    right = suite.in_memory

    def in_memory(model: Any, tokenizer: Any) -> Any:
        projection = model.model.layers[0].self_attn.o_proj
        if type(projection) is not torch.nn.Linear:  # a packed model
            return right(model, tokenizer)
        return Copies(bool(projection.weight.any()))

    patch.setattr(suite, "in_memory", in_memory)


# --------------------------------------------------------------------------- clocks and opponents


def forward_clock(patch: pytest.MonkeyPatch, _: pytest.Config) -> None:
    """Time passes by one unit for each layer of a forward pass, in every arm alike; there is no llama.cpp."""
    clock, forward = SimpleNamespace(now=0.0), LlamaForCausalLM.forward

    def counted(model: Any, *words: Any, **options: Any) -> Any:
        clock.now += model.config.num_hidden_layers
        return forward(model, *words, **options)

    patch.setattr(LlamaForCausalLM, "forward", counted)
    patch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    patch.setattr("suites.test_inference_speed.ROUNDS", ROUNDS)
    patch.setattr("suites.test_inference_speed.NEW_TOKENS", NEW_TOKENS)
    patch.setattr("suites.test_decoding_speed.ROUNDS", dict.fromkeys(("quick", "full"), ROUNDS))
    patch.setattr("suites.test_decoding_speed.NEW_TOKENS", NEW_TOKENS)
    patch.setattr("suites.test_decoding_speed.measure", lambda *_: Resident(1000, 3300, 2000))
    patch.setattr("harness.opponents.find_spec", lambda _: None)


def llama_cast(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
    """transformers plays llama.cpp, on the same weights, and the models of given sizes are small."""

    def arms(_: Any, weights: Any, __: Any) -> list[TransformersArm]:
        ternary = AutoModelForCausalLM.from_config(weights.model.config)
        for name, module in ternary.named_modules():
            if name.endswith(("_proj", "norm", "embed_tokens")):
                module.weight.data = weights.dequantized(name)
        plain, names = weights.model, (text_races.LLAMA_F16, text_races.LLAMA_Q4)
        return [TransformersArm(plain, name) for name in names] + [TransformersArm(ternary, text_races.LLAMA_TERNARY)]

    def reader(path: Any, name: str) -> Any:
        subject = require(_subject(config), DecodesPacked)
        decoder = subject.open_decoder(path.parent / "packed")
        return SimpleNamespace(
            name=name,
            logits=lambda tokens: decoder.logits(list(tokens)),
            greedy=lambda prompt, count: decoder.logits([*prompt, *prompt[:count]]),
        )

    patch.setattr(text_races, "_llama_arms", arms)
    patch.setattr(text_races, "require_llama_cpp", lambda: None)
    patch.setattr("suites.test_decoding_speed.require_llama_cpp", lambda: None)
    patch.setattr(text_races, "SIZES", {"0.7B": small_sizes(2), "2B": small_sizes(3)})
    patch.setattr(llama_cpp, "LlamaCppArm", reader)


def small_sizes(layers: int) -> dict[str, Any]:
    """A narrow Llama instead of one of billions of weights."""
    return {
        "vocab_size": 300,
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }


class Clocked:
    """A callable that takes its time on a clock that only it moves."""

    def __init__(self, clock: SimpleNamespace, seconds: float, run: Callable[..., Any]) -> None:
        self.clock, self.seconds, self.run = clock, seconds, run

    def __call__(self, *words: Any) -> Any:
        """Move the clock and run."""
        self.clock.now += self.seconds
        return self.run(*words)


def small_products(patch: pytest.MonkeyPatch, config: pytest.Config) -> None:
    """Small tasks and no clock: each kind of arm takes its own time. The subject plays llama.cpp, four times."""
    clock = SimpleNamespace(now=0.0)
    patch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    patch.setattr("suites.test_kernel_speed.Task", lambda *sizes, streamed=False: Task(32, 256, sizes[-1], streamed))
    patch.setattr("suites.test_kernel_speed.STREAMED", Task(32, 256, 1, streamed=True))
    patch.setattr("suites.test_kernel_speed.ROUNDS", dict.fromkeys(("quick", "full"), ROUNDS))
    patch.setattr(kernel_races, "RUN_MACS", 1.0)
    patch.setattr(kernel_races, "STREAMED_BYTES", 1 << 13)

    def timed(layers: Any, x: Any, products: int, way: str, *words: Any) -> Any:
        kind = "int8" if "quantized::" in way else "subject"
        each = SECONDS[kind] * len(x) / products
        return in_turn([Clocked(clock, each, layer) for layer in layers], x, products, way, *words)

    class Limit:
        macs, bytes, name = 1e6, 1 << 20, "a limit"

        def __init__(self, _: float = 0) -> None:
            self.run = Clocked(clock, SECONDS["limit"], lambda: 0)

    class Llama:
        name, bits = "llama.cpp TQ2_0", 2.0625

        def prepare(self, weights: Any, x: Any, products: int) -> Any:
            subject = require(_subject(config), MultipliesTernary)
            prepared = SubjectProduct(subject).prepare(weights, x, products)
            return SimpleNamespace(
                run=lambda: [prepared.run() for _ in range(4)], output=prepared.output, once=prepared.once, way=""
            )

    patch.setattr("harness.opponents.products.in_turn", timed)
    patch.setattr(kernel_races, "Peak", Limit)
    patch.setattr(kernel_races, "MemoryRead", Limit)
    patch.setattr(kernel_races, "GgmlTernaryProduct", Llama)


PROPS: Final[Mapping[str, Prop]] = MappingProxyType(
    {
        "short-texts": short_texts,
        "few-windows": few_windows,
        "large-models": large_models,
        "little-training": little_training,
        "short-patience": short_patience,
        "one-step": one_step,
        "some-faults": some_faults,
        "resume-here": resume_here,
        "small-scale": small_scale,
        "short-hours": short_hours,
        "answers": answers,
        "one-process": one_process,
        "a-model-that-copies": a_model_that_copies,
        "forward-clock": forward_clock,
        "llama-cast": llama_cast,
        "small-products": small_products,
        **SPOILT,
    }
)
