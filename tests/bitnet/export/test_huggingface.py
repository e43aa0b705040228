import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet.artifacts import load_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.export import export
from bitnet.export.huggingface import narrowest, pack_rows
from tests.bitnet.export.conftest import ONE_SCALE
from tests.bitnet.small_models import packed_model, small_model, ternary_layers

TOKENS = torch.randint(2, 288, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def uncompiled():
    """transformers compiles parts of its layers, which takes half a minute and changes nothing."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "opt"])
def test_transformers_runs_the_export_as_we_run_the_packed_model(pack, tmp_path, uncompiled, architecture):
    packed = pack(architecture, **ONE_SCALE)
    written = export(packed, tmp_path / "out", "huggingface")
    ours = load_packed(packed)[0]
    model, report = AutoModelForCausalLM.from_pretrained(written.path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    with torch.no_grad():
        theirs, own = model(TOKENS).logits, ours.model(TOKENS).logits
        with ours.activations(None):
            noise = (ours.model(TOKENS).logits - own).std()
    assert (theirs - own).std() <= 2**0.5 * noise
    assert (theirs.argmax(-1) == own.argmax(-1)).float().mean() > 0.9
    assert AutoTokenizer.from_pretrained(written.path).encode("the cat") == load_packed(packed)[1].encode("the cat")
    assert written.bytes == sum(path.stat().st_size for path in written.path.iterdir())


def test_codes_scales_and_everything_else_are_the_stored_ones(pack, tmp_path):
    packed = pack("qwen2", **ONE_SCALE, embedding_dtype="int8")
    tensors = load_file(export(packed, tmp_path / "out", "huggingface").path / "model.safetensors")
    ours = load_packed(packed)[0]
    for name, layer in ours.layers.items():
        rows = torch.cat([(tensors[f"{name}.weight"] >> 2 * place) & 3 for place in range(4)]).to(torch.int8) - 1
        scale = tensors[f"{name}.weight_scale"].double().reciprocal().half().float()
        assert torch.equal(rows * scale, layer.weight)
        if layer.bias is not None:
            assert torch.equal(tensors[f"{name}.bias"], layer.bias)
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
        assert torch.equal(tensors[name].float(), ours.model.get_parameter(name))


def test_layers_that_were_kept_stay_plain(pack, tmp_path, uncompiled):
    model, kept = small_model("llama"), "model.layers.0.mlp.up_proj"
    whole = packed_model("llama", **ONE_SCALE)
    planes = {name: layer.ternary() for name, layer in whole.layers.items() if name != kept}
    config = Phase4Config(**ONE_SCALE).resolved(1000)
    packed = pack(model=CompressedModel.from_planes(model, config, ternary_layers(planes)))
    out = export(packed, tmp_path / "out", "huggingface").path
    described = json.loads((out / "config.json").read_text())["quantization_config"]
    assert set(described["modules_to_not_convert"]) == {"lm_head", kept}
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert torch.equal(loaded.get_submodule(kept).weight, model.get_submodule(kept).weight.half().float())


def test_a_layer_of_zeros_stays_one(pack, tmp_path, uncompiled):
    model = small_model("llama")
    model.model.layers[0].mlp.up_proj.weight.data.zero_()
    compressed = CompressedModel.from_model(model, Phase4Config(**ONE_SCALE).resolved(1000)).packed()
    out = export(pack(model=compressed), tmp_path / "out", "huggingface").path
    with torch.no_grad():
        assert torch.isfinite(AutoModelForCausalLM.from_pretrained(out)(TOKENS).logits).all()


@pytest.mark.parametrize(
    ("architecture", "settings", "words"),
    [
        ("llama", {}, "'model.layers.0.self_attn.q_proj' has 32 scales"),
        ("llama", {"granularity": "group", "group_size": 16}, "has 64 scales"),
        ("llama", {**ONE_SCALE, "planes": 2}, "is the sum of 2 ternary planes"),
        ("llama", {**ONE_SCALE, "activation_bits": None}, "activation_bits=8"),
        ("gpt2", ONE_SCALE, "is a Conv1D"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(pack, tmp_path, architecture, settings, words):
    packed = pack(architecture, **settings)
    with pytest.raises(BitnetError, match=re.escape(words)) as refused:
        export(packed, tmp_path / "out", "huggingface")
    assert not (tmp_path / "out").exists()
    assert str(refused.value).count(". ") == 0


def test_rows_that_four_does_not_divide_are_refused(pack, tmp_path):
    model = small_model("llama")
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj"):
            weight = getattr(layer.mlp, name).weight
            weight.data = weight.data[:42].clone()
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, :42].clone()
    model.config.intermediate_size = 42
    compressed = CompressedModel.from_model(model, Phase4Config(**ONE_SCALE).resolved(1000)).packed()
    with pytest.raises(BitnetError, match="has 42 outputs"):
        export(pack(model=compressed), tmp_path / "out", "huggingface")


def test_rows_are_packed_by_quarters_with_the_low_bits_first():
    codes = torch.tensor([[-1], [0], [1], [1], [0], [-1], [1], [0]], dtype=torch.int8)
    first = sum((int(codes[row]) + 1) << 2 * place for place, row in enumerate((0, 2, 4, 6)))
    second = sum((int(codes[row]) + 1) << 2 * place for place, row in enumerate((1, 3, 5, 7)))
    assert pack_rows(codes).tolist() == [[first], [second]]


def test_narrowest_is_exact():
    assert narrowest(torch.tensor([0.5])).dtype == torch.float16
    assert narrowest(torch.tensor([0.1])).dtype == torch.float32
    assert narrowest(torch.tensor([1e6])).dtype == torch.float32
