"""Fine-tuning that is interrupted after a step, as if its process had been killed there."""

from __future__ import annotations


class Interrupted(Exception):  # noqa: N818 - nothing has gone wrong
    """Fine-tuning is to end here."""


class Interruption:
    """To be told of progress, and asked for the loss: every step is better than the one before, so the last is kept."""

    def __init__(self, after: int | None) -> None:
        """Args: `after` is the step that nothing follows; None lets fine-tuning come to its end."""
        self._after, self._latest = after, 0

    def progress(self, done: int, planned: int) -> None:
        """Take note of a step; raises Interrupted where it is the one, unless all steps that were planned are done."""
        self._latest = done
        if done == self._after and done < planned:
            raise Interrupted

    def loss(self) -> float:
        """Less after every step."""
        return -float(self._latest)
