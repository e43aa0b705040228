"""What a subject says of its command line, so that it can be disturbed: settings that make it write and call out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Calling:
    """Settings with which a compression calls a service, and environment variables that say where it is."""

    settings: Mapping[str, str]
    environment: Mapping[str, str]


@runtime_checkable
class EnduresFaults(Protocol):
    """Has a `compress` (see `RunsCommand`) that goes on where it was, whatever ended it, when it is started again."""

    @property
    def enduring_settings(self) -> Mapping[str, str]:
        """Settings, beside those of `CompressesModels.compress`, for a small model and little time.

        With them a run takes every kind of step that writes, and keeps its state as often as it can.
        """
        ...

    def callings(self, url: str) -> Mapping[str, Calling]:
        """How to have a compression call each service that it can call, by the service's name, at an HTTP URL."""
        ...
