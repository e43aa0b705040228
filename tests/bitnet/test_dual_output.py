import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet.artifacts import load_packed, save_fp16, save_packed
from bitnet.dual_output import compare, load_fp16, windows
from bitnet.errors import BitnetError
from bitnet.packed_manifest import TENSORS
from tests.bitnet.small_models import ARCHITECTURES, packed_model, small_model, small_tokenizer

TOKENS = torch.arange(2, 34).reshape(2, 16)


@pytest.fixture
def stored(tmp_path):
    save_packed(packed_model(), small_tokenizer(), tmp_path)
    return tmp_path


@pytest.fixture
def both(stored):
    (stored / "fp16").mkdir()
    compressed, tokenizer = load_packed(stored)
    save_fp16(compressed.dequantized(), tokenizer, stored / "fp16")
    return stored


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_half_precision_folder_is_a_plain_model_equal_to_the_packed_one(architecture, tmp_path):
    compressed = packed_model(architecture, embedding_dtype="int8")
    for name in ("packed", "fp16"):
        (tmp_path / name).mkdir()
    save_packed(compressed, small_tokenizer(), tmp_path / "packed")
    save_fp16(compressed.dequantized(), small_tokenizer(), tmp_path / "fp16")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "fp16")
    assert plain.dtype == torch.float16
    assert type(plain) is type(small_model(architecture))
    assert AutoTokenizer.from_pretrained(tmp_path / "fp16")("the")["input_ids"] == small_tokenizer()("the")["input_ids"]
    progress = []
    dual = compare(tmp_path / "packed", tmp_path / "fp16", TOKENS, lambda *step: progress.append(step))
    assert dual.equal == dual.weights == sum(p.numel() for p in small_model(architecture).parameters())
    assert dual.equal_fraction == 1.0
    assert dual.positions == 32
    assert dual.agreement >= dual.agreement_int8
    assert dual.agreement > 0.9
    assert dual.nonfinite == 0
    assert progress == [(1, 2), (2, 2)]


def test_one_altered_weight_of_the_half_precision_folder_is_counted(both):
    tensors = load_file(both / "fp16" / TENSORS)
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] += 1
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, both / "fp16" / TENSORS, metadata={"format": "pt"})
    dual = compare(both, both / "fp16", TOKENS)
    assert dual.weights - dual.equal == 2


def test_latent_weights_in_the_half_precision_folder_are_counted(both):
    small_model("llama").half().save_pretrained(both / "fp16")
    dual = compare(both, both / "fp16", TOKENS)
    assert dual.equal_fraction < 0.5
    assert dual.agreement < 0.9


def test_values_that_are_not_finite_are_counted_and_never_equal(both):
    tensors = load_file(both / "fp16" / TENSORS)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, both / "fp16" / TENSORS, metadata={"format": "pt"})
    dual = compare(both, both / "fp16", TOKENS)
    assert dual.equal == dual.weights - 1
    assert dual.nonfinite == 1 + TOKENS.numel() * 288


def test_without_int8_activations_only_one_agreement_is_measured(tmp_path):
    compressed = packed_model(activation_bits=None)
    for name in ("packed", "fp16"):
        (tmp_path / name).mkdir()
    save_packed(compressed, small_tokenizer(), tmp_path / "packed")
    save_fp16(compressed.dequantized(), small_tokenizer(), tmp_path / "fp16")
    assert compare(tmp_path / "packed", tmp_path / "fp16", TOKENS).agreement_int8 is None


def test_a_half_precision_folder_without_a_weight_is_refused(both):
    tensors = load_file(both / "fp16" / TENSORS)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, both / "fp16" / TENSORS, metadata={"format": "pt"})
    with pytest.raises(BitnetError, match=r"lacks model\.layers\.0\.mlp\.up_proj\.weight"):
        load_fp16(both / "fp16")
    (both / "fp16" / "config.json").unlink()
    with pytest.raises(BitnetError, match=r"has no config\.json"):
        load_fp16(both / "fp16")


@pytest.mark.parametrize(
    ("tokens", "length", "limit", "expected"),
    [
        (10, 4, 100, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (10, 4, 7, [[0, 1, 2, 3]]),
        (3, 4, 100, [[0, 1, 2]]),
        (10, 4, 2, [[0, 1]]),
    ],
)
def test_windows_are_whole_and_start_at_the_beginning(tokens, length, limit, expected):
    assert windows(list(range(tokens)), length, limit).tolist() == expected
