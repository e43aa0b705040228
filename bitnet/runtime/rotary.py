"""Rotary positions: the angles by which a position turns each pair of a head, in the variants of transformers' configs.

In numpy, which rounds to float32 where transformers does, and which does not load code that decoding has no use for.
"""

import math
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

#: One float32 for each pair of a head.
Frequencies = Float32[np.ndarray, "half"]
RotaryType = Literal["default", "linear", "llama3", "yarn"]


class Rotary(BaseModel):
    """`rope_parameters` of config.json. Types whose angles depend on the length of the text are not among these."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rope_type: RotaryType = "default"
    rope_theta: PositiveFloat = 10000.0
    factor: PositiveFloat = 1.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192
    attention_factor: PositiveFloat | None = None
    beta_fast: PositiveFloat = 32.0
    beta_slow: PositiveFloat = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    partial_rotary_factor: Annotated[float, Field(ge=1.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> "Rotary":
        if self.rope_type == "llama3" and self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("low_freq_factor must be below high_freq_factor")
        return self

    def frequencies(self, head_dim: int) -> Frequencies:
        """Angle per position of each pair of a head, theta^(-2i / head_dim), scaled as the type says."""
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        powers = np.power(self.rope_theta, exponents, dtype=np.float64).astype(np.float32)
        plain: Frequencies = np.float32(1) / powers
        if self.rope_type == "default":
            return plain
        stretched: Frequencies = plain / np.float32(self.factor)
        if self.rope_type == "linear":
            return stretched
        kept = self._llama3(plain) if self.rope_type == "llama3" else self._yarn(head_dim)
        blend: Frequencies = ((1 - kept) * stretched + kept * plain).astype(np.float32)
        return blend

    @property
    def scale(self) -> float:
        """Factor on cosine and sine: 1 but for "yarn" (Peng et al. 2023, section 3.4; DeepSeek's `mscale`)."""
        if self.rope_type != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)
        return self._temperature(1.0)

    def _temperature(self, scale: float) -> float:
        return 0.1 * scale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def _llama3(self, plain: Frequencies) -> Frequencies:
        """Share of each frequency that is kept.

        Source: Meta's Llama 3.1 reference code: wavelengths above original / low_freq_factor are stretched by `factor`,
        those below original / high_freq_factor are kept, and those between are blended.
        """
        turns = self.original_max_position_embeddings * plain / (2 * math.pi)
        share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return np.clip(share, 0.0, 1.0).astype(np.float32)

    def _yarn(self, head_dim: int) -> Frequencies:
        """Share of each frequency that is kept.

        Source: Peng et al. 2023, section 3.2, "NTK-by-parts", as transformers has it: pairs that turn more than
        `beta_fast` times within the original positions are kept, those below `beta_slow` times are stretched.
        """

        def pair(turns: float) -> float:
            ratio = self.original_max_position_embeddings / (turns * 2 * math.pi)
            return head_dim * math.log(ratio) / (2 * math.log(self.rope_theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        width = high - low or 0.001  # one and the same pair: a step
        ramp = (np.arange(head_dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(width)
        kept: Frequencies = 1 - np.clip(ramp, 0.0, 1.0)
        return kept
