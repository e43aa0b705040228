"""Products of ternary weights: integer sums against int64, the same from every backend, and nothing else accepted.

The activations of the exact checks are integers whose largest magnitude is 127 and the scales are powers of two, so
that quantizing the activations changes nothing and every float operation is exact: there is no tolerance to hide in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float32, Float64, Int8, Int64
from torch import Tensor

from harness.evidence import Evidence
from harness.subject import JoinsProducts, MultipliesTernary, PreparedProduct, QuantizedWeight, Subject, require
from suites.weights import rejected

exact_kernels = pytest.mark.criterion("A.kernels-exact")
LARGEST_CODE: Final = 127
WIDTHS: Final = (1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 255, 256, 257, 576, 1000)
ROWS: Final = (1, 2, 31, 32, 33, 65)
TOKENS: Final = (1, 2, 5, 16, 17, 33)
GROUP_SIZES: Final = (16, 64, 128)
OVERFLOWING_WIDTH: Final = (1 << 15) + 3
"""From here on sums of 127 leave 16 bits many times over, and 22 bits in all."""


def backends_of(subject: Subject) -> tuple[str, ...]:
    """The backends that a subject has here, the best first."""
    return require(subject, MultipliesTernary).product_backends


def random_planes(rows: int, width: int, planes: int, group_size: int | None, seed: int) -> tuple[QuantizedWeight, ...]:
    """Ternary planes with a power of two as each scale."""
    generator = torch.Generator().manual_seed(seed)
    groups = 1 if group_size is None else -(-width // group_size)
    return tuple(
        QuantizedWeight(
            torch.randint(-1, 2, (rows, width), dtype=torch.int8, generator=generator),
            2.0 ** torch.randint(-4, 2, (rows, groups), generator=generator),
            group_size,
        )
        for _ in range(planes)
    )


def random_codes(tokens: int, width: int, seed: int) -> Int8[Tensor, "tokens width"]:
    """Activation codes over the whole range; each token reaches its end."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-LARGEST_CODE, LARGEST_CODE + 1, (tokens, width), dtype=torch.int8, generator=generator)
    codes[:, seed % width] = LARGEST_CODE if seed % 2 else -LARGEST_CODE
    return codes


def integer_sums(
    codes: Int8[Tensor, "tokens width"], planes: Sequence[QuantizedWeight]
) -> Int64[Tensor, "tokens planes groups rows"]:
    """The sums of each plane and scale group, in int64."""
    size = planes[0].group_size or codes.shape[1]
    parts = [
        torch.stack(
            [
                left.long() @ right.long().T
                for left, right in zip(torch.split(codes, size, 1), torch.split(plane.codes, size, 1), strict=True)
            ],
            dim=1,
        )
        for plane in planes
    ]
    return torch.stack(parts, dim=1)


def product(
    codes: Int8[Tensor, "tokens width"], planes: Sequence[QuantizedWeight], bias: Tensor | None
) -> Float64[Tensor, "tokens rows"]:
    """Scales over the sums, added up, in float64: exact for the weights of this module."""
    sums = integer_sums(codes, planes).double()
    scales = torch.stack([plane.scale.T.double() for plane in planes])  # [planes, groups, rows]
    total = (sums * scales).sum(dim=(1, 2))
    return total if bias is None else total + bias.double()


def assert_exact(made: PreparedProduct, codes: Tensor, planes: Sequence[QuantizedWeight], bias: Tensor | None) -> None:
    """Sums and product are those of int64 arithmetic."""
    where = f"{made.backend}: {tuple(planes[0].codes.shape)}, {len(planes)} planes, groups of {planes[0].group_size}"
    sums = made.accumulate(codes)
    assert torch.equal(sums.long(), integer_sums(codes, planes)), f"{where}: an integer sum is wrong"
    result = made(codes.float())
    assert torch.equal(result.double(), product(codes, planes, bias)), f"{where}: a product is wrong"


