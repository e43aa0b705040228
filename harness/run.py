"""Running the suites: pytest in a process of its own, so that a crash of the subject cannot take the records along."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import AuditError
from harness.evidence import EVIDENCE_FILE, Profile, read_run
from harness.scorecard import Scorecard, build, save
from harness.scratch import scratch_folder

DEFAULT_OUT = Path("reports/latest")
ONLY_OUT = Path("reports/only")
HISTORY = Path("reports/history")
_USAGE_ERROR = 4  # pytest's exit status for options and markers that it was given wrongly


class RefusedError(AuditError):
    """The input was refused before any check ran; pytest has already written the reason to standard error."""


@dataclass(frozen=True)
class Request:
    """What to audit and how; empty `models` leaves the choice to the plugin's default."""

    subject: str
    profile: Profile
    models: tuple[str, ...]
    seed: int
    only: tuple[str, ...]
    out: Path


def audit(request: Request, suites: Path | None = None) -> Scorecard:
    """Run the suites and build the scorecard, also of a run that stopped early.

    The evidence is written to `request.out`.

    Raises:
        RefusedError: the input was refused before any check ran, and the reason is on standard error.
        AuditError: there is no place for the evidence, or the run stopped before its first check.
    """
    evidence = request.out / EVIDENCE_FILE
    try:
        evidence.unlink(missing_ok=True)
    except OSError as error:
        raise AuditError(f"cannot write into {request.out}: {error.strerror}; choose another --out") from error
    status = _pytest(request, suites or suites_directory())
    if not evidence.is_file():
        if status == _USAGE_ERROR:
            raise RefusedError(
                "the audit did not start, for the reason that pytest gave; correct that and run it again"
            )
        raise AuditError(f"the audit stopped before its first check, with pytest's exit status {status}; see above")
    return build(read_run(evidence))


def keep_in_history(scorecard: Scorecard, directory: Path = HISTORY) -> Path:
    """Write a scorecard under its date and commit; an existing file is never overwritten."""
    commit = scorecard.commit.id[:12] if scorecard.commit else "no-commit"
    moment = scorecard.started.partition("+")[0].replace(":", "").replace("-", "")
    path, number = directory / f"{moment}-{commit}.json", 1
    while path.exists():
        number += 1
        path = directory / f"{moment}-{commit}-{number}.json"
    return save(scorecard, path)


def suites_directory() -> Path:
    """Where the suites are installed; raises AuditError where they are not."""
    spec = importlib.util.find_spec("suites")
    if spec is None or not spec.submodule_search_locations:
        raise AuditError("the package `suites` is not installed; install bitnet-audit with the extra [audit]")
    return Path(next(iter(spec.submodule_search_locations)))


def _pytest(request: Request, suites: Path) -> int:
    # Nothing of the directory that the user stands in may change an audit: no configuration, cache or other plugin.
    words = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "-c", os.devnull]
    words += ["--rootdir", str(suites.parent), "--confcutdir", str(suites), "--strict-markers", "--disable-warnings"]
    words += ["--continue-on-collection-errors", "--tb=no", "-rN", *_options(request), str(suites)]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
    }
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    # Threads that wait for work give their core away: on a busy machine, spinning made the audit three times slower.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What checks and subjects leave in temporary folders goes with this one, also where they were killed.
    with (
        scratch_folder("run") as scratch,
        subprocess.Popen(words, env=environment | {"TMPDIR": str(scratch)}) as process,
    ):
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # pytest had it too, and is writing its last line
                continue


def _options(request: Request) -> Sequence[str]:
    words = ["--subject", request.subject, "--profile", request.profile, "--seed", str(request.seed)]
    words += [word for model in request.models for word in ("--model", model)]
    words += [word for each in request.only for word in ("--only", each)]
    return [*words, "--scorecard", str(request.out)]
