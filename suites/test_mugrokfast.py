"""MuGrokfast: the gain of its filter, its updates against a float64 reference, and which parameter gets which update.

Everything is seen from outside: gradients are put into parameters, and what a step takes off them is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import LlamaConfig, LlamaForCausalLM

from harness.evidence import Evidence
from harness.oracles import optimizer as oracle
from harness.subject import OptimizerRecipe, Optimizes, Subject, TrainsLinear, require

pytestmark = pytest.mark.criterion("2.mugrokfast")

SHAPES: Final = {"tall": (24, 9), "wide": (9, 24), "square": (16, 16), "row": (1, 12), "column": (12, 1)}
FILTERS: Final = [(0.98, 2.0), (0.5, 2.0), (0.9, 0.5)]
FLOAT32: Final = 1e-5
"""Relative error granted to sums and quotients of a few float32 numbers."""
LR: Final = 0.5
DECAY: Final = 0.25

each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Layer(nn.Module):
    """One hidden layer with a bias, all zero, between an embedding and a head that transformers would name so."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        out, width = shape
        self.table = nn.Embedding(3, width)
        self.hidden = nn.Linear(width, out)
        self.head = nn.Linear(out, 3, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def get_output_embeddings(self) -> nn.Module:
        """The head, by transformers' name for it."""
        return self.head


def language_model(tied: bool) -> LlamaForCausalLM:
    """A Llama of one block; with an untied head it has biases in its projections, too."""
    config = LlamaConfig(
        vocab_size=19,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=1,
        num_attention_heads=3,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        attention_bias=not tied,
        mlp_bias=not tied,
    )
    return LlamaForCausalLM(config)


def drawn(parameter: Tensor, steps: int, generator: torch.Generator) -> list[Tensor]:
    """Gaussian gradients for a parameter."""
    return [torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) for _ in range(steps)]


def take_steps(
    optimizer: Optimizer, gradients: Sequence[tuple[Tensor, Sequence[Tensor]]]
) -> list[list[Float64[Tensor, ...]]]:
    """For each parameter, what each step took off it, in units of `LR`."""
    taken: list[list[Tensor]] = [[] for _ in gradients]
    for step in range(len(gradients[0][1])):
        before = [parameter.detach().double().clone() for parameter, _ in gradients]
        for parameter, series in gradients:
            parameter.grad = series[step].clone()
        optimizer.step()
        for entry, old, (parameter, _) in zip(taken, before, gradients, strict=True):
            entry.append((old - parameter.detach().double()) / LR)
    return taken


def recipe_of(subject: Subject) -> OptimizerRecipe:
    return require(subject, Optimizes).optimizer_recipe


def optimizer_for(subject: Subject, model: nn.Module, alpha: float, lam: float) -> Optimizer:
    return require(subject, Optimizes).optimizer(model, LR, alpha, lam)


# --------------------------------------------------------------------------- the filter


@pytest.mark.parametrize(("alpha", "lam"), FILTERS)
@pytest.mark.parametrize("alternating", [False, True], ids=["constant", "alternating"])
def test_gain_of_the_filter(subject: Subject, alternating: bool, alpha: float, lam: float, evidence: Evidence) -> None:
    """1 + lambda for a gradient that stays, 1 + lambda (1 - alpha) / (1 + alpha) for one that alternates in sign.

    Far below its epsilon AdamW's update is linear in the gradient: its first moment over epsilon. What the first
    moment does to a gradient that alternates is known, so the filter's gain is what is left.
    """
    norm = nn.LayerNorm(3).double()
    recipe = recipe_of(subject)
    size = 1e-6 * recipe.eps
    optimizer = optimizer_for(subject, norm, alpha, lam)
    steps = math.ceil(math.log(1e-8) / math.log(max(alpha, recipe.betas[0])))  # until both averages have settled
    signs = [-1.0 if alternating and step % 2 else 1.0 for step in range(steps)]
    series = [torch.full((3,), size * sign, dtype=torch.float64) for sign in signs]
    last = take_steps(optimizer, [(norm.weight, series)])[0][-1] * signs[-1] * recipe.eps / size
    smoothing = (1 - recipe.betas[0]) / (1 + recipe.betas[0]) if alternating else 1.0
    gain = float(last.mean()) / smoothing
    evidence.figure("gain", gain)
    assert gain == pytest.approx(oracle.gain(alternating, alpha, lam), rel=1e-4)


# --------------------------------------------------------------------------- updates against the reference


