"""What a subject says of its command line, so that it can be asked for a large model in few bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class SparesBits(Protocol):
    """Has a `compress` (see `RunsCommand`) that is told how far to go, and with how much effort."""

    def sparing_words(self, one_plane: bool, recovered: bool) -> Sequence[str]:
        """What follows `compress MODEL --out OUT` for a pretrained model on two cores.

        `one_plane`: a weight is one ternary code with its scale; else as few bits as pass the subject's own gate of
        quality. Without `recovered` nothing is trained, and it takes at most 15 minutes; with it, at most 60.
        """
        ...
