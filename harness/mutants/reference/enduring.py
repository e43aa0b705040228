"""A subject whose command line endures faults; it has at most one defect."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.subject import Calling, Declaration

COMMAND = Path(__file__).with_name("enduring_command.py")
TRUSTING = ("digests not compared", "half-written outputs pass")


@dataclass(frozen=True)
class EnduringSubject:
    """Compresses by the made-up command line; "" is right."""

    defect: str = ""
    manifest_files = ("comes_in.json", "goes_out.json")

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"endures {self.defect or 'everything'}", version="1")

    @property
    def command(self) -> tuple[str, ...]:
        """See `harness.subject.RunsCommand`."""
        return (sys.executable, "-I", "-S", str(COMMAND), self.defect)

    @property
    def enduring_settings(self) -> dict[str, str]:
        """See `harness.subject.EnduresFaults`."""
        return {}

    def callings(self, url: str) -> dict[str, Calling]:
        """See `harness.subject.EnduresFaults`."""
        return {"tracker": Calling({"tracking": "yes"}, {"TRACKER": url})}

    def check_phase3(self, folder: Path) -> dict[str, Any]:
        """See `harness.subject.HandsOver`."""
        return {"model_path": str(folder)}

    def check_phase5(self, out: Path) -> dict[str, Any]:
        """See `harness.subject.HandsOver`."""
        path = out / "goes_out.json"
        if not path.is_file():
            raise ValueError("there is no manifest")
        if self.defect in TRUSTING:
            return {}
        digests: dict[str, str] = json.loads(path.read_bytes())
        if sorted(digests) != ["fp16/model.bin", "packed/model.bin"]:
            raise ValueError("the manifest is damaged")
        for name, digest in digests.items():
            file = out / name
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} is damaged")
        return {"files": digests}