@pytest.mark.criterion("A.as-declared")
@each_shape
@pytest.mark.parametrize("lam", [0.0, 2.0], ids=["unfiltered", "filtered"])
def test_three_steps_are_those_of_the_reference(
    subject: Subject, shape: tuple[int, int], lam: float, seed: int, evidence: Evidence
) -> None:
    """A hidden matrix gets Muon's updates and its bias AdamW's, of the filtered gradients; lambda 0 filters nothing.

    The stages behind the matrix' update are in the order that the subject declares.
    """
    layer, generator = Layer(shape).hidden, torch.Generator().manual_seed(seed)
    parameters: list[Tensor] = [layer.weight, layer.bias]
    gradients = [drawn(parameter, 3, generator) for parameter in parameters]
    optimizer = optimizer_for(subject, layer, 0.5, lam)
    matrix, bias = take_steps(optimizer, list(zip(parameters, gradients, strict=True)))
    recipe = recipe_of(subject)
    expected = oracle.muon_updates(gradients[0], recipe, 0.5, lam), oracle.adamw_updates(gradients[1], recipe, 0.5, lam)
    muon, adamw = (
        max(map(oracle.relative_distance, measured, reference))
        for measured, reference in zip((matrix, bias), expected, strict=True)
    )
    evidence.figure("muon_relative_difference", muon)
    evidence.figure("adamw_relative_difference", adamw)
    assert muon <= oracle.BFLOAT16_ROUNDING
    assert adamw <= FLOAT32


def test_weight_decay_is_decoupled(subject: Subject, seed: int) -> None:
    """It takes its share off every parameter, beside the update and not through the gradient."""
    after = []
    for decay in (0.0, DECAY):
        layer, generator = Layer((9, 24)).hidden, torch.Generator().manual_seed(seed)
        parameters: list[Tensor] = [layer.weight, layer.bias]
        before = [drawn(parameter, 1, generator)[0] for parameter in parameters]
        gradients = [(parameter, drawn(parameter, 2, generator)) for parameter in parameters]
        with torch.no_grad():
            for parameter, start in zip(parameters, before, strict=True):
                parameter.copy_(start)
        optimizer = require(subject, Optimizes).optimizer(layer, LR, 0.5, 2.0, decay)
        after.append([updates[0] for updates in take_steps(optimizer, gradients)])
    for plain, decayed, start in zip(*after, before, strict=True):
        assert oracle.relative_distance(decayed - plain, DECAY * start.double()) <= FLOAT32


@each_shape
def test_updates_of_hidden_matrices_are_nearly_orthogonal(
    subject: Subject, shape: tuple[int, int], seed: int, evidence: Evidence
) -> None:
    """Every singular value of the update lies where five Newton-Schulz steps take it, whatever the gradient's are."""
    smallest = 0.02
    update = first_update(subject, gradient_of_spectrum(shape, smallest, seed))
    values = torch.linalg.svdvals(update) / oracle.update_scale(shape, recipe_of(subject))
    low, high = oracle.singular_value_band(smallest / min(shape) ** 0.5)
    rounding = oracle.BFLOAT16_ROUNDING * low
    evidence.figure("smallest_singular_value", values.min())
    evidence.figure("largest_singular_value", values.max())
    assert low - rounding <= values.min()
    assert values.max() <= high + rounding


@each_shape
def test_size_of_the_gradient_does_not_matter_to_a_hidden_matrix(
    subject: Subject, shape: tuple[int, int], seed: int
) -> None:
    gradient = gradient_of_spectrum(shape, 0.1, seed)
    expected = oracle.muon_updates([gradient], recipe_of(subject), 0.98, 2.0)[0]
    for factor in (1e-3, 1e3):
        update = first_update(subject, factor * gradient)
        assert oracle.relative_distance(update, expected) <= oracle.BFLOAT16_ROUNDING, f"gradient times {factor}"


