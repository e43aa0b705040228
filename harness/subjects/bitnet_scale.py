"""What the subject `bitnet` does with models in shards, and with several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet.config import Phase4Config
from harness.subjects.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor, nn


class BitnetScale:
    """The capabilities of `BitnetSubject` beyond one process's memory and work."""

    def compress_streamed(self, model_folder: Path, out: Path) -> Path:
        """Stages 1 and 4 of `bitnet.phase_controller`, streamed, by rule "absmean"."""
        import torch

        from bitnet.calibration import CalibrationReport
        from bitnet.phase_controller import load
        from bitnet.phase_state import Calibration
        from bitnet.streamed_compressor import compress_streamed

        out.mkdir(parents=True)
        run = load(str(model_folder), out / "unused", Phase4Config(rule="absmean", streaming="always"))
        nothing = Calibration(torch.empty(0, 0, dtype=torch.int64), None, CalibrationReport("none", 1, 1, 0))
        compress_streamed(run, nothing, out, lambda *_: None)
        return out / "fp16"

    def fine_tune_together(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, folder: Path, stop_after: int | None
    ) -> tuple[nn.Module, Sequence[float]] | None:
        """`bitnet.fine_tuner.recover` with `Workers` and `Checkpoints`; it keeps the last step's weights."""
        from bitnet.artifacts import load_trainable
        from bitnet.fine_tuner import recover
        from bitnet.recovery_checkpoint import Checkpoints
        from bitnet.workers import Workers

        config = Phase4Config(
            fine_tune_steps=steps, fine_tune_lr=1e-3, fine_tune_batch_size=4, batch_size=2, fine_tune_budget=None
        )
        compressed, stop = load_trainable(packed), Interruption(stop_after)
        with contextlib.suppress(Interrupted):
            checkpoints = Checkpoints(folder, "audit", 3)
            workers = Workers.current()
            report = recover(compressed, samples, config, stop.loss, stop.progress, None, checkpoints, workers)
            return compressed.model, [point.loss for point in report.training]
        return None
