import functools
import json
import re

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel
from transformers.utils import logging

from bitnet.errors import BitnetError
from bitnet.huggingface import load_folder, load_gguf, quiet, save_folder, save_tokenizer
from tests.bitnet.small_gguf import write_gguf
from tests.bitnet.small_models import ARCHITECTURES, small_model, small_tokenizer

TOKENS = torch.arange(2, 34).reshape(2, 16)
TEXT = "the cat sat on the löwe 42 times"


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.fixture
def folder(tmp_path):
    save_folder(small_model("llama"), small_tokenizer(), tmp_path)
    return tmp_path


@pytest.fixture
def gguf_file(tmp_path):
    return write_gguf(tmp_path / "model.gguf", small_model("llama"), small_tokenizer())


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def edit_config(folder, **changes):
    rewrite(folder / "config.json", lambda content: json.dumps(json.loads(content) | changes).encode())


# ----------------------------------------------------------------- folders


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_gives_the_model_and_the_tokenizer_that_were_saved(architecture, tmp_path):
    model = small_model(architecture)
    save_folder(model, small_tokenizer(), tmp_path)
    loaded, tokenizer = load_folder(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training
    assert tokenizer(TEXT)["input_ids"] == small_tokenizer()(TEXT)["input_ids"]


def test_weights_take_the_dtype_that_is_asked_for(folder):
    assert {parameter.dtype for parameter in load_folder(folder)[0].parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_folder(folder, torch.bfloat16)[0].parameters()} == {torch.bfloat16}


def test_a_float16_folder_is_widened(tmp_path):
    save_folder(small_model("llama").half(), small_tokenizer(), tmp_path)
    loaded, _ = load_folder(tmp_path)
    assert loaded.dtype == torch.float32
    for stored, parameter in zip(small_model("llama").parameters(), loaded.parameters(), strict=True):
        assert torch.equal(parameter, stored.half().float())


def test_a_tokenizer_is_written_without_spaces_between_its_parts(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    before = file.read_bytes()
    save_tokenizer(tokenizer, tmp_path)
    assert json.loads(file.read_bytes()) == json.loads(before)
    assert len(file.read_bytes()) < 0.7 * len(before)
    text = "Grüße, 世界: the cat sat"
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == tokenizer.encode(text)


def test_loading_says_nothing(folder, gguf_file, capfd):
    load_folder(folder)
    load_gguf(gguf_file)
    save_folder(*load_folder(folder), folder)
    assert capfd.readouterr() == ("", "")


def test_quiet_puts_back_what_transformers_was_set_to():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        for bars in (True, False):
            (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
            logging.set_verbosity_info()
            with quiet():
                assert not logging.is_progress_bar_enabled()
                assert logging.get_verbosity() == logging.ERROR
            assert logging.is_progress_bar_enabled() == bars
            assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.json", r"has no config\.json: give the folder that save_pretrained wrote"),
        ("model.safetensors", "has no safetensors weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_missing_file_is_named(folder, name, sentence):
    (folder / name).unlink()
    with pytest.raises(BitnetError, match=sentence) as error:
        load_folder(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("kept", [0, 4, 20, 1000, -10])
def test_truncated_weights_are_one_sentence(folder, kept):
    rewrite(folder / "model.safetensors", lambda content: content[:kept])
    with pytest.raises(BitnetError, match=r"Cannot load the model .*: check that it is complete") as error:
        load_folder(folder)
    assert "\n" not in str(error.value)


def test_a_missing_shard_is_one_sentence(folder):
    small_model("llama").save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    load_folder(folder)
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()
    with pytest.raises(BitnetError, match=r"Cannot load the model .*: check that it is complete"):
        load_folder(folder)


def test_pickled_weights_are_not_read(folder):
    torch.save(small_model("llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BitnetError, match="no safetensors weights"):
        load_folder(folder)


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "model.py").write_text("raise SystemExit('the code ran')")
    edit_config(folder, auto_map={"AutoModelForCausalLM": "model.Model", "AutoConfig": "model.Config"})
    assert torch.equal(logits(load_folder(folder)[0]), logits(small_model("llama")))
    edit_config(folder, model_type="special")
    with pytest.raises(BitnetError, match="has the model_type 'special'"):
        load_folder(folder)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"model_type": null}', b'{"model_type": ["llama"]}'])
def test_a_config_without_model_type_is_one_sentence(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(BitnetError, match="only causal language models of transformers can be read"):
        load_folder(folder)


def test_a_damaged_config_or_tokenizer_is_one_sentence(folder):
    rewrite(folder / "tokenizer.json", lambda content: content[:1000])
    with pytest.raises(BitnetError, match=r"Cannot load the tokenizer of .*: check that it is complete"):
        load_folder(folder)
    rewrite(folder / "config.json", lambda content: content[:40])
    with pytest.raises(BitnetError, match=r"config\.json is not valid JSON"):
        load_folder(folder)


def test_a_model_of_another_kind_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    save_folder(BertModel(BertConfig(vocab_size=288, **sizes)), small_tokenizer(), tmp_path)
    with pytest.raises(BitnetError, match=r"lacks .*: save the whole BertLMHeadModel, head included"):
        load_folder(tmp_path)
    edit_config(tmp_path, model_type="t5")
    with pytest.raises(BitnetError, match="has the model_type 't5'"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_hidden_layers": 3}, r"lacks model\.layers\.2\.\S+ and 8 more"),
        ({"num_hidden_layers": 1}, r"has, beside the weights of the model, model\.layers\.1\.\S+ and 8 more"),
        ({"attention_bias": True}, r"lacks model\.layers\.0\.self_attn\.k_proj\.bias and 7 more"),
        ({"tie_word_embeddings": False}, r"lacks lm_head\.weight: save the whole LlamaForCausalLM, head included"),
        ({"vocab_size": 100}, r"has model\.embed_tokens\.weight in shape \(288, 32\) instead of \(100, 32\)"),
        ({"hidden_size": "wide"}, "Cannot load the model"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_told_by_a_weight(folder, change, sentence):
    """transformers would fill up with random weights, or leave some out, and go on."""
    edit_config(folder, **change)
    with pytest.raises(BitnetError, match=sentence):
        load_folder(folder)


# ----------------------------------------------------------------- GGUF


def test_a_gguf_file_gives_the_model_and_the_tokenizer_inside(gguf_file):
    model, tokenizer = load_gguf(gguf_file)
    assert torch.equal(logits(model), logits(small_model("llama")))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    assert tokenizer(TEXT)["input_ids"] == small_tokenizer()(TEXT)["input_ids"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_quantized_tensors_of_a_gguf_file_are_dequantized(tmp_path):
    name = "model.layers.0.self_attn.v_proj.weight"
    model = small_model("llama")
    loaded, _ = load_gguf(write_gguf(tmp_path / "model.gguf", model, small_tokenizer(), quantized=(name,)))
    blocks = gguf.quantize(model.get_parameter(name).detach().numpy(), gguf.GGMLQuantizationType.Q8_0)
    expected = gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    assert torch.equal(loaded.get_parameter(name), torch.from_numpy(expected))
    assert not torch.equal(loaded.get_parameter(name), model.get_parameter(name))


def test_a_model_from_gguf_can_be_saved_and_is_then_an_ordinary_one(gguf_file, tmp_path):
    save_folder(*load_gguf(gguf_file), tmp_path / "folder")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32)
    assert torch.equal(logits(plain), logits(small_model("llama")))


def test_reading_gguf_leaves_the_random_state_alone(gguf_file):
    before = torch.random.get_rng_state()
    load_gguf(gguf_file)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("pre_tokenizer", "pieces"),
    [
        ("smollm", ["ab", "ĠĠ", "1", "2", "Ġ", "3"]),
        ("gpt-2", ["ab", "Ġ", "Ġ12", "Ġ3"]),
        (None, ["ab", "Ġ", "Ġ12", "Ġ3"]),
    ],
)
def test_text_is_split_by_the_files_own_rule(pre_tokenizer, pieces, tmp_path):
    file = write_gguf(tmp_path / "m.gguf", small_model("llama"), small_tokenizer(), pre_tokenizer=pre_tokenizer)
    split = load_gguf(file)[1].backend_tokenizer.pre_tokenizer.pre_tokenize_str("ab  12 3")
    assert [piece for piece, _ in split] == pieces


@pytest.mark.parametrize("kept", [0, 4, 30, 200, 6000, 0.5, -100])
def test_a_truncated_gguf_file_is_one_sentence(gguf_file, kept):
    def truncated(content):
        return content[: int(len(content) * kept) if isinstance(kept, float) else kept]

    rewrite(gguf_file, truncated)
    with pytest.raises(BitnetError, match=f"Cannot load the model {re.escape(str(gguf_file))} .*complete") as error:
        load_gguf(gguf_file)
    assert "\n" not in str(error.value)


def test_gguf_without_tokenizer_and_of_unknown_architecture(tmp_path):
    write = functools.partial(write_gguf, tmp_path / "model.gguf", small_model("llama"))
    with pytest.raises(BitnetError, match="Cannot load the tokenizer of"):
        load_gguf(write(None))
    with pytest.raises(BitnetError, match=r"Cannot load the model .*architecture unheardof is not supported"):
        load_gguf(write(small_tokenizer(), architecture="unheardof"))
