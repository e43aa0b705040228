import copy
import math
import re

import pytest
import torch
from torch.nn.functional import log_softmax

from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.distillation import divergence
from bitnet.errors import BitnetError
from bitnet.fine_tuner import computes_in_bfloat16, mean_loss, operations_per_step, planned_steps, rate_factor, recover
from bitnet.mugrokfast import split_parameters
from tests.bitnet.phase4 import trained_model
from tests.bitnet.small_models import ARCHITECTURES, small_model

#: Twenty samples of a language that is easily learned: every token follows its predecessor by three.
SAMPLES = (torch.arange(20).unsqueeze(1) + 3 * torch.arange(16)) % 60 + 2
TRAINING, SELECTION = SAMPLES[:18], SAMPLES[18:]


def trainable(architecture="llama", **settings):
    defaults = {"fine_tune_steps": 8, "fine_tune_lr": 1e-2, "warmup_steps": 2, "recovery_recipe": "audit"}
    config = Phase4Config(**{**defaults, **settings})
    compressed = CompressedModel.from_model(small_model(architecture), config.resolved(1000))
    return compressed, compressed.config


def train(compressed, config, progress=None, **others):
    def loss():
        return mean_loss(compressed.packed().model, SELECTION, 4)

    return recover(compressed, TRAINING, config, loss, progress, **others)


def state(compressed):
    return copy.deepcopy(compressed.model.state_dict())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recovery_learns_and_reports_what_it_did(architecture):
    compressed, config = trainable(architecture)
    codes = {name: layer.ternary().codes.clone() for name, layer in compressed.layers.items()}
    before = state(compressed)
    report = train(compressed, config)
    assert (report.planned_steps, report.steps, report.stopped) == (8, 8, None)
    assert report.epochs == 30 / 18  # the last batch of an epoch of 18 samples has two
    assert report.seconds > 0
    assert [point.step for point in report.selection] == [0, 2, 4, 6, 8]
    assert [point.step for point in report.training] == [1, 2, 4, 6, 8]
    losses = {point.step: point.loss for point in report.selection}
    assert report.best_step == min(losses, key=lambda step: losses[step])
    assert losses[report.best_step] < losses[0]
    assert mean_loss(compressed.packed().model, SELECTION, 4) == losses[report.best_step]
    now = {name: layer.ternary().codes for name, layer in compressed.layers.items()}
    flipped = sum(int((codes[name] != now[name]).sum()) for name in codes) / sum(c.numel() for c in codes.values())
    assert report.codes_flipped == flipped > 0
    changed = [name for name, value in compressed.model.state_dict().items() if not torch.equal(value, before[name])]
    assert any("norm" in name or "ln_" in name for name in changed)
    assert all(f"{name}.weight" in changed for name in compressed.layers)


def test_the_rate_warms_up_and_then_stays():
    compressed, config = trainable(fine_tune_steps=8, warmup_steps=4, fine_tune_lr=1e-3)
    rates = {point.step: point.learning_rate for point in train(compressed, config).training}
    assert rates == {1: 2.5e-4, 2: 5e-4, 4: 1e-3, 6: 1e-3, 8: 1e-3}
    without = trainable(fine_tune_steps=1, warmup_steps=0, fine_tune_lr=1e-3)
    assert [point.learning_rate for point in train(*without).training] == [1e-3]


def test_warm_up_reaches_both_optimizers():
    """A first step at a 2^-40th of the rate moves neither the matrices nor the norms by more than that."""
    compressed, config = trainable(fine_tune_steps=1, warmup_steps=2**40, fine_tune_lr=1.0)
    before = state(compressed)
    train(compressed, config)
    after = compressed.model.state_dict()
    assert max(float((after[name] - before[name]).abs().max()) for name in before) < 1e-9


def test_a_seed_decides_everything_and_the_callers_dice_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    runs = []
    for seed in (0, 0, 1):
        compressed, config = trainable("gpt2", seed=seed)
        runs.append((train(compressed, config), state(compressed)))
    assert torch.equal(torch.rand(2), expected)
    (first, weights), (again, same_weights), (other, other_weights) = runs
    assert same(weights, same_weights)
    assert (first.training, first.selection) == (again.training, again.selection)
    assert not same(weights, other_weights)
    assert first.training != other.training


def test_every_sample_is_used_once_an_epoch():
    compressed, config = trainable(fine_tune_steps=10, fine_tune_lr=1e-6, fine_tune_batch_size=4, batch_size=2)
    seen = []
    compressed.model.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(keywords["input_ids"]), with_kwargs=True
    )
    report = recover(compressed, SAMPLES[:18], config, lambda: 1.0)
    first, second = torch.cat(seen[:9]), torch.cat(seen[9:18])
    assert report.epochs == 2.0
    for epoch in (first, second):
        assert torch.equal(torch.unique(epoch, dim=0), torch.unique(SAMPLES[:18], dim=0))
    assert not torch.equal(first, second)


