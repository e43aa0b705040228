"""The benchmark of whole models is seen to fail: with decoders that hold other weights, and with useless intervals.

No clock is read: time passes by one unit for each forward pass, in every arm alike. transformers plays llama.cpp.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import harness.statistics
from harness.opponents.decoders import TransformersArm
from harness.opponents.weights import RandomWeights
from harness.statistics import Interval
from suites import resident_memory, text_races
from suites.resident_memory import Resident
from suites.small_models import save_random_llama
from tests.suites.audits import Audit, audit_class, audit_defect
from tests.suites.decoding_subjects import DecodingSubject
from tests.suites.subjects import BareSubject

SUITE = "test_decoding_speed.py"
TRANSFORMERS = {"test_decoding_over_transformers"}
LLAMA = {
    "test_decoding_over_llama_cpp_in_16_bits",
    "test_decoding_over_llama_cpp_with_ternary_weights",
    "test_a_prompt_over_llama_cpp_in_16_bits",
    "test_a_prompt_over_quantized_llama_cpp",
}
MEMORY = {"test_resident_memory_over_the_files"}


@pytest.fixture(autouse=True)
def clock_of_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, forward = SimpleNamespace(now=0.0), LlamaForCausalLM.forward

    def counted(*words: Any, **options: Any) -> Any:
        clock.now += 1.0
        return forward(*words, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    monkeypatch.setattr(harness.statistics, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr("suites.test_decoding_speed.ROUNDS", {"quick": 5})
    monkeypatch.setattr("suites.test_decoding_speed.NEW_TOKENS", 3)
    monkeypatch.setattr("suites.test_decoding_speed.measure", lambda *words: Resident(1000, 3300, 2000))


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.opponents.find_spec", lambda name: None)


@pytest.fixture
def with_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    def arms(config: Any, weights: Any, folder: Path) -> list[TransformersArm]:
        ternary = AutoModelForCausalLM.from_config(weights.model.config)
        for name, module in ternary.named_modules():
            if name.endswith(("_proj", "norm", "embed_tokens")):
                module.weight.data = weights.dequantized(name)
        plain, names = weights.model, (text_races.LLAMA_F16, text_races.LLAMA_Q4)
        return [TransformersArm(plain, name) for name in names] + [TransformersArm(ternary, text_races.LLAMA_TERNARY)]

    monkeypatch.setattr(text_races, "_llama_arms", arms)
    monkeypatch.setattr("suites.test_decoding_speed.require_llama_cpp", lambda: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "random", layers=1)


def run(folder: Path, model: Path, defect: str = "") -> Audit:
    return audit_defect(folder, SUITE, DecodingSubject, defect, [model])


def test_ratios_are_those_of_the_arms_times(tmp_path: Path, model: Path, with_llama: None) -> None:
    done = run(tmp_path, model)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {name: figure for record in done.records for name, figure in record.figures.items()}
    for name in ("decode_over_transformers", "decode_over_llama_f16", "prefill_over_llama_quantized"):
        assert figures[name].interval == (1.0, 1.0)
    assert figures["resident_over_files"].value == pytest.approx(1.15)
    (first,) = (record for record in done.records if "over_transformers" in record.nodeid)
    assert first.attachments["ratios"]["timing"]


def test_rows_without_their_opponent_are_skipped_with_the_reason(
    tmp_path: Path, model: Path, without_llama: None
) -> None:
    done = run(tmp_path, model)
    assert {name.partition("[")[0] for name in done.with_outcome("skipped")} == LLAMA, done.messages()
    assert {name.partition("[")[0] for name in done.with_outcome("passed")} == TRANSFORMERS | MEMORY
    (first,) = (record for record in done.records if "over_transformers" in record.nodeid)
    assert any("llama-cpp-python is not installed" in note for note in first.notes)


@pytest.mark.parametrize("defect", ["another model", "logits that are not finite"])
def test_what_does_not_hold_the_weights_is_not_timed(
    tmp_path: Path, model: Path, with_llama: None, defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defect != "another model":
        monkeypatch.setattr(TransformersArm, "logits", lambda arm, tokens: torch.full((len(tokens), 257), torch.nan))
    done = run(tmp_path, model, defect)
    assert done.red == TRANSFORMERS | LLAMA | MEMORY, done.messages()
    assert not any(record.timings for record in done.records)


def test_a_ratio_without_an_interval_is_no_measurement(
    tmp_path: Path, model: Path, with_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    monkeypatch.setattr("harness.races.ratio_interval", lambda *words, **options: nothing)
    monkeypatch.setattr("suites.test_decoding_speed.attach_ratios", lambda *words: None)
    done = run(tmp_path, model)
    assert done.red == TRANSFORMERS | LLAMA, done.messages()


def test_a_model_that_takes_no_memory_was_not_opened(
    tmp_path: Path, model: Path, without_llama: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suites.test_decoding_speed.measure", lambda *words: Resident(1000, 1000, 2000))
    assert run(tmp_path, model).red == MEMORY


def test_a_subject_without_a_decoder_is_not_applicable(tmp_path: Path, model: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject, [model])
    assert {record.outcome for record in done.records} == {"not_applicable"}


def test_resident_memory_is_that_of_a_fresh_process(tmp_path: Path) -> None:
    config = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config |= {"num_hidden_layers": 1, "num_key_value_heads": 1, "max_position_embeddings": 64}
    large = config | {"vocab_size": 200_000}
    for name, each in (("small", config), ("large", large)):
        DecodingSubject().write_packed(each, RandomWeights(), tmp_path / name)
    file = tmp_path / "subject.py"
    file.write_text("from tests.suites.decoding_subjects import DecodingSubject as factory\n")
    held = resident_memory.measure(f"{file}:factory", tmp_path / "small", tmp_path / "large", [1, 2, 3])
    assert held.files > 2 * 200_000 * 16 * 4
    assert 0.5 < held.ratio < 20


def test_a_synthetic_model_is_the_same_for_both_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_llama: None
) -> None:
    sizes = {"tiny": {"vocab_size": 300, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}}
    sizes["tiny"] |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    monkeypatch.setattr(text_races, "SIZES", sizes)
    monkeypatch.setattr(text_races, "require_llama_cpp", lambda: None)
    built: list[Callable[..., Any]] = []

    def arm(path: Path, name: str) -> Any:
        built.append(name)
        return SimpleNamespace(
            name=name, logits=lambda tokens: DecodingSubject().open_decoder(path.parent / "packed").logits(list(tokens))
        )

    monkeypatch.setattr(text_races.llama_cpp, "LlamaCppArm", arm)
    made = text_races.synthetic_cast(DecodingSubject(), "tiny", tmp_path)
    made.close()
    assert built == [text_races.LLAMA_TERNARY]
    assert (tmp_path / "ternary.gguf").is_file()
    assert made.parameters == text_races.count_parameters(sizes["tiny"])
