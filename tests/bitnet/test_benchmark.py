import io
import json

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig

from bitnet import benchmark
from bitnet.artifacts import save_packed
from bitnet.benchmark import Benchmark, baseline_of, packed_folder, run_benchmark
from bitnet.benchmark_table import print_benchmark
from bitnet.errors import BitnetError
from tests.bitnet.small_models import LLAMA_LIKE, model_from, packed_model, small_model, small_tokenizer

MEGABYTES = {"runtime": 3, "ternary": 4, "fp32": 12, "bf16": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("benchmark")
    for name in ("packed", "gpt2", "plain"):
        (root / name).mkdir()
    save_packed(packed_model("llama", sparsity_threshold=0.05), small_tokenizer(), root / "packed")
    save_packed(packed_model("gpt2", sparsity_threshold=0.05), small_tokenizer(), root / "gpt2")
    small_model("llama").save_pretrained(root / "plain")
    small_tokenizer().save_pretrained(root / "plain")
    return root


@pytest.fixture(scope="module")
def found(folders):
    """A benchmark of a small model, whose memory is not measured but told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "resident_memory", lambda source, kind, threads: MEGABYTES[kind] * 1_000_000)
        before = torch.get_num_threads()
        result = run_benchmark(folders / "packed", str(folders / "plain"), ("fp32", "bf16"), rounds=3, seed=1)
        torch.set_num_threads(before)
    return result


def test_every_arm_has_its_rates_times_and_memory(found):
    assert [arm.name for arm in found.arms] == ["packed", "fp32", "bf16", "control"]
    assert [arm.resident_bytes for arm in found.arms] == [3_000_000, 12_000_000, 6_000_000, None]
    for arm in found.arms:
        assert {metric: len(times) for metric, times in arm.seconds.items()} == {
            "decode": 3,
            "prefill": 3,
            "first_token": 3,
        }
        decode, prefill, first = (sorted(arm.seconds[name])[1] for name in ("decode", "prefill", "first_token"))
        assert arm.decode_tokens_per_second == pytest.approx((found.new_tokens - 1) / decode)
        assert arm.prefill_tokens_per_second == pytest.approx(found.prefill_tokens / prefill)
        assert arm.time_to_first_token == first > 0


def test_ratios_say_how_many_times_faster_the_packed_model_is(found):
    packed = found.arms[0]
    assert [(row.against, row.metric) for row in found.ratios] == [
        (name, metric) for name in ("fp32", "bf16", "control") for metric in ("decode", "prefill", "first_token")
    ]
    for row in found.ratios:
        arm = next(arm for arm in found.arms if arm.name == row.against)
        ours, theirs = (sorted(times.seconds[row.metric])[1] for times in (packed, arm))
        assert row.value == pytest.approx(theirs / ours)
        assert row.low <= row.value <= row.high


def test_outputs_are_compared_and_the_settings_recorded(found, folders):
    assert found.agreement.positions == found.prefill_tokens == 96
    assert found.agreement.largest_difference < 0.1
    assert found.agreement.top1_agreement > 0.9
    assert found.agreement.relative_difference < 1e-3
    assert (found.threads, found.rounds, found.seed, found.prompt_tokens, found.new_tokens) == (1, 3, 1, 16, 32)
    assert found.engine.startswith("native runtime (")
    assert found.packed_bytes == (folders / "packed" / "model.safetensors").stat().st_size
    assert found.environment["torch"] == torch.__version__
    assert Benchmark.model_validate(json.loads(found.model_dump_json())) == found


def shown(found):
    console = Console(width=120, record=True, file=io.StringIO())
    print_benchmark(found, console)
    return console.export_text()


def test_the_tables_hold_the_figures(found):
    text = " ".join(shown(found).split())
    for arm in found.arms[:3]:
        assert f"{arm.name} {arm.decode_tokens_per_second:,.1f} {arm.prefill_tokens_per_second:,.1f}" in text
    assert f"3.0 MB {3e6 / found.packed_bytes:.2f}x" in text
    for row in found.ratios:
        assert f"{row.value:.2f}x ({row.low:.2f}-{row.high:.2f})" in text
    assert f"perplexity {found.agreement.perplexity:.6g}" in text
    assert "3 rounds in random order" in text
    assert found.engine in text


@pytest.mark.parametrize(("sound", "sentence"), [(True, "as fast as itself"), (False, "the machine is too busy")])
def test_the_control_is_told_in_words(found, sound, sentence):
    assert sentence in shown(found.model_copy(update={"control_sound": sound}))


def test_the_control_is_sound_where_its_interval_holds_one(found):
    row = found.ratios[-1]
    for low, high, sound in [(0.9, 1.1, True), (1.01, 1.2, True), (1.03, 1.2, False), (0.5, 0.97, False)]:
        assert benchmark._holds_one(row.model_copy(update={"low": low, "high": high})) is sound


def test_a_model_that_the_runtime_does_not_have_is_measured_through_transformers(folders, monkeypatch):
    monkeypatch.setattr(benchmark, "resident_memory", lambda *_: None)
    before = torch.get_num_threads()
    result = run_benchmark(folders / "gpt2", str(folders / "plain"), ("fp32",), rounds=3)
    torch.set_num_threads(before)
    assert result.engine.startswith("transformers on ternary layers ('model_type'")
    assert result.agreement is None
    text = shown(result)
    assert "not measured" in text
    assert "no second one to compare with" in text


def test_the_folder_of_a_run_stands_for_its_packed_model(folders, finished):
    assert packed_folder(str(folders / "packed")) == folders / "packed"
    assert packed_folder(str(finished.out)) == finished.out / "packed"
    assert baseline_of(finished.out / "packed") == finished.result.source


def test_a_baseline_of_another_vocabulary_is_refused(folders, tmp_path):
    model_from(LlamaConfig(**{**LLAMA_LIKE, "vocab_size": 290})).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BitnetError, match=r"has 290 tokens and .*packed 288, so they are no pair"):
        run_benchmark(folders / "packed", str(tmp_path), ("fp32",))


def test_what_is_missing_is_told_with_the_command_that_makes_it(folders):
    with pytest.raises(BitnetError, match="run `bitnet compress tiny --out OUT`, and then `bitnet bench OUT/packed`"):
        packed_folder("tiny")
    with pytest.raises(BitnetError, match="give --baseline MODEL"):
        baseline_of(folders / "packed")
