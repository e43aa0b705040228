"""What the benchmark of decoding records, what it leaves out without llama.cpp, and how memory is measured.

No clock is read: time passes by layers of forward passes. transformers plays llama.cpp.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.mutants.mutant import Stage
from harness.mutants.reference.decoding import DecodingSubject
from harness.opponents.decoders import TransformersArm
from harness.opponents.weights import RandomWeights
from suites import resident_memory, text_races
from suites.props import small_sizes
from tests.suites.audits import audit_class

STAGE = Stage("test_decoding_speed.py", ("random",), props=("forward-clock",))
WITH_LLAMA = replace(STAGE, props=("forward-clock", "llama-cast"))
TRANSFORMERS = {"test_decoding_over_transformers"}
LLAMA = {
    "test_decoding_over_llama_cpp_in_16_bits",
    "test_decoding_over_llama_cpp_with_ternary_weights",
    "test_a_prompt_over_llama_cpp_in_16_bits",
    "test_a_prompt_over_quantized_llama_cpp",
}
MEMORY = {"test_resident_memory_over_the_files"}


def test_ratios_are_those_of_the_arms_times(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", WITH_LLAMA, DecodingSubject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {name: figure for record in done.records for name, figure in record.figures.items()}
    for name in ("decode_over_transformers", "decode_over_llama_f16", "prefill_over_llama_quantized"):
        assert figures[name].interval == (1.0, 1.0)
    assert figures["resident_over_files"].value == pytest.approx(1.15)
    (first,) = (record for record in done.records if "over_transformers" in record.nodeid)
    assert first.attachments["ratios"]["timing"]


def test_rows_without_their_opponent_are_skipped_with_the_reason(tmp_path: Path) -> None:
    done = audit_class(tmp_path / "run", STAGE, DecodingSubject)
    assert {name.partition("[")[0] for name in done.with_outcome("skipped")} == LLAMA, done.messages()
    assert {name.partition("[")[0] for name in done.with_outcome("passed")} == TRANSFORMERS | MEMORY
    (first,) = (record for record in done.records if "over_transformers" in record.nodeid)
    assert any("llama-cpp-python is not installed" in note for note in first.notes)


@pytest.mark.parametrize("defect", ["another model", ""])
def test_what_does_not_hold_the_weights_is_not_timed(
    tmp_path: Path, defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not defect:
        monkeypatch.setattr(TransformersArm, "logits", lambda arm, tokens: torch.full((len(tokens), 257), torch.nan))
    done = audit_class(tmp_path / "run", WITH_LLAMA, DecodingSubject, defect)
    assert done.red == TRANSFORMERS | LLAMA | MEMORY, done.messages()
    assert not any(record.timings for record in done.records)


def test_resident_memory_is_that_of_a_fresh_process(tmp_path: Path) -> None:
    config = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config |= {"num_hidden_layers": 1, "num_key_value_heads": 1, "max_position_embeddings": 64}
    large = config | {"vocab_size": 200_000}
    for name, each in (("small", config), ("large", large)):
        DecodingSubject().write_packed(each, RandomWeights(), tmp_path / name)
    file = tmp_path / "subject.py"
    file.write_text("from harness.mutants.reference.decoding import DecodingSubject as factory\n")
    held = resident_memory.measure(f"{file}:factory", tmp_path / "small", tmp_path / "large", [1, 2, 3])
    assert held.files > 2 * 200_000 * 16 * 4
    assert 0.5 < held.ratio < 20


def test_a_synthetic_model_is_the_same_for_both_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"tiny": small_sizes(1)}
    monkeypatch.setattr(text_races, "SIZES", sizes)
    monkeypatch.setattr(text_races, "require_llama_cpp", lambda: None)
    built: list[str] = []

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
