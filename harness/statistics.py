"""Fair comparison of speeds and of models: interleaved arms, raw timings kept, paired bootstrap intervals.

On a shared machine an absolute time means little; a ratio of times taken side by side does. Hence:

- the arms run in one process, in a new random order every round, so that drift and order hit all of them alike;
- the baseline takes part twice. The ratio of the two (A/A) must straddle 1.0, or the run cannot tell a difference;
- a speed-up is the ratio of median times, and its interval resamples whole rounds (paired bootstrap), because
  what disturbs one arm of a round disturbs its neighbours;
- the outputs of the arms are compared before anything is timed: a fast arm that does less is no faster.

Two models are compared on the same documents, and the interval resamples whole documents: what makes a document hard
makes it hard for both.
"""

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from harness.errors import AuditError

RESAMPLES = 2000
MINIMUM_ROUNDS = 5
CONTROL_CONFIDENCE = 0.999
"""Of the A/A control. Equal arms miss 1 in one run of twenty by a 95 % interval. By this one they do in fewer than one
of a hundred from 9 rounds on; with 5 rounds medians are too discrete for any percentile interval, and one run of
fifteen misses."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with the ends of its confidence interval (same unit)."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def straddles(self, value: float) -> bool:
        """Return whether `value` lies inside the interval, ends included."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Arm:
    """One competitor: `run` does the timed work once; `settings` is printed beside its figures.

    `ready` is called before each run and not timed: it brings the caches, which other arms have used, into the state
    that the timing is about.
    """

    name: str
    run: Callable[[], object]
    settings: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], object] | None = None


@dataclass(frozen=True)
class Comparison:
    """Speed of `candidate` relative to `baseline` (above 1: the candidate is faster) and the A/A control.

    The control's interval is of `CONTROL_CONFIDENCE`. `settings` are the baseline's; as text, a comparison tells them
    with its figures.
    """

    baseline: str
    candidate: str
    speedup: Interval
    control: Interval

    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether the A/A control straddles 1.0, so that the run can be trusted."""
        return self.control.straddles(1.0)

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        baseline = f"{self.baseline} ({told})" if told else self.baseline
        control = f"A/A control {self.control}{'' if self.sound else ', which misses 1: no difference can be told'}"
        return f"{self.candidate}: {self.speedup} as fast as {baseline}; {control}"


def interleave(arms: Sequence[Arm], rounds: int, warmup: int = 1, seed: int = 0) -> dict[str, list[float]]:
    """Time every arm once a round, in an order drawn anew each round.

    Returns the raw times in seconds per arm, in round order. The garbage collector is off while timing.

    Raises:
        AuditError: two arms share a name, or there are fewer than `MINIMUM_ROUNDS` rounds.
    """
    if len({arm.name for arm in arms}) != len(arms):
        raise AuditError("two arms of a timing share one name; give each arm its own")
    if rounds < MINIMUM_ROUNDS:
        raise AuditError(f"{rounds} rounds are too few for an interval; use at least {MINIMUM_ROUNDS}")
    order = random.Random(seed)
    for arm in arms:
        for _ in range(warmup):
            arm.run()
    times: dict[str, list[float]] = {arm.name: [] for arm in arms}
    collecting = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # what was there before need not be looked through after every round
    try:
        for _ in range(rounds):
            for arm in order.sample(list(arms), len(arms)):
                if arm.ready is not None:
                    arm.ready()
                started = time.perf_counter()
                arm.run()
                times[arm.name].append(time.perf_counter() - started)
            gc.collect()
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    return times


def ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    confidence: float = 0.95,
    seed: int = 0,
    paired: bool = True,
) -> Interval:
    """Return median(numerator) / median(denominator) with a percentile bootstrap interval.

    Entry i of both sequences comes from round i, unless they are not `paired`: series that were timed one after the
    other are resampled each by itself, and may differ in length. The percentile method (Efron & Tibshirani 1993,
    chapter 13) is used because the median of a small sample is too discrete for the corrections of BCa.

    Raises:
        AuditError: the lengths differ, there are too few rounds, or a time is not finite and positive.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if (paired and top.shape != bottom.shape) or top.ndim != 1 or min(top.size, bottom.size) < MINIMUM_ROUNDS:
        raise AuditError(f"a paired ratio needs two series of at least {MINIMUM_ROUNDS} rounds and of one length")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all() and (top > 0).all() and (bottom > 0).all()):
        raise AuditError("a time is zero, negative or not finite; the clock or the arm is broken")

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.median(a, axis=axis) / np.median(b, axis=axis))

    value = float(statistic(top, bottom))
    if np.ptp(top) == 0 and np.ptp(bottom) == 0:
        return Interval(value, value, value, confidence)
    result = stats.bootstrap(
        (top, bottom),
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high), confidence)


