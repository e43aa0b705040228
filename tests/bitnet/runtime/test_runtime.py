import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, Qwen2Config

from bitnet.artifacts import load_packed, save_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.kernels import backend, backends
from bitnet.kernels.backends import TORCH
from bitnet.runtime import Runtime
from tests.bitnet.small_models import LLAMA_LIKE, VOCABULARY, model_from, small_tokenizer

pytestmark = pytest.mark.skipif(backend() == TORCH, reason="the runtime needs the native kernels, which were not built")

TOKENS = torch.randint(2, VOCABULARY, (100,), generator=torch.Generator().manual_seed(1)).tolist()
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": (LlamaConfig(**LLAMA_LIKE, tie_word_embeddings=True), {}),
    "llama, int8 tables and tensor scales": (
        LlamaConfig(**LLAMA_LIKE, tie_word_embeddings=True),
        {"embedding_dtype": "int8", "granularity": "tensor", "codec": "base3"},
    ),
    "llama3 positions, groups, biases": (
        LlamaConfig(
            **LLAMA_LIKE,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={**LLAMA3, "original_max_position_embeddings": 32},
        ),
        {"granularity": "group", "group_size": 16, "embedding_dtype": "float32", "scale_dtype": "float32"},
    ),
    "linear positions, wide heads": (
        LlamaConfig(
            **LLAMA_LIKE, head_dim=82, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
        ),
        {"codec": "int8"},
    ),
    "yarn positions": (
        LlamaConfig(
            **LLAMA_LIKE,
            rope_parameters={
                **{"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}
            },
        ),
        {"embedding_dtype": "float32"},
    ),
    "three planes of groups": (
        LlamaConfig(**LLAMA_LIKE, tie_word_embeddings=True),
        {"planes": 3, "granularity": "group", "group_size": 16, "codec": "base3", "scale_dtype": "uint8"},
    ),
    "qwen2": (Qwen2Config(**LLAMA_LIKE, tie_word_embeddings=False), {"embedding_dtype": "int8"}),
    "qwen2, int6 tables": (Qwen2Config(**LLAMA_LIKE, tie_word_embeddings=False), {"embedding_dtype": "int6"}),
}


def save(config, settings, folder):
    return save_model(model_from(config), settings, folder)


def save_model(model, settings, folder):
    settings = {"embedding_dtype": "float16", "sparsity_threshold": 0.05, **settings}
    compressed = CompressedModel.from_model(model, Phase4Config(**settings)).packed()
    save_packed(compressed, small_tokenizer(), folder)
    return compressed.model


