"""Stage 4: from the full-precision model to ternary weights, by a rule or with compensation."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bitnet.compressed_model import CompressedModel, layer_plan, matrix
from bitnet.config import Phase4Config
from bitnet.fine_tuner import computes_in_bfloat16
from bitnet.head_compensation import compensate_head
from bitnet.layer_store import LayerStore, TernaryLayer
from bitnet.phase_state import Calibration, Run
from bitnet.progress import Advance
from bitnet.reconstruction import Reconstruction
from bitnet.sensitivity import GRADIENT_SAMPLES, assign_planes, output_gradients, predicted_costs
from bitnet.ternarizer import Settings, rounding_errors, ternarize
from bitnet.verify import weights_digest


@dataclass(frozen=True)
class Compression:
    """A compressed model; `layers` holds what compensation measured, by name, None without it.

    `by_rule` is the trainable form that a rule has given, None where the packed form came first.
    """

    packed: CompressedModel
    layers: Mapping[str, TernaryLayer] | None = None
    by_rule: CompressedModel | None = None

    def trainable(self, original: PreTrainedModel) -> CompressedModel:
        """The trainable form; it is made when it is asked for, as it is as large as the model.

        Its latent weights begin as near to those of `original`, the full-precision model, as their codes allow.
        """
        return self.by_rule or self.packed.latent(original)


def compress(
    run: Run, calibration: Calibration, work: Path, progress: Advance, planes: Mapping[str, int] | None = None
) -> Compression:
    """Make every layer of the plan ternary.

    Args:
        work: where layers that compensation has finished are kept, for the same run after an interruption.
        planes: planes by layer, with compensation; layers that it does not name are kept in half precision. None takes
            `config.planes` for all.
    """
    model, config = run.loaded.model, run.config
    if calibration.compensation is None:
        trainable = CompressedModel.from_model(model, config, calibration.moments)
        return Compression(trainable.packed(), by_rule=trainable)
    names = [decision.name for decision in layer_plan(model) if decision.quantized]
    settings = Settings(
        planes=dict.fromkeys(names, config.planes) if planes is None else planes,
        group_size=config.group_size if config.granularity == "group" else None,
        activation_bits=config.activation_bits,
        scale_dtype=config.scale_dtype,
        reconstruction=_reconstruction(config, calibration),
    )
    tokens = calibration.compensation.tokens
    store = LayerStore(work / "layers", _run_key(run, tokens, settings))
    layers = ternarize(model, tokens, settings, store, lambda done, total, *_: progress(done, total))
    packed = CompressedModel.from_planes(model, config, layers)
    if config.embedding_dtype == "int6":  # 8 bits lose too little to make up for
        compensate_head(packed, model, tokens)
    return Compression(packed, layers)


def starting_planes(run: Run, calibration: Calibration) -> dict[str, int] | None:
    """Planes by layer that `starting_bits` pays for, from `planes` each, where they promise most; None without it."""
    config, model = run.config, run.loaded.model
    if config.starting_bits is None or calibration.compensation is None:
        return None
    shapes = {
        decision.name: (rows, width)
        for decision in layer_plan(model)
        if decision.quantized
        for rows, width in [matrix(model.get_submodule(decision.name)).shape]
    }
    tokens = calibration.compensation.tokens
    gradients = output_gradients(model, list(shapes), tokens[:GRADIENT_SAMPLES])
    errors = rounding_errors(model, tokens, shapes, config.activation_bits)
    group_size = config.group_size if config.granularity == "group" else None
    candidates = predicted_costs(shapes, gradients, errors, group_size, config.codec, config.scale_dtype)
    weights = sum(math.prod(shape) for shape in shapes.values())
    return assign_planes(candidates, 0.0, config.starting_bits * weights, config.planes)


def _reconstruction(config: Phase4Config, calibration: Calibration) -> Reconstruction | None:
    if calibration.reconstruction is None:
        return None
    return Reconstruction(
        samples=calibration.reconstruction,
        steps=config.reconstruction_steps,
        learning_rate=config.reconstruction_lr,
        batch_size=config.reconstruction_batch_size,
        seed=config.seed,
        narrow=computes_in_bfloat16(config),
    )


def _run_key(run: Run, tokens: torch.Tensor, settings: Settings) -> str:
    """What decides the layers, but for the planes of each."""
    parts = (
        weights_digest(run.loaded.model),
        hashlib.sha256(tokens.contiguous().numpy().tobytes()).hexdigest(),
        settings.group_size,
        settings.activation_bits,
        settings.scale_dtype,
        torch.__version__,
        torch.get_num_threads(),
        *(() if settings.reconstruction is None else settings.reconstruction.key),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()
