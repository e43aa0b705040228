"""`bitnet bench`: a packed model against the full-precision model that it was made from, in one interleaved run."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from bitnet import arms
from bitnet.artifacts import load_packed
from bitnet.errors import BitnetError
from bitnet.packed_manifest import TENSORS, is_packed
from bitnet.progress import Stages
from bitnet.resident import resident_memory
from bitnet.result import RESULT, Record, load_result
from bitnet.runtime import UnsupportedError
from bitnet.text import heldout_text
from bitnet.timing import Ratio, paired_ratio, take_turns

Metric = Literal["decode", "prefill", "first_token"]
#: Tokens of the long prompt, of the short one, and tokens generated after the short one (the first is not decoding).
PREFILL, PROMPT, NEW = 128, 16, 33
PACKED, CONTROL = "packed", "control"
#: Time for the rounds, but for the first few. A round of a model of 135M parameters takes 10 s on one core.
SECONDS = 60.0
#: By how much the ends of the control's interval may miss 1.
CONTROL_TOLERANCE = 0.02


class ArmRow(Record):
    """One arm: medians over the rounds, the raw times in seconds behind them, and its memory, if it was measured."""

    name: str
    what: str
    decode_tokens_per_second: float
    prefill_tokens_per_second: float
    time_to_first_token: float
    resident_bytes: int | None
    seconds: dict[Metric, tuple[float, ...]]


class RatioRow(Record):
    """How many times faster the packed model is than the arm `against`, with its 95 % interval."""

    against: str
    metric: Metric
    value: float
    low: float
    high: float


class AgreementRow(Record):
    """Logits of the native runtime beside those of transformers on the same packed model, over one text."""

    positions: int
    largest_difference: float
    top1_agreement: float
    perplexity: float
    perplexity_transformers: float

    @property
    def relative_difference(self) -> float:
        """Relative difference of the perplexities."""
        return abs(self.perplexity / self.perplexity_transformers - 1)


class Benchmark(Record):
    """Everything that a run measured, and under which settings."""

    model: str
    baseline: str
    packed_bytes: int
    engine: str
    threads: int
    rounds: int
    rounds_asked: int
    seed: int
    prefill_tokens: int
    prompt_tokens: int
    new_tokens: int
    agreement: AgreementRow | None
    arms: tuple[ArmRow, ...]
    ratios: tuple[RatioRow, ...]
    control_sound: bool
    environment: dict[str, str]


@dataclass(frozen=True)
class Lengths:
    """Tokens of the long prompt, of the short prompt, and tokens to generate."""

    prefill: int
    prompt: int
    new: int


@dataclass(frozen=True)
class _Times:
    decode: float
    prefill: float
    first_token: float


def packed_folder(source: str) -> Path:
    """The packed folder that `source` is, or that lies in the output folder of a run.

    Raises:
        BitnetError: there is none; it tells how to make one.
    """
    for folder in (Path(source), Path(source) / "packed"):
        if is_packed(folder):
            return folder
    raise BitnetError(
        f"{source} is no packed model: run `bitnet compress {source} --out OUT`, and then `bitnet bench OUT/packed`."
    )


def baseline_of(folder: Path) -> str:
    """The model that a packed folder was made from, as the record of the run beside it tells.

    Raises:
        BitnetError: there is no such record.
    """
    if not (folder.resolve().parent / RESULT).is_file():
        raise BitnetError(f"There is no {RESULT} beside {folder} that names the original model: give --baseline MODEL.")
    return load_result(folder.resolve().parent).source


def run_benchmark(
    folder: Path,
    baseline: str,
    against: Sequence[arms.Precision],
    *,
    rounds: int = 7,
    seconds: float = SECONDS,
    threads: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Benchmark:
    """Measure a packed model and its baseline in every precision of `against`.

    Of the rounds, only as many are run as are expected to end within `seconds`, but for the first few.

    Raises:
        BitnetError: a model that cannot be read or run, or a baseline with another vocabulary.
    """
    with Stages(5, progress) as stages:
        with stages.stage("load") as advance:
            opened, engine = _open(folder, baseline, against, threads, advance)
        with stages.stage("compare outputs"):
            tokens, lengths, agreement = _compare(folder, opened[PACKED])
        with stages.stage("warm up") as advance:
            for done, arm in enumerate(opened.values(), start=1):
                arm.run(tokens[: lengths.prefill], 2)
                advance(done, len(opened))
        with stages.stage("time") as advance:
            works = {name: _work(arm, tokens, lengths) for name, arm in opened.items()}
            works[CONTROL] = works[PACKED]
            times = _by_metric(take_turns(works, rounds, seed, advance, seconds))
        with stages.stage("memory") as advance:
            memory = {}
            for name, arm in opened.items():
                memory[name] = resident_memory(arm.source, arm.kind, threads)
                advance(len(memory), len(opened))
    what = {PACKED: engine, CONTROL: f"{engine}, once more"}
    what.update({precision: f"transformers {precision}" for precision in against})
    ratios = [_ratio(name, metric, times) for name in works if name != PACKED for metric in _METRICS]
    return Benchmark(
        model=str(folder),
        baseline=baseline,
        packed_bytes=(folder / TENSORS).stat().st_size,
        engine=engine,
        threads=threads,
        rounds=len(times[PACKED]["decode"]),
        rounds_asked=rounds,
        seed=seed,
        prefill_tokens=lengths.prefill,
        prompt_tokens=lengths.prompt,
        new_tokens=lengths.new,
        agreement=agreement,
        arms=tuple(_row(name, what[name], times[name], memory.get(name), lengths) for name in works),
        ratios=tuple(ratios),
        control_sound=all(_holds_one(row) for row in ratios if row.against == CONTROL),
        environment=_environment(),
    )


_METRICS: tuple[Metric, ...] = ("decode", "prefill", "first_token")


def _open(
    folder: Path, baseline: str, against: Sequence[arms.Precision], threads: int, advance: Callable[[int, int], None]
) -> tuple[dict[str, arms.Arm], str]:
    """All arms by name, and what runs the packed model, in words."""
    torch.set_num_threads(threads)
    try:
        native = arms.RuntimeArm(str(folder), threads)
        packed: arms.Arm = native
        engine = f"native runtime ({native.runtime.backend})"
    except UnsupportedError as refusal:
        packed = arms.open_arm(str(folder), arms.TERNARY, threads)
        engine = f"transformers on ternary layers ({refusal.what})"
    opened = {PACKED: packed}
    for precision in against:
        advance(len(opened), len(against) + 1)
        opened[precision] = arms.open_arm(baseline, precision, threads)
        if opened[precision].vocabulary != packed.vocabulary:
            raise BitnetError(
                f"{baseline} has {opened[precision].vocabulary} tokens and {folder} {packed.vocabulary}, so they are "
                "no pair: give the original model with --baseline."
            )
    return opened, engine


def _compare(folder: Path, arm: arms.Arm) -> tuple[list[int], Lengths, AgreementRow | None]:
    """A text as tokens, how much of it the model has room for, and how the runtime's logits agree on it."""
    compressed, tokenizer = load_packed(folder)
    room = int(compressed.model.config.max_position_embeddings)
    new = min(NEW, room // 4)
    lengths = Lengths(prefill=min(PREFILL, room - new), prompt=min(PROMPT, room // 4), new=new)
    tokens: list[int] = tokenizer(heldout_text()[: 40 * PREFILL])["input_ids"][: lengths.prefill]
    if not isinstance(arm, arms.RuntimeArm):
        return tokens, lengths, None
    with torch.inference_mode():
        expected = compressed.model(input_ids=torch.tensor([tokens])).logits[0]
    arm.runtime.reset()
    found = arm.runtime.logits(tokens)
    row = AgreementRow(
        positions=len(tokens),
        largest_difference=float((found - expected).abs().max()),
        top1_agreement=float((found.argmax(1) == expected.argmax(1)).float().mean()),
        perplexity=_perplexity(found, tokens),
        perplexity_transformers=_perplexity(expected, tokens),
    )
    return tokens, lengths, row


def _perplexity(logits: torch.Tensor, tokens: Sequence[int]) -> float:
    return float(torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(tokens[1:])).exp())


def _work(arm: arms.Arm, tokens: Sequence[int], lengths: Lengths) -> Callable[[], _Times]:
    def work() -> _Times:
        times = arm.run(tokens[: lengths.prompt], lengths.new)
        prefill = arm.run(tokens[: lengths.prefill], 1)[0]
        return _Times(decode=times[-1] - times[0], prefill=prefill, first_token=times[0])

    return work


def _by_metric(found: Mapping[str, Sequence[_Times]]) -> dict[str, dict[Metric, tuple[float, ...]]]:
    return {
        name: {metric: tuple(getattr(times, metric) for times in runs) for metric in _METRICS}
        for name, runs in found.items()
    }


def _row(name: str, what: str, times: dict[Metric, tuple[float, ...]], memory: int | None, lengths: Lengths) -> ArmRow:
    return ArmRow(
        name=name,
        what=what,
        decode_tokens_per_second=(lengths.new - 1) / median(times["decode"]),
        prefill_tokens_per_second=lengths.prefill / median(times["prefill"]),
        time_to_first_token=median(times["first_token"]),
        resident_bytes=memory,
        seconds=times,
    )


def _ratio(name: str, metric: Metric, times: Mapping[str, Mapping[Metric, tuple[float, ...]]]) -> RatioRow:
    found: Ratio = paired_ratio(times[name][metric], times[PACKED][metric])
    return RatioRow(against=name, metric=metric, **found._asdict())


def _holds_one(row: RatioRow) -> bool:
    return row.low <= 1 + CONTROL_TOLERANCE and row.high >= 1 - CONTROL_TOLERANCE


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
    }