@exact_kernels
def test_every_shape_is_exact_on_every_backend(subject: Subject, seed: int, evidence: Evidence) -> None:
    """Widths and heights around the sizes of registers and tiles, one plane with one scale a row."""
    prepares, backends = require(subject, MultipliesTernary), backends_of(subject)
    assert backends, "a subject that multiplies has at least one way to do so"
    evidence.note(f"backends on this machine, the best first: {', '.join(backends)}")
    for backend in backends:
        for index, width in enumerate(WIDTHS):
            rows = ROWS[index % len(ROWS)]
            planes = random_planes(rows, width, 1, None, seed + width)
            made = prepares.prepare_product(planes, backend=backend)
            assert made.backend == backend, f"{made.backend} runs where {backend} was asked for"
            for tokens in TOKENS:
                assert_exact(made, random_codes(tokens, width, seed + tokens), planes, None)


@exact_kernels
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 300),
    tokens=st.integers(1, 20),
    planes=st.integers(1, 3),
    group_size=st.sampled_from([None, *GROUP_SIZES]),
    with_bias=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_planes_groups_and_bias_are_exact(
    subject: Subject,
    rows: int,
    width: int,
    tokens: int,
    planes: int,
    group_size: int | None,
    with_bias: bool,
    seed: int,
) -> None:
    weight, codes = random_planes(rows, width, planes, group_size, seed), random_codes(tokens, width, seed)
    bias = torch.arange(rows).float() - 3 if with_bias else None
    for backend in backends_of(subject):
        made = require(subject, MultipliesTernary).prepare_product(weight, bias, backend)
        assert_exact(made, codes, weight, bias)


@exact_kernels
def test_long_sums_do_not_overflow(subject: Subject) -> None:
    """The largest sum there is, with all codes alike, over a width that no narrow accumulator survives."""
    width = OVERFLOWING_WIDTH
    planes = (QuantizedWeight(torch.ones(2, width, dtype=torch.int8), torch.ones(2, 1)),)
    planes[0].codes[1] = -1
    codes = torch.full((1, width), LARGEST_CODE, dtype=torch.int8)
    for backend in backends_of(subject):
        sums = require(subject, MultipliesTernary).prepare_product(planes, backend=backend).accumulate(codes)
        assert sums.flatten().tolist() == [LARGEST_CODE * width, -LARGEST_CODE * width], backend


@exact_kernels
def test_all_backends_give_the_same_bits(subject: Subject, seed: int) -> None:
    """Also where rounding happens: activations and scales that are no powers of two."""
    generator = torch.Generator().manual_seed(seed)
    planes = [
        QuantizedWeight(plane.codes, torch.rand(plane.scale.shape, generator=generator), plane.group_size)
        for plane in random_planes(48, 200, 2, 64, seed)
    ]
    x = torch.randn(7, 200, generator=generator)
    prepares = require(subject, MultipliesTernary)
    results = {name: prepares.prepare_product(planes, backend=name)(x) for name in backends_of(subject)}
    first, *others = results
    for name in others:
        assert torch.equal(results[name], results[first]), f"{name} and {first} differ"


@exact_kernels
def test_tokens_do_not_depend_on_each_other(subject: Subject, seed: int) -> None:
    """A batch gives what its tokens give alone, whatever their number and memory layout."""
    planes, codes = random_planes(40, 96, 1, None, seed), random_codes(19, 96, seed)
    x = codes * 2.0 ** (torch.arange(len(codes))[:, None] % 5)
    for backend in backends_of(subject):
        made = require(subject, MultipliesTernary).prepare_product(planes, backend=backend)
        alone = torch.cat([made(x[index : index + 1]) for index in range(len(x))])
        assert torch.equal(made(x), alone), backend
        assert torch.equal(made(x.T.contiguous().T), alone), f"{backend} reads memory in another order"


