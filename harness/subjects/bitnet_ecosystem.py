"""What the subject `bitnet` offers to its surroundings: handoffs, tracking, registry, dashboard, other libraries."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bitnet.config import Phase4Config
from harness.subject import JSON, Calling, CompressesModels, CompressionOutcome, RegisteredVersion
from harness.subject_interop import EXPORT_TARGETS

if TYPE_CHECKING:
    from bitnet.registry import RegisteredVersion as Version
    from bitnet.registry import Registry
    from harness.subject_ecosystem import ModelRegistry

#: An account that no server has, and seconds to wait for one.
NO_ACCOUNT = {"WANDB_API_KEY": 40 * "0", "WANDB_INIT_TIMEOUT": "2"}
#: See `harness.subject.EnduresFaults`.
ENDURING = {
    "calibration_tokens": "32",
    "compensation": "sequential",
    "compensation_samples": "4",
    "compensation_tokens": "32",
    "granularity": "group",
    "group_size": "16",
    "evaluation_tokens": "128",
    "checkpoint_steps": "2",
    "batch_size": "4",
}


class BitnetEcosystem:
    """Handoffs, tracking, registry, dashboard, and what other libraries read, on `bitnet`'s public functions alone."""

    @property
    def manifest_files(self) -> tuple[str, str]:
        """`bitnet.handoff.PHASE3_MANIFEST` and `bitnet.handoff_phase5.PHASE5_MANIFEST`."""
        from bitnet.handoff import PHASE3_MANIFEST
        from bitnet.handoff_phase5 import PHASE5_MANIFEST

        return PHASE3_MANIFEST, PHASE5_MANIFEST

    def check_phase3(self, folder: Path) -> Mapping[str, JSON]:
        """`bitnet.handoff.phase3_manifest`, with the folder's own tokenizer."""
        from bitnet.artifacts import load_tokenizer
        from bitnet.handoff import phase3_manifest

        manifest = phase3_manifest(str(folder), folder, load_tokenizer(folder))
        return cast("Mapping[str, JSON]", manifest.model_dump(mode="json"))

    def check_phase5(self, out: Path) -> Mapping[str, JSON]:
        """`bitnet.handoff_phase5.check_phase5`."""
        from bitnet.handoff_phase5 import check_phase5

        return cast("Mapping[str, JSON]", check_phase5(out).model_dump(mode="json"))

    def compress_tracked(
        self, model_folder: Path, out: Path, overrides: Mapping[str, str], server: str | None
    ) -> tuple[CompressionOutcome, Path]:
        """`compress` with the setting `tracking`."""
        asked = {**overrides, "tracking": "offline" if server is None else "online"}
        with _environment({} if server is None else {"WANDB_BASE_URL": server, **NO_ACCOUNT}):
            outcome = cast(CompressesModels, self).compress(model_folder, out, asked)
        (recorded,) = out.rglob("*.wandb")
        return outcome, recorded

    def open_registry(self, folder: Path) -> ModelRegistry:
        """`bitnet.registry.Registry` on a database in the folder."""
        from bitnet.registry import Registry

        return _Registry(Registry.opened(f"sqlite:///{folder}/mlflow.db"))

    def dashboard_command(self, reports: Path, runs: Path, port: int) -> Sequence[str]:
        """`bitnet dashboard`, once it is seen that Streamlit is there."""
        importlib.import_module("streamlit")
        options = ["--reports", str(reports), "--run", str(runs), "--port", str(port)]
        return [sys.executable, "-m", "bitnet", "dashboard", *options]

    def dashboard_texts(self, reports: Path, runs: Path) -> Mapping[str, str]:
        """`bitnet.dashboard.rendering` of every page."""
        from bitnet.dashboard.rendering import every_page

        return every_page(reports, [runs])

    # ----------------------------------------------------------------- faults

    @property
    def enduring_settings(self) -> Mapping[str, str]:
        """Compensation and recovery of a few tokens each, with a checkpoint at every other step."""
        return ENDURING

    def callings(self, url: str) -> Mapping[str, Calling]:
        """Weights & Biases and an MLflow server."""
        return {
            "wandb": Calling({"tracking": "online"}, {"WANDB_BASE_URL": url, **NO_ACCOUNT}),
            "mlflow": Calling(
                {"registry": "faults"}, {"MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
            ),
        }

    # ----------------------------------------------------------------- other libraries

    registering_module = "bitnet"
    export_targets = EXPORT_TARGETS
    lm_eval_model = ("bitnet", "path")
    local_tasks = ("bitnet_stdlib_facts", "bitnet_copy")

    @property
    def lm_eval_command(self) -> tuple[str, ...]:
        """`bitnet lm-eval`."""
        return sys.executable, "-m", "bitnet", "lm-eval"

    @property
    def task_folder(self) -> Path:
        """`bitnet.tasks`."""
        from bitnet.tasks import FOLDER

        return FOLDER

    def pack_for_export(self, model_folder: Path, target: str, out: Path) -> Path:
        """`bitnet.compressed_model` by rule "absmean", saved as it is."""
        from bitnet.artifacts import save_packed
        from bitnet.compressed_model import CompressedModel
        from bitnet.huggingface import load_folder

        model, tokenizer = load_folder(model_folder)
        granularity = "tensor" if target == "huggingface" else "channel"
        config = Phase4Config(rule="absmean", granularity=granularity, planes=1, compensation="none")
        out.mkdir(parents=True)
        save_packed(CompressedModel.from_model(model, config.resolved(model.num_parameters())).packed(), tokenizer, out)
        return out

    def export(self, packed: Path, target: str, out: Path) -> None:
        """`bitnet.export.export`."""
        from bitnet.export import export

        if target == "gguf-f16":
            export(packed, out, "gguf", "f16")
        else:
            export(packed, out, target)


class _Registry:
    """`bitnet.registry.Registry` as the protocol has it."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def push(self, out: Path, name: str, scorecard: Path | None = None) -> RegisteredVersion:
        """As `bitnet registry push`."""
        return _version(self.registry.push(out, name, scorecard))

    def versions(self, name: str) -> Sequence[RegisteredVersion]:
        """As `bitnet registry list`."""
        return [_version(version) for version in self.registry.versions(name)]

    def promote(self, name: str, version: int) -> None:
        """As `bitnet registry promote`."""
        self.registry.promote(f"{name}/{version}")

    def fetch(self, name: str, version: int | None, out: Path) -> None:
        """As `bitnet registry fetch`."""
        self.registry.fetch(f"{name}@champion" if version is None else f"{name}/{version}", out)


def _version(made: Version) -> RegisteredVersion:
    digests = {"manifest": made.manifest_sha256, "scorecard": made.scorecard_sha256}
    return RegisteredVersion(
        name=made.name,
        version=made.version,
        promoted="champion" in made.aliases,
        gates=made.gates,
        digests={kind: digest for kind, digest in digests.items() if digest is not None},
        lineage={"phase3": made.phase3["model_path"], "phase5": made.manifest_sha256},
    )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
