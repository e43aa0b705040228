"""Races of products with one ternary matrix: who takes part, with how many bytes, and that all compute the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float32
from torch import Tensor

from harness.evidence import Profile
from harness.machine_limits import MemoryRead, Peak
from harness.opponents import OpponentAbsent
from harness.opponents.ggml import GgmlTernaryProduct
from harness.opponents.products import (
    INT8_ENGINES,
    DynamicInt8Product,
    Prepared,
    Product,
    SubjectProduct,
    dense,
    torch_products,
)
from harness.races import Entry, Finish, Race, run
from harness.statistics import Arm
from harness.subject import MultipliesTernary, QuantizedWeight
from suites.threads import one_thread

RUN_MACS: Final = 4e8
"""A run repeats its product until it has done about so many: milliseconds, so that a clock can tell them, and no more,
so that the system seldom stops it half-way."""
STREAMED_BYTES: Final = 96 << 20
"""What an arm goes through before it meets a matrix again: more than any cache holds."""
PEAK: Final = "int8 peak"
MEMORY: Final = "memory read"
"""The machine itself, as an arm."""
OFF: Final = 0.05
"""How far, relative to its norm, a product may lie from the exact one: int8 activations cost 1 to 2 %, an arm that
computes something else is off by more than this."""


@dataclass(frozen=True)
class Task:
    """A product of so many tokens with a matrix of `rows` outputs and `width` inputs.

    `streamed`: with matrices enough that each comes from memory, as the layers of a model do. Else there is one, and it
    is in the caches: every arm does its product once before each run that is timed.
    """

    rows: int
    width: int
    tokens: int
    streamed: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return self.rows * self.width * self.tokens

    def copies(self, bits: float) -> int:
        """How many matrices an arm has that stores a weight in so many bits."""
        if not self.streamed:
            return 1
        return max(2, round(STREAMED_BYTES / (self.rows * self.width * bits / 8)))

    @property
    def title(self) -> str:
        """In words."""
        place = "streamed from memory" if self.streamed else "cached"
        return f"{self.rows} x {self.width}, {self.tokens} token{'s' * (self.tokens > 1)}, {place}"


def rivals(task: Task, profile: Profile) -> tuple[Product, ...]:
    """Everyone who multiplies; the quick profile leaves out those that no row of the task names."""
    if profile == "full":
        return (*torch_products(), GgmlTernaryProduct())
    return (GgmlTernaryProduct(),) if task.tokens == 1 else tuple(map(DynamicInt8Product, INT8_ENGINES))


def product_race(subject: MultipliesTernary, task: Task, opponents: Sequence[Product], seed: int) -> Race:
    """A race of products and of the machine itself, once every arm has been seen to compute the product."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(task.tokens, task.width, generator=generator)
    codes = torch.randint(-1, 2, (task.rows, task.width), dtype=torch.int8, generator=generator)
    matrix = QuantizedWeight(codes, torch.tensor([[0.0625]]))
    # llama.cpp does the products of a run in one call; torch, which many tokens are judged against, has no such call.
    ours = SubjectProduct(subject, together=task.streamed and task.tokens == 1)
    products = max(1, round(RUN_MACS / task.macs))
    absent: list[str] = []

    def entry(product: Product) -> Entry:
        # The weights' values do not matter for the time, their places in memory do.
        copies = [QuantizedWeight(codes.clone(), matrix.scale) for _ in range(task.copies(product.bits))]
        prepared = product.prepare(copies, x, products)
        assert_computes(prepared, product.name, matrix, x)
        work = products * task.macs / 1e9
        settings = {"threads": "1", "products": str(products), "calls": prepared.way}
        return Entry(Arm(product.name, prepared.run, settings, None if task.streamed else prepared.once), work)

    def present(make: Callable[[], Entry]) -> list[Entry]:
        try:
            return [make()]
        except OpponentAbsent as reason:
            absent.append(str(reason))
            return []

    entries = [each for rival in opponents for each in present(lambda rival=rival: entry(rival))]  # type: ignore[misc]
    limit = _memory if task.streamed else _peak
    entries += present(limit)
    return Race(f"product {task.title}", "GMAC/s", entry(ours), tuple(entries), tuple(absent))


def _peak() -> Entry:
    peak = Peak(RUN_MACS)
    return Entry(Arm(PEAK, peak.run, {"threads": "1", "instruction": peak.name}), peak.macs / 1e9)


def _memory() -> Entry:
    """What reading would allow: the multiply-accumulates of weights of 2 bits that reach the core in that time."""
    memory = MemoryRead()
    weights = memory.bytes * 8 / 2
    return Entry(Arm(MEMORY, memory.run, {"threads": "1", "bytes": str(memory.bytes)}), weights / 1e9)


def assert_computes(prepared: Prepared, name: str, matrix: QuantizedWeight, x: Float32[Tensor, "tokens in"]) -> None:
    """An arm's own output is the product, before it is timed."""
    exact = x.double() @ dense(matrix).double().T
    errors = (prepared.output().double() - exact).flatten(-2).norm(dim=-1) / exact.norm()
    error = float(errors.max())
    assert error <= OFF, f"{name} does not compute the product: its outputs are off by {error:.3g} of their norm"


def hold(subject: MultipliesTernary, task: Task, opponents: Sequence[Product], rounds: int, seed: int) -> Finish:
    """Set up and run, with torch on one thread as every arm is."""
    with one_thread():
        return run(product_race(subject, task, opponents, seed), rounds, seed)
