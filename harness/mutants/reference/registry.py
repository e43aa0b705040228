"""A subject with a registry of plain folders; each defect is one thing that the registry gets wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from harness.mutants.reference.folders import FolderSubject
from harness.subject import CompressionOutcome, RegisteredVersion


@dataclass(frozen=True)
class RegistrySubject(FolderSubject):
    """Its compressions pass every gate where the model is wide enough."""

    @override
    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        outcome = super().compress(model_folder, out, overrides)
        result: dict[str, Any] = dict(outcome.result)
        if json.loads((model_folder / "config.json").read_text())["hidden_size"] > 32:
            result["gates"] = [gate | {"measured": gate["limit"], "passed": True} for gate in result["gates"]]
            result["success"] = True
        (out / "result.json").write_text(json.dumps(result))
        kept = json.loads((out / "goes_out.json").read_text())
        (out / "goes_out.json").write_text(json.dumps(kept | self.statement(out)))
        return type(outcome)(outcome.packed, outcome.dequantized, result)

    def open_registry(self, folder: Path) -> FolderRegistry:
        """See `harness.subject_ecosystem.RegistersModels`."""
        return FolderRegistry(self, folder)


@dataclass
class FolderRegistry:
    """`folder`/NAME/VERSION/files with what was pushed, and record.json beside it."""

    subject: RegistrySubject
    folder: Path

    def push(self, out: Path, name: str, scorecard: Path | None = None) -> RegisteredVersion:
        """See `harness.subject_ecosystem.ModelRegistry`."""
        manifest = self.subject.check_phase5(out)
        digest = hashlib.sha256((out / "goes_out.json").read_bytes()).hexdigest()
        known = [made for made in self.versions(name) if made.digests["manifest"] == digest] if self.has(name) else []
        again = known and self.defect != "registered again each time"
        number = known[0].version if again else len(list((self.folder / name).glob("*"))) + 1
        place = self.folder / name / str(number)
        if not again:
            shutil.copytree(out, place / "files", ignore=self.left_out)
        scorecards = {} if scorecard is None else {"scorecard": hashlib.sha256(scorecard.read_bytes()).hexdigest()}
        if self.defect == "scorecards lost":
            scorecards = {}
        record: dict[str, Any] = {
            "gates": {gate["name"]: gate["passed"] for gate in manifest["gates"]},
            "digests": {"manifest": digest} | scorecards,
            "lineage": {"phase3": manifest["phase3"]["model_path"], "phase5": "goes_out.json"},
            "promoted": False,
        }
        if self.defect == "origin lost":
            record["lineage"]["phase3"] = "unknown"
        (place / "record.json").write_text(json.dumps(record))
        return self.version(name, number)

    def left_out(self, folder: str, names: list[str]) -> list[str]:
        """The files that are not kept."""
        return [name for name in names if name == "result.json"] if self.defect == "files left out" else []

    @property
    def defect(self) -> str:
        """What it gets wrong."""
        return self.subject.defect

    def has(self, name: str) -> bool:
        """Whether a version of that name is there."""
        return (self.folder / name).is_dir()

    def version(self, name: str, number: int) -> RegisteredVersion:
        """What the record of a version says."""
        record = json.loads((self.folder / name / str(number) / "record.json").read_text())
        return RegisteredVersion(name=name, version=number, **record)

    def versions(self, name: str) -> list[RegisteredVersion]:
        """See `harness.subject_ecosystem.ModelRegistry`."""
        return [self.version(name, int(path.name)) for path in sorted((self.folder / name).iterdir())]

    def promote(self, name: str, version: int) -> None:
        """See `harness.subject_ecosystem.ModelRegistry`."""
        missed = [gate for gate, passed in self.version(name, version).gates.items() if not passed]
        if missed and self.defect != "gates not looked at":
            raise ValueError(f"{missed[0]} was missed")
        file = self.folder / name / str(version) / "record.json"
        promoted = self.defect != "promotion without an effect"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"promoted": promoted}))

    def fetch(self, name: str, version: int | None, out: Path) -> None:
        """See `harness.subject_ecosystem.ModelRegistry`."""
        if version is None:
            version = next(made.version for made in self.versions(name) if made.promoted)
        files = self.folder / name / str(version) / "files"
        if self.defect not in ("damage not looked for", "files left out"):
            self.subject.check_phase5(files)
        shutil.copytree(files, out)