def test_a_model_that_cannot_improve_is_left_as_it_was():
    compressed, config = trainable(fine_tune_lr=1e-3)
    before = state(compressed)
    values = iter([1.0, 1.0, 2.0, math.nan, math.inf])
    report = recover(compressed, SAMPLES, config, lambda: next(values))
    assert same(state(compressed), before)
    assert (report.best_step, report.steps, report.codes_flipped) == (0, 8, 0.0)
    assert [point.loss for point in report.selection] == [1.0, 1.0, 2.0, None, None]
    assert all(parameter.grad is None for parameter in compressed.model.parameters())


def test_the_best_weights_come_back_even_if_later_ones_are_worse():
    compressed, config = trainable()
    states = []
    values = iter([4.0, 3.0, 1.0, 2.0, 3.0])

    def loss():
        states.append(state(compressed))
        return next(values)

    report = recover(compressed, SAMPLES, config, loss)
    assert report.best_step == 4
    assert same(state(compressed), states[2])


def test_weights_that_cannot_be_stored_are_no_candidate():
    compressed, config = trainable(fine_tune_steps=4)
    before = state(compressed)
    values = iter([1.0])

    def loss():
        for value in values:
            return value
        raise BitnetError("too large to be stored.")

    report = recover(compressed, SAMPLES, config, loss)
    assert [point.loss for point in report.selection] == [1.0, None, None, None, None]
    assert same(state(compressed), before)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("model.embed_tokens.weight", math.inf, "the loss of step 3 is not finite"),
        ("model.layers.1.mlp.up_proj.weight", math.nan, r"the weight of shape \(44x32\) holds NaN"),
    ],
)
def test_training_that_goes_wrong_is_stopped_and_undone(name, value, reason):
    compressed, config = trainable()
    before = state(compressed)

    def sabotage(done, _):
        if done == 2:
            compressed.model.get_parameter(name).data[5, 5] = value

    report = train(compressed, config, sabotage)
    assert re.match(reason, report.stopped)
    assert (report.planned_steps, report.steps, report.best_step) == (8, 2, 0)
    assert [point.loss is None for point in report.selection] == [False, True]
    assert [point.step for point in report.training] == [1, 2]
    assert same(state(compressed), before)


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    compressed, config = trainable()
    before = state(compressed)
    weight = next(iter(compressed.layers.values())).weight
    weight.register_hook(lambda gradient: gradient * math.inf)
    report = train(compressed, config)
    assert report.stopped == "the gradient of step 1 is not finite"
    assert (report.steps, report.training) == (0, ())
    assert same(state(compressed), before)


def test_the_documented_rate_hardly_flips_a_code_and_that_is_reported():
    compressed, config = trainable(fine_tune_lr=1e-5)
    assert 0 <= train(compressed, config).codes_flipped < 0.002


def test_the_loss_is_the_cross_entropy_of_all_tokens_but_the_first():
    model = trained_model("llama")
    batch = SAMPLES[:5]
    with torch.no_grad():
        logprobs = log_softmax(model(input_ids=batch).logits.double(), dim=-1)
    expected = -sum(float(logprobs[row, i, batch[row, i + 1]]) for row in range(5) for i in range(15)) / 75
    assert mean_loss(model, batch, 2) == pytest.approx(expected, rel=1e-6)


def test_operations_are_counted_from_shapes():
    model = torch.nn.Sequential(torch.nn.Linear(20, 10, bias=False), torch.nn.LayerNorm(10))
    hidden = split_parameters(model).hidden
    expected = 6 * 7 * 220 + 5 * (4 * 10 * 10 * 20 + 2 * 1000)
    assert operations_per_step(model, hidden, tokens=7) == expected
    assert operations_per_step(model, hidden, tokens=7, taught=True) == expected + 2 * 7 * 220


@pytest.mark.parametrize(("budget", "steps"), [(None, 100), (1e6, 100), (999.0, 9), (1000.0, 10), (99.0, 0)])
def test_a_budget_cuts_the_steps(budget, steps):
    assert planned_steps(Phase4Config(fine_tune_steps=100, fine_tune_budget=budget), operations=100.0) == steps


def test_the_default_budget_shortens_recovery_for_large_models_only():
    def planned(width, layers, vocabulary):
        """Of the audit's settings, which have no teacher."""
        shapes = [(width, width)] * 4 + [(3 * width, width)] * 3
        operations = 6 * 512 * (vocabulary * width + layers * sum(a * b for a, b in shapes))
        operations += layers * sum(5 * (4 * min(s) ** 2 * max(s) + 2 * min(s) ** 3) for s in shapes)
        return planned_steps(Phase4Config(), operations)

    assert planned(128, 4, 2048) == 100
    assert 5 <= planned(576, 30, 49152) < 30


def test_a_budget_that_pays_for_no_step_changes_nothing():
    compressed, config = trainable(fine_tune_budget=1.0)
    before = state(compressed)
    report = train(compressed, config)
    assert (report.planned_steps, report.steps, report.best_step, report.epochs) == (0, 0, 0, 0.0)
    assert [point.step for point in report.selection] == [0]
    assert same(state(compressed), before)


