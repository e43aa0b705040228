"""The ways to generate tokens that `bitnet bench` compares: each is timed token by token, and none stops early."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, get_args

import torch

from bitnet.errors import BitnetError
from bitnet.runtime import Runtime

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The arms of a packed folder: the native runtime, or transformers with its layers as `TernaryLinear`.
RUNTIME, TERNARY = "runtime", "ternary"


def precisions(text: str) -> tuple[Precision, ...]:
    """Precisions by their names, with commas between; a BitnetError for anything else."""
    names = [name.strip() for name in text.split(",")]
    found: tuple[Precision, ...] = tuple(name for name in get_args(Precision) if name in names)
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise BitnetError(f"'{unknown[0]}' is no precision to compare with: give some of {', '.join(PRECISIONS)}.")
    return found


class Arm(Protocol):
    """A model that is open, and generates."""

    source: str
    kind: str

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""

    def run(self, prompt: Sequence[int], count: int) -> list[float]:
        """Generate `count` tokens, the likeliest each time; seconds from the start until each of them was there."""


class RuntimeArm:
    """The native runtime, one call a token."""

    def __init__(self, source: str, threads: int) -> None:
        """Open the packed folder `source`; raises as `Runtime.open`."""
        self.source, self.kind = source, RUNTIME
        self.runtime = Runtime.open(source, threads=threads)

    @property
    def vocabulary(self) -> int:
        """As `Arm.vocabulary`."""
        return self.runtime.description.vocab_size

    def run(self, prompt: Sequence[int], count: int) -> list[float]:
        """As `Arm.run`."""
        started, given, times = time.perf_counter(), list(prompt), []
        self.runtime.reset()
        for _ in range(count):
            given = [self.runtime.next(given)]
            times.append(time.perf_counter() - started)
        return times


class GenerateArm:
    """`generate` of a model in transformers."""

    def __init__(self, source: str, kind: str, model: Any) -> None:
        self.source, self.kind, self.model = source, kind, model

    @property
    def vocabulary(self) -> int:
        """As `Arm.vocabulary`."""
        return int(self.model.config.vocab_size)

    def run(self, prompt: Sequence[int], count: int) -> list[float]:
        """As `Arm.run`."""
        clock, ids = _Clock(), torch.tensor([list(prompt)])
        options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            self.model.generate(ids, attention_mask=torch.ones_like(ids), streamer=clock, **options)
        return clock.times


class _Clock:
    """What transformers streams tokens into, as `BaseStreamer` has it: the prompt first, then one at a time."""

    def __init__(self) -> None:
        self._started, self._prompt_seen = time.perf_counter(), False
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        if self._prompt_seen:
            self.times.append(time.perf_counter() - self._started)
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is left to be done."""


def open_arm(source: str, kind: str, threads: int, on_ready: Callable[[], None] = lambda: None) -> Arm:
    """Open the model `source` as the arm `kind`: `RUNTIME`, `TERNARY` or a `Precision`.

    `on_ready` is called when the arm's code is loaded and the model is not yet.

    Raises:
        BitnetError: as `Runtime.open` and `bitnet.models.load_model`.
    """
    torch.set_num_threads(threads)
    if kind == RUNTIME:
        on_ready()
        return RuntimeArm(source, threads)
    from bitnet.models import check_weights, load_model

    on_ready()
    model = load_model(source, PRECISIONS.get(kind, torch.float32)).model
    check_weights(model)
    return GenerateArm(source, kind, model)
