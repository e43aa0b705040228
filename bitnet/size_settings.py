"""What Phase 4 takes by the size of the model where the user leaves it open."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from bitnet.errors import BitnetError

SizeClass = Literal["tiny", "small", "medium", "large"]


class SizeSettings(NamedTuple):
    """What the size-adaptive table gives one size class."""

    sparsity_threshold: float
    """tau, in units of mean|W|."""
    compression_target: float
    """FP32 bytes over packed bytes of the whole model."""
    quality: str


SIZE_TABLE: Mapping[SizeClass, SizeSettings] = MappingProxyType(
    {
        "tiny": SizeSettings(0.05, 6.0, "conservative"),
        "small": SizeSettings(0.10, 8.0, "standard"),
        "medium": SizeSettings(0.15, 10.0, "aggressive"),
        "large": SizeSettings(0.20, 12.0, "maximum"),
    }
)


#: Settings of recovery by size class, as the ablation supports them; see the report of `nox -s ablation`. In it AdamW
#: does better than Muon and Grokfast worse than none; above 50 million parameters Muon's Newton-Schulz steps would also
#: cost more than everything else in a step. There distillation alone wins most from text of another kind than the
#: model's own: on SmolLM2-135M at 5 bits, eight steps of 512 tokens take 1.5 % off perplexity, and 0.9 % by
#: cross-entropy.
RECIPES: Mapping[SizeClass, Mapping[str, Any]] = MappingProxyType(
    {
        "tiny": MappingProxyType(
            {
                "fine_tune_optimizer": "adamw",
                "fine_tune_lr": 3e-3,
                "fine_tune_steps": 250,
                "fine_tune_tokens": 256,
                "fine_tune_batch_size": 8,
                "fine_tune_decay": 0.5,
                "distillation": 0.5,
                "grokfast_lambda": 0.0,
            }
        ),
        **dict.fromkeys(
            ("small", "medium", "large"),
            MappingProxyType(
                {
                    "fine_tune_optimizer": "adamw",
                    "fine_tune_lr": 1e-4,
                    "fine_tune_tokens": 256,
                    "fine_tune_decay": 0.5,
                    "fine_tune_dtype": "auto",
                    "distillation": 1.0,
                    "grokfast_lambda": 0.0,
                }
            ),
        ),
    }
)


#: How models above the class "tiny" are compressed where the user chose no rule: one ternary plane without compensation
#: turns a pretrained model of that size into noise.
COMPENSATED: Mapping[str, Any] = MappingProxyType(
    {
        "compensation": "sequential",
        "codec": "base3",
        "granularity": "group",
        "group_size": 192,
        "scale_dtype": "uint8",
        "smoothing": 0.25,
    }
)
#: Planes of these models: where `starting_bits` or the fallback chain may add some it starts lower, to end with fewer
#: bits.
PLANES, PLANES_BEFORE_FALLBACKS = 3, 1
#: How these models are compressed within `max_minutes`: to the compression target, which on SmolLM2-135M leaves 3.3
#: bits a weight beside tables of 6 bits. So few bits take compensation that reads more, and text of both kinds; many
#: small steps of recovery do more than few large ones.
WITHIN_MINUTES: Mapping[str, Any] = MappingProxyType(
    {
        "starting_bits": 3.25,
        "embedding_dtype": "int6",
        "compensation_source": "both",
        "compensation_samples": 48,
        "fine_tune_lr": 2e-4,
        "fine_tune_batch_size": 2,
        "fine_tune_steps": 250,
    }
)
#: Floating-point operations that recovery may take for each of these minutes, half of it on a core of 8e10 a second.
OPERATIONS_PER_MINUTE = 2.4e12


def size_class(parameters: int) -> SizeClass:
    """Size class of a model with this many unique parameters (tied ones counted once).

    The upper bounds are exclusive: 50 million parameters are already "small".

    Raises:
        BitnetError: if there is not at least one parameter.
    """
    if parameters < 1:
        raise BitnetError(f"a model with {parameters} parameters has no size class; pass a count of at least 1.")
    if parameters < 50_000_000:
        return "tiny"
    if parameters < 500_000_000:
        return "small"
    if parameters < 2_000_000_000:
        return "medium"
    return "large"
