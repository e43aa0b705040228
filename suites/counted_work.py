"""A clock that counts what torch works on, in place of the processor's: the same in each run, on any machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from harness.subject import StreamsModels
from suites.process_costs import Cost, FreshProcess


class CountsNumbers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that operations read and write, in `numbers`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, words: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Carry out and count."""
        made = function(*words, **(options or {}))
        self.numbers += sum(each.numel() for each in tree_leaves((words, made)) if isinstance(each, Tensor))
        return made


class CountedProcess(FreshProcess):
    """One whose seconds are billions of numbers, counted while `subject` compresses in this process."""

    def __init__(self, subject: StreamsModels, spec: str, exact: bool = True) -> None:
        super().__init__(spec, exact)
        self._subject = subject
        self._numbers: dict[Path, int] = {}

    @override
    def compress(self, model: Path, out: Path) -> Cost:
        if model not in self._numbers:
            with tempfile.TemporaryDirectory() as place, CountsNumbers() as counter:
                self._subject.compress_streamed(model, Path(place) / "out")
            self._numbers[model] = counter.numbers
        return replace(super().compress(model, out), seconds=self._numbers[model] / 1e9)