def compare(
    baseline: Arm,
    candidates: Sequence[Arm],
    rounds: int,
    agree: Callable[[object, object], bool],
    warmup: int = 1,
    seed: int = 0,
) -> tuple[list[Comparison], dict[str, list[float]]]:
    """Time `candidates` against `baseline` in one interleaved run, with the baseline again as A/A control.

    `agree` is given the baseline's output and a candidate's, before anything is timed.

    Returns one comparison a candidate, and the raw times in seconds per arm.

    Raises:
        AuditError: a candidate's output does not agree with the baseline's, or as `interleave`.
    """
    expected = baseline.run()
    for candidate in candidates:
        if not agree(expected, candidate.run()):
            raise AuditError(
                f"{candidate.name} and {baseline.name} give different outputs; time only what does the same work"
            )
    again = replace(baseline, name=f"{baseline.name} (again)")
    times = interleave([baseline, again, *candidates], rounds, warmup, seed)
    control = ratio_interval(times[baseline.name], times[again.name], CONTROL_CONFIDENCE, seed)
    comparisons = [
        Comparison(
            baseline.name,
            candidate.name,
            ratio_interval(times[baseline.name], times[candidate.name], seed=seed),
            control,
            baseline.settings,
        )
        for candidate in candidates
    ]
    return comparisons, times


def paired_difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Interval:
    """Return mean(after - before) over documents with a paired 95 % bootstrap interval (unit of the input).

    Raises:
        AuditError: the lengths differ, there are fewer than two documents, or a value is not finite.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise AuditError("a paired difference needs two series of one length and at least two documents")
    difference = second - first
    if not np.isfinite(difference).all():
        raise AuditError("a paired difference holds NaN or infinity; look at the documents it came from")
    value = float(difference.mean())
    if np.ptp(difference) == 0:
        return Interval(value, value, value)
    result = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def perplexity_increase(
    before: Sequence[float], after: Sequence[float], tokens: Sequence[int], seed: int = 0
) -> Interval:
    """Return the relative increase of the token perplexity with a 95 % interval over documents.

    `before` and `after` are each document's log-likelihood in nats under two models, `tokens` its number of tokens.
    Everything is summed over the documents of a resample before it is divided, as in the perplexity itself.

    Raises:
        AuditError: as `paired_difference`, or a document has no token.
    """

    def increase(old: np.ndarray, new: np.ndarray, count: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.expm1((old.sum(axis=axis) - new.sum(axis=axis)) / count.sum(axis=axis)))

    return _over_documents(before, after, tokens, increase, seed)


def accuracy_difference(
    before: Sequence[float], after: Sequence[float], tokens: Sequence[int], seed: int = 0
) -> Interval:
    """Return the change of next-token accuracy (in 0..1, below 0 is a loss) with a 95 % interval over documents.

    `before` and `after` are how many of each document's `tokens` two models predict.

    Raises:
        AuditError: as `perplexity_increase`.
    """

    def difference(old: np.ndarray, new: np.ndarray, count: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray((new.sum(axis=axis) - old.sum(axis=axis)) / count.sum(axis=axis))

    return _over_documents(before, after, tokens, difference, seed)


def _over_documents(
    before: Sequence[float],
    after: Sequence[float],
    tokens: Sequence[int],
    statistic: Callable[..., np.ndarray],
    seed: int,
) -> Interval:
    series = tuple(np.asarray(each, dtype=np.float64) for each in (before, after, tokens))
    if len({each.shape for each in series}) != 1 or series[0].ndim != 1 or series[0].size < 2:
        raise AuditError("models are compared over documents by three series of one length, at least two documents")
    if not all(np.isfinite(each).all() for each in series):
        raise AuditError("a document's figure is NaN or infinity; look at the documents it came from")
    if (series[2] <= 0).any():
        raise AuditError("a document has no tokens; leave empty documents out")
    value = float(statistic(*series))
    result = stats.bootstrap(
        series,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))
