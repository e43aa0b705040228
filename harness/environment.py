"""The fingerprint of a run: what it ran on and at which commit."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

LIBRARIES = (
    "bitnet-audit",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "lm-eval",
    "hypothesis",
    "pytest",
    "gguf",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM")


class Environment(BaseModel):
    """Interpreter, machine, libraries and threads; a library that is not installed is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: str
    platform: str
    machine: str
    cpu: str
    cores: int
    libraries: dict[str, str]
    threads: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that two environments share only where everything in them is the same."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Commit(BaseModel):
    """The commit of the auditor's own sources; dirty when the work tree differs from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    dirty: bool


def describe_environment() -> Environment:
    """The environment of this process."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        cpu=_cpu_model(Path("/proc/cpuinfo")),
        cores=_usable_cores(),
        libraries=_library_versions(),
        threads=_threads(),
    )


def _cpu_model(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # respects containers and taskset, which cpu_count does not
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - systems without affinity


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _threads() -> dict[str, str]:
    threads = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    if torch := sys.modules.get("torch"):  # only what is loaded runs, so only that is described
        threads["torch"] = str(torch.get_num_threads())
        threads["torch_interop"] = str(torch.get_num_interop_threads())
    return threads


def describe_commit(directory: Path | None = None) -> Commit | None:
    """The commit that tracks a directory (by default the auditor's own package), or None without git or history."""
    directory = directory or Path(__file__).parent
    # An installed copy inside some other project's repository is ignored or untracked there: that is not our commit.
    head = _git(directory, "rev-parse", "HEAD")
    if not head or not _git(directory, "ls-files", "--", "."):
        return None
    return Commit(id=head, dirty=bool(_git(directory, "status", "--porcelain", "--", ":/")))


def _git(directory: Path, *arguments: str) -> str | None:
    # Hooks export GIT_DIR and friends, which would point at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
