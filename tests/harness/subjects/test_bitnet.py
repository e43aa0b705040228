"""The adapter gives what `bitnet` gives: each operation is compared with what it is said to stand for."""

import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet.cli import app
from bitnet.config import Phase4Config
from harness import subject as protocol
from harness.opponents.weights import RandomWeights
from harness.subject import GateMeasurements, QuantizedWeight, load_subject
from harness.subjects.bitnet import BitnetSubject, reference_model
from harness.subjects.bitnet_models import _report
from harness.texts import PROSE, held_out_excerpt
from suites.small_models import save_random_llama

CAPABILITIES = [
    protocol.QuantizesWeights,
    protocol.QuantizesActivations,
    protocol.Packs,
    protocol.TrainsLinear,
    protocol.InfersLinear,
    protocol.Configures,
    protocol.ReadsConfiguration,
    protocol.MeasuresPerplexity,
    protocol.Calibrates,
    protocol.CompressesModels,
    protocol.ChecksGradientFlow,
    protocol.DecidesGates,
    protocol.Optimizes,
    protocol.FineTunes,
    protocol.ResumesFineTuning,
    protocol.HandsOver,
    protocol.TracksRuns,
    protocol.RegistersModels,
    protocol.RunsCommand,
    protocol.SparesBits,
    protocol.EnduresFaults,
    protocol.MultipliesTernary,
    protocol.JoinsProducts,
    protocol.DecodesPacked,
    protocol.WritesPacked,
    protocol.ShowsDashboard,
]
SUBJECT = BitnetSubject()
WEIGHT = torch.randn(6, 300, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: capability.__name__)
def test_it_offers_every_capability(capability):
    assert isinstance(load_subject("bitnet"), capability)


def test_settings_for_faults_are_settings_that_there_are():
    chosen = [f"{name}={value}" for name, value in SUBJECT.enduring_settings.items()]
    callings = SUBJECT.callings("http://127.0.0.1:9")
    for calling in callings.values():
        Phase4Config().with_overrides(chosen + [f"{name}={value}" for name, value in calling.settings.items()])
        assert "http://127.0.0.1:9" in calling.environment.values()
    assert len(callings) == 2


@pytest.mark.parametrize("recovered", [False, True])
@pytest.mark.parametrize("one_plane", [False, True])
def test_words_for_few_bits_are_words_of_the_command(one_plane, recovered):
    words = ["model", "--out", "out", *SUBJECT.sparing_words(one_plane, recovered)]
    compress = typer.main.get_command(app).commands["compress"]
    given = compress.make_context("compress", words).params
    Phase4Config().with_overrides(given["settings"])
    assert (given["planes"] == 1) is one_plane
    assert ("fine_tune_steps=0" in given["settings"]) is not recovered


@pytest.mark.parametrize("variant", SUBJECT.declaration.variants, ids=lambda variant: variant.id)
def test_weights_come_back_from_codes_and_scales(variant):
    quantized = SUBJECT.quantize_weight(WEIGHT, variant)
    restored = SUBJECT.dequantize(quantized, variant)
    assert restored.shape == WEIGHT.shape
    assert torch.equal(restored.sign(), quantized.codes.float())
    x = torch.randn(3, 300, generator=torch.Generator().manual_seed(1))
    codes, scale = SUBJECT.quantize_activation(x)
    for layer in (SUBJECT.training_linear(WEIGHT, None, variant), SUBJECT.inference_linear(WEIGHT, None, variant)):
        torch.testing.assert_close(layer(x), (codes * scale) @ restored.T)
    torch.testing.assert_close(SUBJECT.training_linear(WEIGHT, None, variant, quantize=False)(x), x @ WEIGHT.T)


@pytest.mark.parametrize("codec", SUBJECT.declaration.codecs)
def test_codes_come_back_from_bytes(codec):
    codes = WEIGHT.sign().to(torch.int8)
    assert torch.equal(SUBJECT.unpack(SUBJECT.pack(codes, codec), codec, 300), codes)


def test_configuration_is_resolved_for_the_size(tmp_path):
    assert SUBJECT.configure(10**6)["quality"] == "conservative"
    file = tmp_path / "config.yaml"
    file.write_text(SUBJECT.write_configuration(codec="base3"), encoding="utf-8")
    settings = SUBJECT.read_configuration(10**9, file, ["calibration_samples=7"])
    assert (settings["codec"], settings["calibration_samples"], settings["size_class"]) == ("base3", 7, "medium")
    with pytest.raises(ValueError, match="codec"):
        SUBJECT.reject(codec="base4")


