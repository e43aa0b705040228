"""Hypothesis strategies for weights, activations and codes: small recipes that a failing example prints whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from hypothesis import strategies as st
from jaxtyping import Float32, Float64, Int8
from torch import Tensor

from harness.subject import WeightVariant

Kind = Literal["gaussian", "heavy-tailed", "lattice", "sparse", "zero-row", "one-outlier", "equal-magnitudes"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class WeightRecipe:
    """A weight matrix in one line: its kind, its rows, its width in whole groups plus a remainder, and a seed."""

    kind: Kind
    rows: int
    groups: int
    remainder: int
    seed: int

    def build(self, variant: WeightVariant) -> Float32[Tensor, "out in"]:
        """The matrix for a variant: ``groups`` times its group size (16 without groups) plus the remainder wide."""
        width = max(1, self.groups * (variant.group_size or 16) + self.remainder)
        values = _draw(self.kind, (self.rows, width), np.random.default_rng(self.seed))
        return torch.from_numpy(values.astype(np.float32))


def weight_recipes(kinds: tuple[Kind, ...] = KINDS) -> st.SearchStrategy[WeightRecipe]:
    """Recipes of every kind, one to four rows, none to two whole groups and a ragged remainder."""
    return st.builds(
        WeightRecipe,
        kind=st.sampled_from(kinds),
        rows=st.integers(1, 4),
        groups=st.integers(0, 2),
        remainder=st.integers(0, 9),
        seed=st.integers(0, 2**16),
    )


@dataclass(frozen=True)
class TokenRecipe:
    """A batch of activation vectors: kind, number of tokens, features and a seed."""

    kind: Kind
    tokens: int
    features: int
    seed: int

    def build(self) -> Float32[Tensor, "tokens features"]:
        """The activations."""
        values = _draw(self.kind, (self.tokens, self.features), np.random.default_rng(self.seed))
        return torch.from_numpy(values.astype(np.float32))


def token_recipes() -> st.SearchStrategy[TokenRecipe]:
    """One to six tokens of one to 48 features, of every kind."""
    return st.builds(
        TokenRecipe,
        kind=st.sampled_from(KINDS),
        tokens=st.integers(1, 6),
        features=st.integers(1, 48),
        seed=st.integers(0, 2**16),
    )


def code_matrices(width: int, max_rows: int = 4) -> st.SearchStrategy[Int8[Tensor, "out in"]]:
    """Matrices of ternary codes of a given width."""
    row = st.lists(st.sampled_from((-1, 0, 1)), min_size=width, max_size=width)
    return st.lists(row, min_size=1, max_size=max_rows).map(lambda rows: torch.tensor(rows, dtype=torch.int8))


def gaussian_matrix(rows: int, columns: int, seed: int) -> Float32[Tensor, "out in"]:
    """Standard normal weights, the same for the same seed."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32))


def _draw(kind: Kind, shape: tuple[int, int], generator: np.random.Generator) -> Float64[np.ndarray, "out in"]:
    normal = generator.standard_normal(shape)
    match kind:
        case "gaussian":
            return normal
        case "heavy-tailed":
            return generator.standard_t(2, shape)
        case "lattice":  # quarters: exact ties and equal magnitudes are common
            return np.rint(4 * normal) / 4
        case "sparse":
            return np.where(generator.random(shape) < 0.7, 0.0, normal)
        case "zero-row":
            normal[generator.integers(shape[0])] = 0
            return normal
        case "one-outlier":
            spiked = 0.01 * normal
            spiked[generator.integers(shape[0]), generator.integers(shape[1])] = 1000.0
            return spiked
        case "equal-magnitudes":
            return 0.75 * np.sign(normal)