@pytest.fixture(scope="module", params=MODELS, ids=lambda name: name.replace(" ", "-"))
def pair(request, tmp_path_factory):
    """A packed folder and the same model in transformers."""
    folder = tmp_path_factory.mktemp("packed")
    return folder, save(*MODELS[request.param], folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed")
    save(*MODELS["llama"], path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    """A folder that a test may damage; opened without comparing digests."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def perplexity(logits):
    return float(torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(TOKENS[1:])).exp())


@pytest.mark.parametrize("backend", backends()[:-1])
def test_logits_agree_with_transformers(pair, backend):
    folder, model = pair
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0]
    found = Runtime.open(folder, backend=backend).logits(TOKENS)
    # Float rounding may move an activation to the next int8 code, a step of 1/127 of the token's largest.
    assert float((found - expected).norm() / expected.norm()) < 1 / 127
    assert perplexity(found) == pytest.approx(perplexity(expected), rel=1e-3)


def test_a_prompt_run_whole_in_parts_or_token_by_token_gives_the_same_bits(pair):
    runtime = Runtime.open(pair[0])
    whole = runtime.logits(TOKENS)
    runtime.reset()
    parts = torch.cat([runtime.logits(TOKENS[:37]), runtime.logits(TOKENS[37:])])
    runtime.reset()
    single = torch.stack([runtime.forward([token]) for token in TOKENS])
    runtime.reset()
    assert torch.equal(parts, whole)
    assert torch.equal(single, whole)
    assert torch.equal(runtime.forward(TOKENS), whole[-1])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("width", [32, 72, 132, 576])
@pytest.mark.parametrize("tables", ["int6", "int8", "float16", "float32"])
def test_the_head_is_as_exact_as_float32(tables, width, tied, tmp_path):
    """Layers that add nothing leave norm and head, which float64 tells apart from the last bits."""
    shape = {**LLAMA_LIKE, "vocab_size": 291, "hidden_size": width, "num_hidden_layers": 1, "head_dim": 8}
    model = model_from(LlamaConfig(**shape, tie_word_embeddings=tied))
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
    model = save_model(model, {"embedding_dtype": tables}, tmp_path)
    x = model.model.embed_tokens(torch.tensor(TOKENS)).double()
    normed = x / (x.square().mean(dim=1, keepdim=True) + model.config.rms_norm_eps).sqrt() * model.model.norm.weight
    head = model.get_output_embeddings().weight.double()
    bound = 4 * 2.0**-24 * (normed.abs() @ head.abs().T) + 2.0**-22 * normed.abs().amax(1, True) * head.abs().sum(1)
    runtime = Runtime.open(tmp_path)
    found = runtime.logits(TOKENS).double()
    assert bool(((found - normed @ head.T).abs() <= bound).all())
    runtime.reset()
    assert runtime.next(TOKENS) == int(found[-1].argmax())


def test_threads_change_nothing(folder):
    assert torch.equal(Runtime.open(folder, threads=3).logits(TOKENS), Runtime.open(folder).logits(TOKENS))


def test_greedy_tokens_are_the_most_likely_ones(folder):
    runtime = Runtime.open(folder)
    chosen = list(runtime.tokens(TOKENS[:9], 20))
    assert len(chosen) == 20
    runtime.reset()
    assert runtime.logits(TOKENS[:9] + chosen[:-1])[8:].argmax(dim=1).tolist() == chosen


def test_greedy_text_is_that_of_transformers(folder):
    model, tokenizer = load_packed(folder)
    tokens = tokenizer("the cat", return_tensors="pt")
    output = model.model.generate(**tokens, max_new_tokens=20, do_sample=False)[0, tokens["input_ids"].shape[1] :]
    assert "".join(Runtime.open(folder).generate("the cat", 20)) == tokenizer.decode(output, skip_special_tokens=True)


def test_a_seed_gives_the_same_text_again(folder):
    runtime = Runtime.open(folder)
    texts = [list(runtime.tokens(TOKENS[:5], 12, temperature=1.5, seed=seed)) for seed in (3, 4, 3)]
    assert texts[0] == texts[2] != texts[1]


def test_generation_ends_at_the_end_token_and_at_the_context(folder, copy):
    assert len(list(Runtime.open(folder, context=12).tokens(TOKENS[:5], 100))) == 7
    first = next(Runtime.open(folder).tokens(TOKENS[:5], 1))
    edit(copy / "config.json", eos_token_id=[1, first])
    assert len(list(Runtime.open(copy, verify=False).tokens(TOKENS[:5], 9))) == 9  # the generation settings come first
    edit(copy / "generation_config.json", eos_token_id=first)
    assert list(Runtime.open(copy, verify=False).tokens(TOKENS[:5], 9)) == []
    edit(copy / "generation_config.json", eos_token_id=None)
    assert list(Runtime.open(copy, verify=False).tokens(TOKENS[:5], 9)) == []


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "0 tokens"), ([-1], "numbered"), ([VOCABULARY], "numbered"), ([2] * 129, "128 positions")],
)
def test_tokens_outside_the_model_are_refused(folder, tokens, message):
    runtime = Runtime.open(folder)
    for run in (runtime.forward, runtime.logits, runtime.next):
        with pytest.raises(BitnetError, match=message):
            run(tokens)
    assert runtime.position == 0


def test_impossible_requests_are_refused(folder):
    runtime = Runtime.open(folder)
    with pytest.raises(BitnetError, match="temperature"):
        runtime.generate("a", temperature=-1.0)
    with pytest.raises(BitnetError, match="The prompt is empty"):
        runtime.generate("")
    with pytest.raises(BitnetError, match="context of 129"):
        Runtime.open(folder, context=129)
    with pytest.raises(BitnetError, match="at least one thread"):
        Runtime.open(folder, threads=0)
    with pytest.raises(BitnetError, match="native kernels"):
        Runtime.open(folder, backend="torch")
    with pytest.raises(BitnetError, match="not available here"):
        Runtime.open(folder, backend="abacus")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"sliding_window": 16}, "sliding windows"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_type"),
        ({"num_key_value_heads": 3}, "must divide"),
        ({"head_dim": 7}, "must be even"),
        ({"head_dim": 16}, "instead of"),
        ({"num_hidden_layers": 3}, "model.layers.2"),
        ({"vocab_size": 289}, "embed_tokens"),
        ({"intermediate_size": 48}, "instead of"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(copy, changes, message):
    edit(copy / "config.json", **changes)
    with pytest.raises(BitnetError, match=message):
        Runtime.open(copy, verify=False)


def test_settings_that_the_kernels_do_not_have_are_refused(tmp_path):
    save(MODELS["llama"][0], {"activation_bits": None}, tmp_path)
    with pytest.raises(BitnetError, match="float activations"):
        Runtime.open(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 100, 5000, -1])
def test_a_truncated_file_is_refused(copy, length):
    tensors = copy / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:length])
    with pytest.raises(BitnetError, match=r"model\.safetensors"):
        Runtime.open(copy)
    with pytest.raises(BitnetError, match="not a readable safetensors file"):
        Runtime.open(copy, verify=False)


def test_a_byte_that_stands_for_no_codes_is_refused(copy):
    tensors = copy / "model.safetensors"
    header = int.from_bytes(tensors.read_bytes()[:8], "little") + 8
    data = bytearray(tensors.read_bytes())
    entries = json.loads(data[8:header])
    start = entries["model.layers.1.mlp.up_proj.packed"]["data_offsets"][0]
    data[header + start] = 0xFF
    tensors.write_bytes(data)
    with pytest.raises(BitnetError, match=r"layers\.1\.mlp\.up_proj.*never writes"):
        Runtime.open(copy, verify=False)


def replace(folder, **tensors):
    """Other content for tensors of a packed file."""
    stored = load_file(folder / "model.safetensors")
    stored.update({name: tensor(stored[name]) for name, tensor in tensors.items()})
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.norm.weight", float("nan")),
        ("model.layers.1.post_attention_layernorm.weight", float("inf")),
        ("model.layers.0.mlp.up_proj.scale", float("nan")),
    ],
)
def test_weights_that_are_no_numbers_are_refused(copy, name, value):
    replace(copy, **{name: lambda tensor: tensor.index_fill(0, torch.tensor([0]), value)})
    with pytest.raises(BitnetError, match=rf"{name}.*NaN or infinite"):
        Runtime.open(copy, verify=False)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_generation_with_an_error(copy, temperature):
    """A norm's weight that overflows: nothing to be seen when the file is read."""
    replace(copy, **{"model.norm.weight": lambda tensor: torch.full_like(tensor, 3e38)})
    runtime = Runtime.open(copy, verify=False)
    with pytest.raises(BitnetError, match="logits that are no numbers"):
        list(runtime.tokens(TOKENS[:5], 3, temperature))


@pytest.mark.parametrize("place", range(8, 20000, 1999))
def test_a_flipped_bit_is_refused_or_leaves_a_model_that_runs(copy, place):
    tensors = copy / "model.safetensors"
    data = bytearray(tensors.read_bytes())
    data[place] ^= 0x40
    tensors.write_bytes(data)
    with pytest.raises(BitnetError, match=r"model\.safetensors is damaged"):
        Runtime.open(copy)
    try:
        runtime = Runtime.open(copy, verify=False)
    except BitnetError:
        return
    assert runtime.forward(TOKENS).shape == (VOCABULARY,)


def test_a_long_prompt_is_read_in_parts(folder, monkeypatch):
    whole = list(Runtime.open(folder).tokens(TOKENS[:50], 6))
    monkeypatch.setattr("bitnet.runtime.runtime._PART", 7)
    assert list(Runtime.open(folder).tokens(TOKENS[:50], 6)) == whole


def test_a_damaged_tokenizer_is_refused(copy):
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(BitnetError, match="tokenizer"):
        Runtime.open(copy, verify=False).generate("a")


def test_the_parts_of_the_decoder_make_up_the_whole(pair):
    runtime = Runtime.open(pair[0])
    expected = runtime.logits(TOKENS)
    hidden = runtime.embed(TOKENS)
    for index in range(runtime.layers):
        hidden = runtime.layer(index, hidden)
    assert torch.equal(runtime.head(hidden), expected)
    assert runtime.position == 0


def test_a_long_text_goes_through_a_layer_in_pieces_that_do_not_show(tmp_path):
    save(LlamaConfig(**{**LLAMA_LIKE, "max_position_embeddings": 256}, tie_word_embeddings=True), {}, tmp_path)
    runtime = Runtime.open(tmp_path)
    hidden = runtime.embed(TOKENS + TOKENS[:90])
    whole = runtime.layer(0, hidden)
    assert torch.equal(runtime.layer(0, hidden[:100]), whole[:100])


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (lambda runtime, width: runtime.embed([]), "cannot be run"),
        (lambda runtime, width: runtime.embed([-1]), "cannot be run"),
        (lambda runtime, width: runtime.layer(0, torch.zeros(3, width + 1)), "do not fit the model"),
        (lambda runtime, width: runtime.layer(0, torch.zeros(width)), "do not fit the model"),
        (lambda runtime, width: runtime.layer(0, torch.zeros(0, width)), "do not fit the model"),
        (lambda runtime, width: runtime.layer(0, torch.zeros(3, width).double()), "do not fit the model"),
        (lambda runtime, width: runtime.layer(runtime.layers, torch.zeros(3, width)), "the model has layers 0 to"),
        (lambda runtime, width: runtime.layer(-1, torch.zeros(3, width)), "the model has layers 0 to"),
        (lambda runtime, width: runtime.layer(0, torch.zeros(5000, width)), "context of"),
        (lambda runtime, width: runtime.head(torch.zeros(3, 1)), "do not fit the model"),
    ],
)
def test_what_a_part_cannot_take_is_refused(folder, part, complaint):
    runtime = Runtime.open(folder)
    with pytest.raises(BitnetError, match=complaint):
        part(runtime, runtime.description.hidden_size)