def test_gates_decide_and_success_needs_a_fresh_process():
    good = GateMeasurements(10.0, 10.5, 0.5, 0.49, 9.0, 1.0, 1.0, 1.0, 0, reproduced=True)
    assert SUBJECT.decide_gates(good, 0.1, 8.0).success
    assert not SUBJECT.decide_gates(good, 0.1, 9.5).success
    assert SUBJECT.recovery_triggered(10.0, 10.6, 0.05)
    assert not SUBJECT.recovery_triggered(10.0, 10.5, 0.05)


def test_the_command_answers():
    done = subprocess.run([*SUBJECT.command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "compress" in done.stdout


def test_a_folder_is_its_own_reference_model(tmp_path):
    assert reference_model(str(tmp_path)) == tmp_path


# --------------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def outcome(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("compressed")
    text = root / "text.txt"
    text.write_text(held_out_excerpt(600), encoding="utf-8")
    overrides = {"calibration_samples": "4", "fine_tune_steps": "2", "seed": "1", "evaluation_text": str(text)}
    return SUBJECT.compress(folder, root / "out", overrides)


def test_perplexity_has_the_counts_that_it_divides_by(model, tokenizer):
    figures = SUBJECT.perplexity(model, tokenizer, [PROSE, "One more."], 64, 2)
    assert figures.tokens == figures.bytes == len((PROSE + "One more.").encode())  # a token for each byte
    assert figures.token_perplexity == pytest.approx(math.exp(-math.fsum(figures.loglikelihoods) / figures.tokens))


def test_second_moments_are_those_of_the_planned_layers(model, tokenizer):
    moments = SUBJECT.second_moments(model, tokenizer, PROSE, samples=2, tokens=32, seed=0)
    planned = [name for name, quantized, _ in SUBJECT.layer_plan(model) if quantized]
    assert list(moments) == planned
    assert moments["model.layers.0.mlp.down_proj"].shape == (64,)


def test_the_report_is_the_result(outcome):
    report, result = outcome.report, json.loads((outcome.packed.parent / "result.json").read_text(encoding="utf-8"))
    assert outcome.result == result
    assert report.parameters == result["parameters"]
    assert report.packed_bytes == result["sizes"]["packed_bytes"]
    assert report.compression_ratio == result["sizes"]["compression_ratio"]
    assert report.perplexity_before == result["before"]["token_perplexity"]
    assert report.perplexity_after == result["final"]["token_perplexity"]
    assert report.gradient_failures == ()


def test_what_json_cannot_hold_is_reported_as_infinite_and_a_failed_layer_by_name(outcome):
    from bitnet.result import Phase4Result

    result = Phase4Result.model_validate(outcome.result)
    layers = (result.layers[0].model_copy(update={"gradient_problem": "gradient is zero"}), *result.layers[1:])
    endless = result.before.model_copy(update={"token_perplexity": None})
    report = _report(result.model_copy(update={"layers": layers, "before": endless, "final": endless}))
    assert report.gradient_failures == (result.layers[0].name,)
    assert report.perplexity_before == report.perplexity_after == math.inf


def test_the_artefact_is_the_same_model_in_every_form(outcome):
    packed, tokenizer = SUBJECT.load_packed(outcome.packed)
    trainable = SUBJECT.load_trainable(outcome.packed)
    weights = SUBJECT.quantized_weights(outcome.packed)
    assert tuple(weights) == outcome.report.quantized_layers
    assert all(isinstance(weight, QuantizedWeight) and weight.group_size is None for weight in weights.values())
    tokens = torch.tensor([tokenizer.encode(PROSE)[:32]])
    with torch.no_grad():
        assert torch.equal(packed(input_ids=tokens).logits, trainable(input_ids=tokens).logits)
    for name, weight in weights.items():
        assert torch.equal(trainable.get_submodule(name).weight, weight.codes * weight.scale)


def test_its_own_gradient_test_names_a_detached_layer(outcome):
    trainable = SUBJECT.load_trainable(outcome.packed)
    tokens = torch.arange(32).reshape(1, 32)
    assert SUBJECT.gradient_failures(trainable, tokens) == []
    name = "model.layers.1.mlp.up_proj"
    trainable.get_submodule(name).register_forward_hook(lambda module, arguments, output: output.detach())
    assert SUBJECT.gradient_failures(trainable, tokens) == [name]


def test_manifests_are_checked_on_both_sides(folder, outcome):
    assert SUBJECT.check_phase3(folder)["vocabulary_size"] == 257
    incoming, outgoing = SUBJECT.manifest_files
    manifest = json.loads((outcome.packed.parent / outgoing).read_text(encoding="utf-8"))
    assert SUBJECT.check_phase5(outcome.packed.parent)["run_id"] == manifest["run_id"]
    assert not (folder / incoming).exists()


def test_the_optimizer_takes_the_constants_that_the_recipe_declares(model):
    optimizer = SUBJECT.optimizer(model, lr=0.01, alpha=0.9, lam=0.5)
    assert optimizer.param_groups
    assert SUBJECT.optimizer_recipe.qk_clip == optimizer.qk_clip


def test_fine_tuning_gives_the_weights_of_the_last_step(outcome):
    samples = torch.arange(48).reshape(3, 16)
    before = dict(SUBJECT.load_trainable(outcome.packed).named_parameters())
    once = SUBJECT.fine_tune(outcome.packed, samples, steps=1, warmup_steps=1, lr=1e-3)
    twice = SUBJECT.fine_tune(outcome.packed, samples, steps=2, warmup_steps=1, lr=1e-3)
    name = "model.layers.0.mlp.up_proj.weight"
    weights = [before[name], dict(once.named_parameters())[name], dict(twice.named_parameters())[name]]
    assert all(not torch.equal(first, second) for first, second in itertools.combinations(weights, 2))


def test_products_run_on_the_backend_that_is_asked_for():
    codes = torch.randint(-1, 2, (5, 64), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    plane = QuantizedWeight(codes, torch.ones(1, 1))
    x = torch.full((1, 64), 127.0)
    for backend in SUBJECT.product_backends:
        made = SUBJECT.prepare_product([plane, plane], torch.ones(5), backend)
        assert isinstance(made, protocol.PreparedProduct)
        assert made.backend == backend
        assert torch.equal(made(x), 2 * x @ codes.T.float() + 1)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_of_given_weights_is_packed_and_decoded(tmp_path, tied):
    weights = RandomWeights()
    config = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}
    SUBJECT.write_packed(config | {"tie_word_embeddings": tied}, weights, tmp_path / "packed")
    stored = SUBJECT.quantized_weights(tmp_path / "packed")
    name = "model.layers.0.mlp.down_proj"
    given = weights.ternary(name, (32, 48))
    assert torch.equal(stored[name].codes, given.codes)
    assert torch.equal(stored[name].scale, given.scale)
    model, _ = SUBJECT.load_packed(tmp_path / "packed")
    embedding = weights.table("model.embed_tokens", (40, 32))
    torch.testing.assert_close(model.model.embed_tokens.weight, embedding, atol=0.02, rtol=0)
    if not tied:
        torch.testing.assert_close(model.lm_head.weight, weights.table("lm_head", (40, 32)), atol=0.02, rtol=0)
    if SUBJECT.product_backends[0] == "torch":
        pytest.skip("the decoder needs the compiled kernels")
    decoder = SUBJECT.open_decoder(tmp_path / "packed")
    assert isinstance(decoder, protocol.PackedDecoder)
    with torch.no_grad():
        theirs = model(torch.tensor([[3, 5, 7]])).logits[0]
    torch.testing.assert_close(decoder.logits([3, 5, 7]), theirs, atol=1e-3, rtol=1e-3)


def test_the_dashboard_is_the_command_and_its_pages(tmp_path):
    pytest.importorskip("streamlit", reason="the extra [dashboard] is not installed")
    subject = BitnetSubject()
    words = subject.dashboard_command(tmp_path / "reports", tmp_path / "runs", 8600)
    options = ["--reports", str(tmp_path / "reports"), "--run", str(tmp_path / "runs"), "--port", "8600"]
    assert words == [*subject.command, "dashboard", *options]
    assert "There is no scorecard" in subject.dashboard_texts(tmp_path, tmp_path)["Scorecard"]


def test_a_dashboard_without_streamlit_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "streamlit", None)
    with pytest.raises(ModuleNotFoundError, match="streamlit"):
        BitnetSubject().dashboard_command(tmp_path, tmp_path, 8600)


def test_products_are_joined_into_one_call():
    quantized = [SUBJECT.quantize_weight(WEIGHT * sign, SUBJECT.declaration.variants[0]) for sign in (1, -1)]
    made = [SUBJECT.prepare_product([each]) for each in quantized]
    x, outs = torch.randn(2, 300), [torch.empty(2, 6), torch.empty(2, 6)]
    SUBJECT.join_products(made).into(x, outs)
    assert torch.equal(outs[0], made[0](x))
    assert torch.equal(outs[1], -outs[0])
