"""A subject with a command line that is made up, whose artefacts are copies of the model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer
from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject

COMMAND = Path(__file__).with_name("made_up_command.py")


@dataclass(frozen=True)
class CommandSubject(FolderSubject):
    """Has the made-up command line, whose artefacts are copies of the model."""

    answers: str = ""

    def __init__(self, answers: str, fault: str) -> None:
        object.__setattr__(self, "defect", fault)
        object.__setattr__(self, "answers", answers)

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start it."""
        return (sys.executable, "-I", "-S", str(COMMAND), self.answers, self.defect)

    @override
    def load_packed(self, path: Path) -> tuple[Any, Any]:
        return AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