def test_progress_counts_the_steps():
    compressed, config = trainable(fine_tune_steps=3)
    seen = []
    train(compressed, config, lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_rate_falls_at_the_end():
    factors = [rate_factor(done, 10, 2, 0.5) for done in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    compressed, config = trainable(fine_tune_steps=4, warmup_steps=0, fine_tune_decay=1.0, fine_tune_lr=1e-3)
    assert [point.learning_rate for point in train(compressed, config).training] == [1e-3, 7.5e-4, 5e-4, 2.5e-4]


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Up to the rounding of sums, which Muon's orthogonalization does not enlarge beyond bfloat16's."""
    weights = []
    for batch_size in (8, 3):
        compressed, config = trainable(fine_tune_steps=1, fine_tune_batch_size=8, batch_size=batch_size)
        train(compressed, config)
        weights.append(compressed.model.model.norm.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{"distillation": 1.0}, {"distillation": 0.0, "hidden_distillation": 1.0}])
def test_distillation_brings_the_model_closer_to_its_teacher(settings):
    teacher = trained_model("llama")
    taught = copy.deepcopy(teacher.state_dict())
    config = Phase4Config(recovery_recipe="audit", fine_tune_steps=12, fine_tune_lr=3e-3, **settings).resolved(1000)
    compressed = CompressedModel.from_model(teacher, config)

    def distance():
        with torch.no_grad():
            ours, theirs = (m(input_ids=SELECTION).logits for m in (compressed.packed().model, teacher))
        return float(divergence(ours, theirs))

    before = distance()
    recover(compressed, TRAINING, config, distance, teacher=teacher)
    assert distance() < 0.8 * before
    assert same(teacher.state_dict(), taught)


def test_distillation_without_a_teacher_is_refused():
    with pytest.raises(BitnetError, match="needs the full-precision model"):
        train(*trainable(distillation=0.5))


def test_scales_alone_may_be_trained():
    compressed, config = trainable(fine_tune_mode="scales", fine_tune_lr=3e-3)
    before = {name: layer.ternary() for name, layer in compressed.layers.items()}
    others = {name: value for name, value in state(compressed).items() if not name.endswith((".weight", ".scale"))}
    norm = compressed.model.model.norm.weight.clone()
    report = train(compressed, config)
    assert report.best_step > 0
    assert report.codes_flipped < 0.001
    for name, layer in compressed.layers.items():
        assert not torch.equal(layer.ternary().scale, before[name].scale)
    assert torch.equal(compressed.model.model.norm.weight, norm)
    assert all(torch.equal(compressed.model.state_dict()[name], value) for name, value in others.items())
    assert all(parameter.requires_grad for parameter in compressed.model.parameters())


def test_the_last_mile_leaves_the_latent_weights_alone():
    compressed, config = trainable(fine_tune_mode="last_mile", fine_tune_lr=3e-3)
    norm = compressed.model.model.norm.weight.clone()
    quantized = {name: layer.ternary().dequantize() for name, layer in compressed.layers.items()}
    train(compressed, config)
    assert not torch.equal(compressed.model.model.norm.weight, norm)
    assert all(torch.equal(layer.weight, quantized[name]) for name, layer in compressed.layers.items())


def test_weights_may_be_quantized_step_by_step():
    compressed, config = trainable(fine_tune_steps=4, gradual_quantization=0.75)
    layer, shares = next(iter(compressed.layers.values())), []
    layer.register_forward_pre_hook(lambda module, _: shares.append(module.quantized_share))
    train(compressed, config)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert all(layer.quantized_share == 1.0 for layer in compressed.layers.values())


def test_training_may_run_in_bfloat16_on_weights_that_stay_float32():
    wide, narrow = trainable(fine_tune_steps=2), trainable(fine_tune_steps=2, fine_tune_dtype="bfloat16")
    losses = [train(*each).training[0].loss for each in (wide, narrow)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in narrow[0].model.parameters())


@pytest.mark.parametrize(
    ("dtype", "features", "narrow"),
    [
        ("float32", {"avx512_bf16": True}, False),
        ("bfloat16", {}, True),
        ("auto", {}, False),
        ("auto", {"avx512_bf16": False, "amx_bf16": True}, True),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_has_it(monkeypatch, dtype, features, narrow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert computes_in_bfloat16(Phase4Config(fine_tune_dtype=dtype)) is narrow


def test_patience_ends_a_training_that_brings_nothing():
    compressed, config = trainable(fine_tune_patience=2)
    values = iter([1.0, 0.5, 0.6, 0.7])
    report = recover(compressed, SAMPLES, config, lambda: next(values))
    assert (report.steps, report.best_step, report.stopped) == (6, 2, "no improvement in 2 evaluations")


def test_adamw_may_update_the_matrices():
    with_muon, with_adamw = trainable(fine_tune_steps=2), trainable(fine_tune_steps=2, fine_tune_optimizer="adamw")
    reports = [train(*each) for each in (with_muon, with_adamw)]
    assert reports[0].operations_per_step > reports[1].operations_per_step
    assert not same(state(with_muon[0]), state(with_adamw[0]))