@exact_kernels
@pytest.mark.parametrize("tokens", [1, 7])
def test_products_in_one_call_are_those_of_each(subject: Subject, tokens: int, seed: int) -> None:
    """Of heights and scale groups that follow each other in any order; what does not fit is rejected."""
    join, prepare = require(subject, JoinsProducts).join_products, require(subject, MultipliesTernary).prepare_product
    x = random_codes(tokens, 200, seed).float() * 0.37
    for backend in backends_of(subject):
        made = [
            prepare(random_planes(rows, 200, planes, group_size, seed + rows), backend=backend)
            for rows, planes, group_size in ((48, 1, None), (65, 1, None), (33, 2, 64), (64, 1, 16), (48, 1, None))
        ]
        expected = [each(x) for each in made]
        outs = [torch.full_like(each, torch.nan) for each in expected]
        joined = join(made)
        joined.into(x, outs)
        assert all(map(torch.equal, outs, expected)), f"{backend}: a result is not that of its product alone"
        rejected(joined.into, x, outs[:-1])
        rejected(joined.into, x, [*outs[:-1], torch.empty(tokens, 47)])
        rejected(joined.into, x[:, 1:], outs)
        narrow = prepare(random_planes(48, 199, 1, None, seed), backend=backend)
        rejected(join, [*made, narrow])
    rejected(join, [])


@exact_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_token_that_is_not_finite_stays_alone(subject: Subject, bad: float, seed: int) -> None:
    """It is refused or gives NaN throughout; the tokens beside it are as they would be without it."""
    planes, codes = random_planes(40, 96, 1, None, seed), random_codes(5, 96, seed)
    x = codes.float()
    x[2, 7] = bad
    for backend in backends_of(subject):
        made = require(subject, MultipliesTernary).prepare_product(planes, backend=backend)
        result = outcome(made, x)
        if result is not None:
            assert result[2].isnan().all(), f"{backend} gives numbers for a token with {bad}"
            others = [0, 1, 3, 4]
            assert torch.equal(result[others], made(codes.float())[others]), f"{backend}: {bad} reaches other tokens"


def outcome(made: PreparedProduct, x: Float32[Tensor, "tokens width"]) -> Float32[Tensor, "tokens rows"] | None:
    """The product, or None where it is refused in words."""
    try:
        return made(x)
    except ValueError:
        return None


# --------------------------------------------------------------------------- what must be rejected


@exact_kernels
def test_planes_that_do_not_fit_are_rejected(subject: Subject, seed: int) -> None:
    prepare = require(subject, MultipliesTernary).prepare_product
    plane, narrow = random_planes(8, 32, 1, None, seed)[0], random_planes(8, 31, 1, None, seed)[0]
    rejected(prepare, [])
    rejected(prepare, [plane, narrow])
    rejected(prepare, [QuantizedWeight(plane.codes, torch.ones(8, 2), size) for size in (16, 20)])
    rejected(prepare, [QuantizedWeight(plane.codes, torch.ones(7, 1))])
    rejected(prepare, [plane], torch.zeros(7))
    rejected(prepare, [plane], None, "no such backend")
    rejected(prepare, [QuantizedWeight(torch.full((8, 32), 2, dtype=torch.int8), plane.scale)])


@exact_kernels
def test_activations_that_do_not_fit_are_rejected(subject: Subject, seed: int) -> None:
    for backend in backends_of(subject):
        planes = random_planes(8, 32, 1, None, seed)
        made = require(subject, MultipliesTernary).prepare_product(planes, backend=backend)
        rejected(made, torch.zeros(3, 31))
        rejected(made, torch.zeros(3, 33))
        rejected(made, torch.zeros(3, 32, dtype=torch.int64))
        rejected(made.accumulate, torch.zeros(3, 31, dtype=torch.int8))
        rejected(made.accumulate, torch.zeros(32, dtype=torch.int8))
        rejected(made.accumulate, torch.zeros(3, 32))
