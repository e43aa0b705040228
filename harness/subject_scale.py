"""What a subject may offer beyond what one process can hold or do: models in shards, training by several processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor, nn


@runtime_checkable
class StreamsModels(Protocol):
    """Compresses models that do not fit into memory."""

    def compress_streamed(self, model_folder: Path, out: Path) -> Path:
        """Compress a Hugging Face folder of safetensors shards into the new folder `out`, by a rule alone.

        Nothing is evaluated. Gives the folder of the dequantized model, in safetensors and with the model's own names.
        """
        ...


@runtime_checkable
class TrainsTogether(Protocol):
    """Fine-tunes one model with several processes."""

    def fine_tune_together(
        self, packed: Path, samples: Int64[Tensor, "samples tokens"], steps: int, folder: Path, stop_after: int | None
    ) -> tuple[nn.Module, Sequence[float]] | None:
        """As `ResumesFineTuning.fine_tune_resumably`, without dropout; with losses of batches, the last one's last.

        Batches have four samples. All processes that a launcher has started call it with the same arguments; they find
        each other by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun and accelerate set them.
        """
        ...
