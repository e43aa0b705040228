import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING

import bitnet
from bitnet.artifacts import load_packed, save_packed
from bitnet.bitlinear import TernaryLinear
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.packed_settings import METHOD
from tests.bitnet.small_models import packed_model, small_model, small_tokenizer, ternary_layers

TOKENS = torch.randint(2, 288, (2, 24), generator=torch.Generator().manual_seed(0))
KEPT = "model.layers.1.mlp.down_proj"


def save(folder, compressed):
    folder.mkdir()
    save_packed(compressed, small_tokenizer(), folder)
    return folder


def mixed_model():
    """A layer in half precision, one of two planes, and the others of one."""
    one, two = packed_model("llama"), packed_model("llama", planes=2)
    planes = {name: layer.ternary() for name, layer in one.layers.items() if name != KEPT}
    planes["model.layers.0.self_attn.o_proj"] = two.layers["model.layers.0.self_attn.o_proj"].ternary()
    return CompressedModel.from_planes(small_model("llama"), Phase4Config().resolved(1000), ternary_layers(planes))


MODELS = {
    "llama": lambda: packed_model("llama"),
    "int8 tables and groups": lambda: packed_model(
        "qwen2", planes=2, granularity="group", group_size=16, embedding_dtype="int8", codec="base3"
    ),
    "conv1d": lambda: packed_model("gpt2", codec="int8", embedding_dtype="int8"),
    "int6 tables": lambda: packed_model("opt", embedding_dtype="int6"),
    "float32": lambda: packed_model(
        "opt", granularity="tensor", rule="absmean", scale_dtype="float32", activation_bits=None
    ),
    "scales in bytes": lambda: packed_model(
        "llama", planes=3, granularity="group", group_size=16, scale_dtype="uint8", embedding_dtype="int8"
    ),
    "mixed": mixed_model,
}


@pytest.mark.parametrize("name", MODELS)
def test_from_pretrained_gives_the_logits_of_our_own_loader(tmp_path, name):
    folder = save(tmp_path / "packed", MODELS[name]())
    ours = load_packed(folder)[0].model
    theirs, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.equal(theirs(TOKENS).logits, ours(TOKENS).logits)
    counted = [sum(isinstance(module, TernaryLinear) for module in model.modules()) for model in (theirs, ours)]
    assert counted[0] == counted[1] > 0
    assert not any(parameter.requires_grad for parameter in theirs.parameters())


def test_weights_are_float32_whatever_is_asked_for(tmp_path):
    folder = save(tmp_path / "packed", packed_model("llama"))
    asked = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert asked.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(asked(TOKENS).logits, load_packed(folder)[0].model(TOKENS).logits)


def test_the_plain_model_of_a_packed_folder_names_no_quantizer(tmp_path):
    folder = save(tmp_path / "packed", packed_model("llama"))
    load_packed(folder)[0].dequantized().save_pretrained(tmp_path / "fp16")
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == METHOD
    assert "quantization_config" not in json.loads((tmp_path / "fp16" / "config.json").read_text())


def test_other_numbers_of_planes_are_named(tmp_path):
    described = json.loads((save(tmp_path / "packed", mixed_model()) / "config.json").read_text())
    settings = described["quantization_config"]
    assert (settings["planes"], settings["kept"]) == (1, [KEPT])
    assert settings["other_planes"] == {"model.layers.0.self_attn.o_proj": 2}


def test_a_damaged_folder_is_an_error_that_names_the_file(tmp_path):
    folder = save(tmp_path / "packed", packed_model("llama"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BitnetError, match=r"model\.safetensors is damaged"):
        AutoModelForCausalLM.from_pretrained(folder)
    (folder / "bitnet.json").unlink()  # as in a cache of files from a hub
    AutoModelForCausalLM.from_pretrained(folder)


def test_a_loaded_model_is_not_saved_in_another_form(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(save(tmp_path / "packed", packed_model("llama")))
    assert not model.hf_quantizer.is_trainable
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path / "out")


def test_the_name_is_registered_once():
    known = AUTO_QUANTIZER_MAPPING[METHOD], AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD]
    bitnet.announce()
    assert (AUTO_QUANTIZER_MAPPING[METHOD], AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD]) == known


def in_a_fresh_process(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_is_light_and_registers_later():
    program = (
        "import sys, bitnet; print('torch' in sys.modules, 'lm_eval' in sys.modules, len(sys.meta_path))\n"
        "bitnet.announce(); print(len(sys.meta_path))\n"
        "import transformers.quantizers.auto as auto\n"
        "print('bitnet-packed' in auto.AUTO_QUANTIZER_MAPPING, 'bitnet.artifacts' in sys.modules)\n"
    )
    torch_loaded, lm_eval_loaded, finders, again, registered, ours_loaded = in_a_fresh_process(program)
    assert (torch_loaded, lm_eval_loaded) == ("False", "False")
    assert finders == again
    assert (registered, ours_loaded) == ("True", "False")
