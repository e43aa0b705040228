"""Times of several ways to do the same work, taken in turns, and their ratios with intervals."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Result = TypeVar("Result")

RESAMPLES = 10_000
#: Rounds that are run however long they take: an interval needs some.
LEAST_ROUNDS = 3


class Ratio(NamedTuple):
    """A ratio of medians, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def take_turns(
    arms: Mapping[str, Callable[[], Result]],
    rounds: int,
    seed: int,
    advance: Callable[[int, int], None],
    seconds: float = math.inf,
) -> dict[str, list[Result]]:
    """What every arm returned in every round.

    Each round runs every arm once, in an order drawn anew, so that a machine that slows down slows all of them.
    `advance` is called with the runs done and those in all. No round is begun, after the first `LEAST_ROUNDS`, that
    would be expected to end after `seconds`.
    """
    order, generator, started = list(arms), random.Random(seed), time.perf_counter()
    found: dict[str, list[Result]] = {name: [] for name in arms}
    for number in range(rounds):
        passed = time.perf_counter() - started
        if number >= LEAST_ROUNDS and passed * (number + 1) / number > seconds:
            break
        generator.shuffle(order)
        for place, name in enumerate(order, start=1):
            found[name].append(arms[name]())
            advance(number * len(order) + place, rounds * len(order))
    return found


def paired_ratio(times: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio:
    """median(times) / median(reference), of times that were taken in the same rounds.

    The interval is the percentile bootstrap over rounds (Efron and Tibshirani 1993, chapter 13): rounds are drawn with
    replacement, and both medians are taken over the same draw, because what disturbs a round disturbs both.
    """
    above, below = np.asarray(times, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(above) / np.median(below)), float(low), float(high))
