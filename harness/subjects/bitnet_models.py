"""What the subject `bitnet` does with whole models: pipeline, artefacts, recovery, evaluation, handoffs.

Every operation imports its rooms when it is called: transformers takes seconds to load, and the checks of weights,
packing and layers, for which `harness.subjects.bitnet` has the operations, do not need it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.config import Phase4Config
from harness.subject import CompressionOutcome, CompressionReport, PerplexityFigures, QuantizedWeight
from harness.subjects.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor, nn

    from bitnet.result import Phase4Result


ONE_PLANE = {"compensation_source": "text", "compensation_samples": "48", "group_size": "128"}
"""One plane is fitted to text of the kind that it is for: what the model writes itself leaves too much open."""
RECOVERS_ONE_PLANE = {
    "fine_tune_lr": "3e-4",
    "fine_tune_batch_size": "2",
    "fine_tune_steps": "350",
    "fine_tune_budget": "null",
}
"""Some 35 minutes of one core."""


class BitnetModels:
    """The capabilities of `BitnetSubject` that take or give a model."""

    def perplexity(
        self, model: Any, tokenizer: Any, documents: Sequence[str], context_length: int, batch_size: int
    ) -> PerplexityFigures:
        """`bitnet.perplexity.perplexity`."""
        from bitnet.perplexity import perplexity

        result = perplexity(model, tokenizer, documents, context_length, batch_size)
        return PerplexityFigures(
            tokens=result.tokens,
            words=result.words,
            bytes=result.bytes,
            loglikelihoods=tuple(document.loglikelihood for document in result.documents),
            token_perplexity=result.token_perplexity,
            word_perplexity=result.word_perplexity,
            byte_perplexity=result.byte_perplexity,
            bits_per_byte=result.bits_per_byte,
            next_token_accuracy=result.next_token_accuracy,
        )

    def second_moments(
        self, model: Any, tokenizer: Any, text: str, samples: int, tokens: int, seed: int
    ) -> Mapping[str, Float[Tensor, " in"]]:
        """`bitnet.calibration` over the layers that the plan quantizes."""
        from bitnet.architectures import layer_plan
        from bitnet.calibration import calibration_samples, second_moments

        drawn = calibration_samples(tokenizer, text, samples, tokens, seed)
        layers = [decision.name for decision in layer_plan(model) if decision.quantized]
        return second_moments(model, layers, drawn, batch_size=4)

    def layer_plan(self, model: Any) -> Sequence[tuple[str, bool, str]]:
        """`bitnet.architectures.layer_plan`."""
        from bitnet.architectures import layer_plan

        return [(decision.name, decision.quantized, decision.reason) for decision in layer_plan(model)]

    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        """`bitnet.phase_controller.run_phase4` with overrides as the command line takes them."""
        from bitnet.phase_controller import run_phase4

        config = Phase4Config().with_overrides([f"{key}={value}" for key, value in overrides.items()])
        result = run_phase4(str(model_folder), out, config, progress=False)
        return CompressionOutcome(out / "packed", out / "fp16", result.model_dump(mode="json"), _report(result))

    def sparing_words(self, one_plane: bool, recovered: bool) -> Sequence[str]:
        """The defaults above 50 million parameters, and what the README says of one plane."""
        if not one_plane:
            return ("--max-minutes", "60") if recovered else ("--set", "fine_tune_steps=0")
        settings = ONE_PLANE | (RECOVERS_ONE_PLANE if recovered else {"fine_tune_steps": "0"})
        return ("--planes", "1", *itertools.chain(*(("--set", f"{name}={value}") for name, value in settings.items())))

    def load_packed(self, path: Path) -> tuple[Any, Any]:
        """`bitnet.artifacts.load_packed`: the model that runs on packed codes, and its tokenizer."""
        from bitnet.artifacts import load_packed

        compressed, tokenizer = load_packed(path)
        return compressed.model, tokenizer

    def load_trainable(self, path: Path) -> nn.Module:
        """`bitnet.artifacts.load_trainable`: the artefact on latent weights, behind straight-through estimators."""
        from bitnet.artifacts import load_trainable

        model: nn.Module = load_trainable(path).model
        return model

    def quantized_weights(self, path: Path) -> Mapping[str, QuantizedWeight]:
        """Codes and scales of every ternary layer of a packed artefact."""
        from bitnet.artifacts import load_packed

        layers = load_packed(path)[0].layers
        return {name: _quantized(layer) for name, layer in layers.items() if isinstance(layer, TernaryLinear)}

    def gradient_failures(self, model: nn.Module, tokens: Int64[Tensor, "batch length"]) -> Sequence[str]:
        """`bitnet.gradient_flow`, as stage 7 runs it on the artefact."""
        from bitnet.gradient_flow import gradient_flow

        layers = {name: module.weight for name, module in model.named_modules() if isinstance(module, BitLinear)}
        return [layer.name for layer in gradient_flow(cast(Any, model), layers, tokens).failures]

    # ----------------------------------------------------------------- recovery, handoffs

    def fine_tune(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, warmup_steps: int, lr: float
    ) -> nn.Module:
        """`bitnet.fine_tuner.recover`, told that each step is better than the one before: it keeps the last."""
        from bitnet.artifacts import load_trainable
        from bitnet.fine_tuner import recover

        config = Phase4Config(fine_tune_steps=steps, warmup_steps=warmup_steps, fine_tune_lr=lr, fine_tune_budget=None)
        compressed, falling = load_trainable(packed), itertools.count(0, -1)
        recover(compressed, samples, config, lambda: float(next(falling)))
        model: nn.Module = compressed.model
        return model

    def fine_tune_resumably(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, folder: Path, stop_after: int | None
    ) -> nn.Module | None:
        """`bitnet.fine_tuner.recover` with `Checkpoints`; it keeps the last step's weights."""
        from bitnet.artifacts import load_trainable
        from bitnet.fine_tuner import recover
        from bitnet.recovery_checkpoint import Checkpoints

        config = Phase4Config(
            fine_tune_steps=steps, fine_tune_lr=1e-3, fine_tune_decay=0.5, fine_tune_dropout=True, fine_tune_budget=None
        )
        compressed, stop = load_trainable(packed), Interruption(stop_after)
        with contextlib.suppress(Interrupted):
            recover(compressed, samples, config, stop.loss, stop.progress, None, Checkpoints(folder, "audit", 3))
            model: nn.Module = compressed.model
            return model
        return None


def _report(result: Phase4Result) -> CompressionReport:
    """What `result.json` says; a perplexity that JSON cannot hold is infinite."""
    before, after = result.before.token_perplexity, result.final.token_perplexity
    return CompressionReport(
        parameters=result.parameters,
        packed_bytes=result.sizes.packed_bytes,
        compression_ratio=result.sizes.compression_ratio,
        zero_fraction=result.zero_fraction,
        quantized_layers=tuple(layer.name for layer in result.layers),
        context_length=result.config["context_length"],
        perplexity_before=math.inf if before is None else before,
        perplexity_after=math.inf if after is None else after,
        gradient_failures=tuple(layer.name for layer in result.layers if layer.gradient_problem is not None),
    )


def _quantized(layer: TernaryLinear) -> QuantizedWeight:
    """The protocol's record of a stored weight, scales in the type that they are stored in."""
    parts = zip(layer.ternary().codes, layer.scale, strict=True)
    first, *others = (QuantizedWeight(codes, scale, layer.group_size) for codes, scale in parts)
    return replace(first, further=tuple(others))