def gradient_of_spectrum(shape: tuple[int, int], smallest: float, seed: int) -> Float32[Tensor, "out in"]:
    """A gradient with singular values from 1 down to `smallest`, evenly spread in their logarithms."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(side, min(shape), generator=generator))[0] for side in shape)
    spectrum = torch.logspace(0, math.log10(smallest), min(shape))
    gradient: Float32[Tensor, "out in"] = left @ torch.diag(spectrum) @ right.T
    return gradient


def first_update(subject: Subject, gradient: Float32[Tensor, "out in"]) -> Float64[Tensor, "out in"]:
    """What the first step takes off a hidden matrix with that gradient."""
    layer = Layer((gradient.shape[0], gradient.shape[1])).hidden
    return take_steps(optimizer_for(subject, layer, 0.98, 2.0), [(layer.weight, [gradient])])[0][0]


# --------------------------------------------------------------------------- which parameter gets which update


def is_table_or_vector(name: str, parameter: Tensor) -> bool:
    """Embeddings, head, norms and biases; `parameter` tells vectors, the name tables."""
    return parameter.ndim < 2 or name in {"model.embed_tokens.weight", "lm_head.weight", "table.weight", "head.weight"}


def is_hidden(name: str, parameter: Tensor) -> bool:
    return not is_table_or_vector(name, parameter)


ROUTES: Final[dict[str, tuple[Callable[[str, Tensor], bool], float]]] = {
    "adamw": (is_table_or_vector, FLOAT32),
    "muon": (is_hidden, oracle.BFLOAT16_ROUNDING),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("model", ["tied", "untied-with-biases", "plain"])
def test_each_parameter_gets_the_update_of_its_kind(subject: Subject, model: str, route: str, seed: int) -> None:
    """AdamW for embeddings, head, norms and biases, Muon for every other matrix; all of them in one model."""
    audited = Layer((9, 24)) if model == "plain" else language_model(tied=model == "tied")
    distances = first_update_distances(subject, audited, route, seed)
    assert distances
    assert {name: distance for name, distance in distances.items() if not distance <= ROUTES[route][1]} == {}


def test_tied_parameters_are_updated_once(subject: Subject, seed: int) -> None:
    """The embedding that is also the head takes one AdamW step a step, and stays tied."""
    model = language_model(tied=True)
    table = model.get_input_embeddings().weight
    gradients = drawn(table, 3, torch.Generator().manual_seed(seed))
    updates = take_steps(optimizer_for(subject, model, 0.5, 2.0), [(table, gradients)])[0]
    expected = oracle.adamw_updates(gradients, recipe_of(subject), 0.5, 2.0)
    assert max(map(oracle.relative_distance, updates, expected)) <= FLOAT32
    assert model.get_output_embeddings().weight is table


def test_updates_of_queries_and_keys_are_clipped_per_head(subject: Subject, seed: int) -> None:
    """The reading of this row names a clip; a subject that has none declares so, and does not meet it."""
    limit = recipe_of(subject).qk_clip
    assert limit is not None, "this optimizer declares that it does not clip the updates of query and key projections"
    model = language_model(tied=True)
    attention = model.model.layers[0].self_attn
    generator = torch.Generator().manual_seed(seed)
    gradients = [(layer.weight, drawn(layer.weight, 2, generator)) for layer in (attention.q_proj, attention.k_proj)]
    for updates in take_steps(optimizer_for(subject, model, 0.98, 2.0), gradients):
        for update in updates:
            sizes = update.reshape(-1, attention.head_dim * update.shape[1]).square().mean(dim=1).sqrt()
            assert float(sizes.max()) <= limit * (1 + FLOAT32)


def first_update_distances(subject: Subject, model: Any, route: str, seed: int) -> dict[str, float]:
    """For each parameter that the route claims, how far its first update is from that route's reference."""
    generator, recipe = torch.Generator().manual_seed(seed), recipe_of(subject)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    named = [(name, parameter, drawn(parameter, 1, generator)) for name, parameter in model.named_parameters()]
    taken = take_steps(optimizer_for(subject, model, 0.5, 2.0), [(parameter, series) for _, parameter, series in named])
    distances = {}
    for (name, parameter, series), updates in zip(named, taken, strict=True):
        if ROUTES[route][0](name, parameter):
            reference = oracle.adamw_updates if route == "adamw" else oracle.muon_updates
            expected = reference(series, recipe, 0.5, 2.0)[0]
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                expected = oracle.clipped_per_head(expected, model.config.head_dim, recipe.qk_clip)
            distances[name] = oracle.relative_distance(updates[0], expected)
    return distances


# --------------------------------------------------------------------------- in training


def test_updates_go_to_the_latent_weights(subject: Subject, seed: int) -> None:
    """Behind a straight-through layer it is the floating-point weight that moves, by the update of its own gradient."""
    trains = require(subject, TrainsLinear)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(24, 9, generator=generator)
    model = trains.training_linear(weight, None, subject.declaration.variants[0])
    latent: Any = model.weight
    model(torch.randn(40, 9, generator=generator)).square().sum().backward()
    gradient = latent.grad.clone()
    update = take_steps(optimizer_for(subject, model, 0.98, 2.0), [(latent, [gradient])])[0][0]
    expected = oracle.muon_updates([gradient], recipe_of(subject), 0.98, 2.0)[0]
    assert oracle.relative_distance(update, expected) <= oracle.BFLOAT16_ROUNDING
    assert len(latent.detach().unique()) > 3, "the latent weights have become codes"


def test_a_learning_rate_schedule_reaches_every_parameter(subject: Subject, seed: int) -> None:
    """A rate of 0 in every group of the optimizer, as a scheduler would set it, moves nothing."""
    model, generator = language_model(tied=False), torch.Generator().manual_seed(seed)
    optimizer = optimizer_for(subject, model, 0.98, 2.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    gradients = [(parameter, drawn(parameter, 1, generator)) for parameter in model.parameters()]
    taken = take_steps(optimizer, gradients)
    assert all(float(update.abs().max()) == 0.0 for (update,) in taken)
    for group in optimizer.param_groups:
        group["lr"] = LR
    taken = take_steps(optimizer, gradients)
    assert all(float(update.abs().max()) > 0.0 for (update,) in taken)
