import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitnet.artifacts import load_packed, load_tokenizer, load_trainable, save_packed
from bitnet.checkpoint import digest_file
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.packed_manifest import MANIFEST, TENSORS
from bitnet.packing import unpack_planes
from tests.bitnet.small_models import ARCHITECTURES, CONFIGS, model_from, packed_model, small_tokenizer

TOKENS = torch.arange(2, 34).reshape(2, 16)


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.fixture
def stored(tmp_path):
    save_packed(packed_model(), small_tokenizer(), tmp_path)
    return tmp_path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "settings",
    [
        {"codec": "2bit", "embedding_dtype": "float16"},
        {"codec": "base3", "embedding_dtype": "int8", "granularity": "group", "group_size": 12, "rule": "absmean"},
        {"embedding_dtype": "int6"},
        {
            "codec": "int8",
            "embedding_dtype": "float32",
            "granularity": "tensor",
            "rule": "threshold",
            "activation_bits": None,
        },
    ],
)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(architecture, settings, tmp_path):
    compressed = packed_model(architecture, **settings)
    save_packed(compressed, small_tokenizer(), tmp_path)
    loaded, tokenizer = load_packed(tmp_path)
    assert torch.equal(logits(loaded.model), logits(compressed.model))
    assert loaded.plan == compressed.plan
    assert {name: getattr(loaded.config, name) for name in settings} == settings
    text = "the cat sat on the löwe 42 times"
    assert tokenizer(text)["input_ids"] == small_tokenizer()(text)["input_ids"]
    state, before = loaded.model.state_dict(), compressed.model.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_loading_leaves_the_random_state_alone(stored):
    torch.manual_seed(5)
    load_packed(stored)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_packed(packed_model(), small_tokenizer(), tmp_path / name)
    digests = [{p.name: digest_file(p) for p in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert digests[0] == digests[1]


def test_the_file_holds_codes_scales_and_the_tied_table_once(stored):
    tensors = load_file(stored / TENSORS)
    name = "model.layers.0.mlp.down_proj"
    assert tensors[f"{name}.packed"].dtype == torch.uint8
    assert tensors[f"{name}.packed"].shape == (1, 32, 11)
    assert tensors[f"{name}.scale"].shape == (1, 32, 1)
    assert tensors[f"{name}.scale"].dtype == torch.float16
    assert set(unpack_planes(tensors[f"{name}.packed"], "2bit", 44).unique().tolist()) == {-1, 0, 1}
    assert tensors["model.embed_tokens.weight"].dtype == torch.float16
    assert tensors["model.norm.weight"].dtype == torch.float32
    assert not any(key.startswith("lm_head") or key.endswith("proj.weight") for key in tensors)


@pytest.mark.parametrize(("dtype", "stored", "width"), [("int8", torch.int8, 32), ("int6", torch.uint8, 24)])
def test_tables_in_codes_have_a_scale_per_row(tmp_path, dtype, stored, width):
    save_packed(packed_model("qwen2", embedding_dtype=dtype), small_tokenizer(), tmp_path)
    tensors = load_file(tmp_path / TENSORS)
    for name in ("model.embed_tokens", "lm_head"):
        assert tensors[f"{name}.codes"].dtype == stored
        assert tensors[f"{name}.codes"].shape == (288, width)
        assert tensors[f"{name}.scale"].shape == (288, 1)


def test_the_trainable_form_of_the_folder_gives_its_logits(stored):
    loaded, _ = load_packed(stored)
    trainable = load_trainable(stored)
    assert torch.equal(logits(trainable.model), logits(loaded.model))
    assert all(layer.weight.requires_grad for layer in trainable.layers.values())


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_one_flipped_bit_in_any_file_is_found_and_named(stored, name):
    content = bytearray((stored / name).read_bytes())
    content[len(content) // 2] ^= 4
    (stored / name).write_bytes(bytes(content))
    with pytest.raises(BitnetError, match=rf"{name} is damaged \(its SHA-256"):
        load_packed(stored)


def test_a_truncated_file_is_named(stored):
    content = (stored / TENSORS).read_bytes()
    (stored / TENSORS).write_bytes(content[:-7])
    with pytest.raises(BitnetError, match=rf"model.safetensors has {len(content) - 7} bytes instead of {len(content)}"):
        load_packed(stored)


def test_a_missing_file_is_named(stored):
    (stored / "tokenizer.json").unlink()
    with pytest.raises(BitnetError, match=r"tokenizer\.json is missing"):
        load_packed(stored)


def rewrite_manifest(folder, change):
    record = json.loads((folder / MANIFEST).read_text())
    change(record)
    (folder / MANIFEST).write_text(json.dumps(record))


def rewrite_tensors(folder, change):
    """Alter the tensors and record the new digest, so that only the check of the tensors themselves can object."""
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)
    file = folder / TENSORS
    record = {"sha256": digest_file(file), "bytes": file.stat().st_size}
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({TENSORS: record}))


NAME = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(f"{NAME}.scale"), rf"lacks the tensor '{NAME}\.scale'"),
        (lambda t: t.pop("model.norm.weight"), r"lacks the tensor 'model\.norm\.weight'"),
        (lambda t: t.pop("model.embed_tokens.weight"), r"lacks the tensor 'model\.embed_tokens\.weight'"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds the unexpected tensor 'extra'"),
        (lambda t: t.update({f"{NAME}.bias": torch.zeros(32)}), rf"unexpected tensor '{NAME}\.bias'"),
        (
            lambda t: t.update({f"{NAME}.scale": torch.ones(1, 31, 1)}),
            r"is float32\[1, 31, 1\] instead of float16\[1, 32, 1\]",
        ),
        (lambda t: t.update({f"{NAME}.scale": torch.ones(1, 32, 1)}), r"is float32\[1, 32, 1\] instead of float16"),
        (lambda t: t[f"{NAME}.packed"].fill_(255), rf"Layer '{NAME}' in .*model\.safetensors"),
    ],
)
def test_tensors_that_do_not_fit_are_named(stored, change, sentence):
    rewrite_tensors(stored, change)
    with pytest.raises(BitnetError, match=sentence):
        load_packed(stored)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.update(version=1), "has format version 1, but this program reads version 2"),
        (lambda m: m.pop("version"), "has format version None"),
        (lambda m: m["quantization"].update(rule="magic"), r"damaged at 'quantization\.rule'"),
        (lambda m: m.pop("layers"), "damaged at 'layers'"),
        (lambda m: m["layers"].pop(), r"not those of its config\.json"),
        (lambda m: m["layers"][0].update(shape=[1, 2]), r"not those of its config\.json"),
        (lambda m: m["files"].pop(TENSORS), r"no digest of model\.safetensors"),
        (lambda m: m["files"].update({"../x": m["files"][TENSORS]}), r"damaged at 'files"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told_where(stored, change, sentence):
    rewrite_manifest(stored, change)
    with pytest.raises(BitnetError, match=sentence):
        load_packed(stored)


def test_a_manifest_that_is_no_object_is_refused(stored):
    (stored / MANIFEST).write_text("[]")
    with pytest.raises(BitnetError, match="format version None"):
        load_packed(stored)


def rewrite_file(folder, name, content):
    (folder / name).write_bytes(content)
    record = {"sha256": digest_file(folder / name), "bytes": len(content)}
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({name: record}))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (TENSORS, r"model\.safetensors is not a readable safetensors file"),
        ("config.json", r"config\.json' describes no model|config\.json describes no model"),
        ("tokenizer.json", r"The tokenizer in .* cannot be read"),
    ],
)
def test_garbage_with_a_right_digest_is_named(stored, name, sentence):
    rewrite_file(stored, name, b"garbage")
    with pytest.raises(BitnetError, match=sentence):
        load_packed(stored)


def test_a_folder_without_manifest_is_no_packed_model(tmp_path):
    with pytest.raises(BitnetError, match=r"is not a packed model: it has no bitnet\.json"):
        load_packed(tmp_path)
    with pytest.raises(BitnetError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_a_head_that_is_tied_by_hand_alone_is_not_lost_silently(tmp_path):
    config = CONFIGS["qwen2"]()
    model = model_from(config)
    model.lm_head.weight = model.model.embed_tokens.weight
    compressed = CompressedModel.from_model(model, Phase4Config().resolved(1000)).packed()
    save_packed(compressed, small_tokenizer(), tmp_path)
    with pytest.raises(BitnetError, match=r"lacks the tensor 'lm_head\.weight'"):
        load_packed(tmp_path)
