"""Compressed models in an MLflow Model Registry: push, list, promote, fetch.

A version of a registered model is the output folder of one compression, as files (nothing is pickled), with its gates,
digests and lineage as tags, its metrics in the MLflow run behind it, and an audit's scorecard where one is given.
Without a URI the registry is an SQLite file in the user's data folder; MLFLOW_TRACKING_URI or a URI names another one.
"""

import contextlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from bitnet.checkpoint import atomic_directory, digest_file, read_json
from bitnet.errors import BitnetError, first_line
from bitnet.handoff_phase5 import PHASE5_MANIFEST, Phase5Manifest, check_phase5, read_phase5
from bitnet.result import FallbackRow, Phase4Result, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT: Final = "bitnet-phase4"
#: Where a version's files are in the MLflow run behind it.
FILES: Final = "model"
SCORECARD: Final = "scorecard"
CHAMPION: Final = "champion"
_TAG: Final = "bitnet."
#: Characters of what MLflow complains of: it names the address twice before the reason.
_COMPLAINT: Final = 1_000
#: MLflow by itself reports its use, draws progress bars, prints addresses, and asks a server that is down for minutes.
_MANNERS: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class RegisteredVersion(Record):
    """One version of a registered model. Digests are SHA-256; `gates` tells which passed."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    success: bool
    gates: dict[str, bool]
    compression_ratio: float | None
    final_perplexity: float | None
    phase3: dict[str, str]
    manifest_sha256: str
    scorecard_sha256: str | None
    command: str
    created: bool = False
    """Whether this call made it; False where the same artefact was there before."""


@dataclass(frozen=True)
class Registry:
    """An MLflow tracking server or database by its URI; `opened` makes one."""

    uri: str
    client: "MlflowClient"

    @classmethod
    def opened(cls, uri: str | None = None) -> "Registry":
        """The registry of that URI, of MLFLOW_TRACKING_URI, or the user's own.

        Raises:
            BitnetError: MLflow is not installed, or nothing answers there.
        """
        chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise BitnetError(
                "The model registry needs MLflow, which is not installed: pip install 'bitnet-audit[registry]'."
            ) from None
        for name in ("mlflow", "alembic"):  # migrations of the database are told line by line
            logging.getLogger(name).setLevel(logging.WARNING)
        with _told(chosen):
            if (database := _database(chosen)) is not None:
                database.parent.mkdir(parents=True, exist_ok=True)
            client = MlflowClient(tracking_uri=chosen, registry_uri=chosen)
            client.search_registered_models(max_results=1)
        return cls(chosen, client)

    # ----------------------------------------------------------------- operations

    def push(self, out: Path, name: str, scorecard: Path | None = None) -> RegisteredVersion:
        """Validate the output of a compression and register it; see `register`."""
        return self.register(out, check_phase5(out), name, scorecard)

    def register(
        self, out: Path, manifest: Phase5Manifest, name: str, scorecard: Path | None = None
    ) -> RegisteredVersion:
        """Register an output that is known to be valid, as a new version of the model `name`.

        The same artefact with the same outcome of its gates is registered once; a scorecard goes to the version that
        is there. What missed a gate is registered as such, and cannot be promoted.

        Raises:
            BitnetError: the registry does not answer or does not accept the name, or the scorecard cannot be read.
        """
        audited = {} if scorecard is None else _scorecard_tags(scorecard)
        with _told(self.uri):
            version = self._same(name, manifest)
            created = version is None
            if version is None:
                version = self._new(out, manifest, name)
            if scorecard is not None:
                self.client.log_artifact(version.run_id, str(scorecard), SCORECARD)
                for key, value in audited.items():
                    self.client.set_model_version_tag(name, version.version, key, value)
            return self._record(name, version.version).model_copy(update={"created": created})

    def versions(self, name: str | None = None) -> list[RegisteredVersion]:
        """Every version that this package registered, newest first, of one model or of all.

        Raises:
            BitnetError: the registry does not answer, or has no model of that name.
        """
        with _told(self.uri):
            if name is not None:
                self.client.get_registered_model(name)
            names = [name] if name is not None else [model.name for model in self._models()]
            found = [version for each in names for version in self._versions(each)]
            records = [self._record(version.name, version.version) for version in found if _ours(version)]
        return sorted(records, key=lambda record: (record.name, -record.version))

    def promote(self, selector: str, alias: str = CHAMPION) -> RegisteredVersion:
        """Give the alias to a version, which loses it to a later one; the gates are those of its own manifest.

        Raises:
            BitnetError: the version missed a gate or was not verified, its manifest is damaged, or it does not exist.
        """
        with _told(self.uri):
            version = self._find(selector)
            manifest = self._manifest(version)
            if manifest.missed:
                raise BitnetError(
                    f"{version.name}/{version.version} missed {', '.join(manifest.missed)}, so it cannot be promoted: "
                    "register a compression that passes every gate."
                )
            if not manifest.success:
                raise BitnetError(
                    f"{version.name}/{version.version} was not verified in a fresh process, so it cannot be promoted: "
                    "compress the model again."
                )
            self.client.set_registered_model_alias(version.name, alias, version.version)
            return self._record(version.name, version.version)

    def fetch(self, selector: str, out: Path) -> RegisteredVersion:
        """Copy a version into the new folder `out`, once every digest has been compared and both models have run.

        Raises:
            BitnetError: `out` exists, there is no such version, or what the registry holds is damaged.
        """
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BitnetError(f"{out} already exists: choose another --out.")
        with _told(self.uri):
            version = self._find(selector)
            with atomic_directory(out) as temporary:
                copied = Path(self.client.download_artifacts(version.run_id, FILES, str(temporary)))
                for entry in sorted(copied.iterdir()):
                    entry.rename(temporary / entry.name)
                copied.rmdir()
                self._check_manifest(version, temporary / PHASE5_MANIFEST)
                check_phase5(temporary)
            return self._record(version.name, version.version)

    # ----------------------------------------------------------------- parts

    def _new(self, out: Path, manifest: Phase5Manifest, name: str) -> "ModelVersion":
        if not self.client.search_registered_models(_named(name), max_results=1):
            self.client.create_registered_model(name)
        run = self.client.create_run(self._experiment(), run_name=manifest.run_id).info.run_id
        status = "FAILED"
        try:
            self.client.log_batch(run, metrics=_measured(manifest), params=_settings(manifest))
            self.client.log_artifacts(run, str(out), FILES)
            source = f"{self.client.get_run(run).info.artifact_uri}/{FILES}"
            tags = _tags(manifest, digest_file(out / PHASE5_MANIFEST))
            version = self.client.create_model_version(name, source, run, tags=tags)
            status = "FINISHED"
        finally:
            self.client.set_terminated(run, status)
        return version

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        database = _database(self.uri)  # a server knows where it keeps files; a database alone does not
        place = None if database is None else (database.parent / "artifacts").as_uri()
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))

    def _same(self, name: str, manifest: Phase5Manifest) -> "ModelVersion | None":
        """A version with the same models and the same outcome."""
        tags = _tags(manifest, "")
        for version in self._versions(name):
            if all(version.tags.get(_TAG + key) == tags[_TAG + key] for key in ("run_id", "gates", "success")):
                return version
        return None

    def _models(self) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = self.client.search_registered_models(page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _versions(self, name: str) -> "Iterator[ModelVersion]":
        token: str | None = None
        while True:
            page = self.client.search_model_versions(_named(name), page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _find(self, selector: str) -> "ModelVersion":
        """NAME/3, NAME@alias, or NAME for the newest one."""
        name, _, alias = selector.partition("@")
        name, _, number = name.partition("/")
        if alias:
            found = self.client.get_model_version_by_alias(name, alias)
        elif number:
            found = self.client.get_model_version(name, number)
        else:
            newest = sorted(self._versions(name), key=lambda version: int(version.version))
            if not newest:
                raise BitnetError(f"The registry has no model '{name}': `bitnet registry list` shows what it has.")
            found = newest[-1]
        if not _ours(found):
            raise BitnetError(f"{selector} was not registered by bitnet: choose a version from `bitnet registry list`.")
        return found

    def _manifest(self, version: "ModelVersion") -> Phase5Manifest:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(self.client.download_artifacts(version.run_id, f"{FILES}/{PHASE5_MANIFEST}", folder))
            self._check_manifest(version, file)
            return read_phase5(file)

    def _check_manifest(self, version: "ModelVersion", file: Path) -> None:
        if digest_file(file) != version.tags[_TAG + "manifest_sha256"]:
            raise BitnetError(
                f"The {PHASE5_MANIFEST} of {version.name}/{version.version} is not the one that was registered: "
                "register the model again."
            )

    def _record(self, name: str, number: str) -> RegisteredVersion:
        version = self.client.get_model_version(name, number)
        tags = {key.removeprefix(_TAG): value for key, value in version.tags.items() if key.startswith(_TAG)}
        metrics = self.client.get_run(version.run_id).data.metrics
        straight = metrics.get("compression/post_perplexity")  # final where recovery did not run
        return RegisteredVersion(
            name=name,
            version=int(version.version),
            aliases=tuple(sorted(version.aliases)),
            run_id=tags["run_id"],
            success=tags["success"] == "true",
            gates=json.loads(tags["gates"]),
            compression_ratio=metrics.get("compression/ratio"),
            final_perplexity=metrics.get("compression/post_finetune_perplexity", straight),
            phase3={key.removeprefix("phase3."): value for key, value in tags.items() if key.startswith("phase3.")},
            manifest_sha256=tags["manifest_sha256"],
            scorecard_sha256=tags.get("scorecard_sha256"),
            command=tags["command"],
        )


def register(result: Phase4Result, out: Path) -> Phase4Result:
    """Put a finished run, verified and complete in `out`, into the registry where its setting `registry` names a model.

    Returns:
        The result, with one fallback more where that failed: a compression is not lost to a registry that is down.
    """
    name = result.config["registry"]
    if name is None:
        return result
    try:
        Registry.opened().register(out, read_phase5(out / PHASE5_MANIFEST), name)
    except BitnetError as error:
        row = FallbackRow(step="registry", used="the output folder alone", reason=str(error))
        return result.model_copy(update={"fallbacks": (*result.fallbacks, row)})
    return result


def default_uri() -> str:
    """An SQLite file in the user's data folder."""
    return f"sqlite:///{platformdirs.user_data_path('bitnet-audit') / 'registry' / 'mlflow.db'}"


def _database(uri: str) -> Path | None:
    """The file of an SQLite URI."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def _named(name: str) -> str:
    """A filter of MLflow's for one name."""
    if "'" in name:
        raise BitnetError(f"The name {name} holds a quotation mark: choose another one.")
    return f"name = '{name}'"


def _ours(version: "ModelVersion") -> bool:
    return f"{_TAG}run_id" in version.tags


def _tags(manifest: Phase5Manifest, manifest_sha256: str) -> dict[str, str]:
    """What a version says: gates, digests, and where it comes from and goes to."""
    values = {
        "run_id": manifest.run_id,
        "success": json.dumps(manifest.success),
        "gates": json.dumps({gate.name: gate.passed for gate in manifest.gates}),
        "manifest_sha256": manifest_sha256,
        "phase3.model_path": manifest.phase3.model_path,
        "phase3.tokenizer_sha256": manifest.phase3.tokenizer_sha256,
        "phase3.synthesised": json.dumps(manifest.phase3.synthesised),
        "phase5.handoff": f"{FILES}/{PHASE5_MANIFEST}",
        "phase5.primary": f"{FILES}/{manifest.primary}",
        "command": manifest.command,
    }
    return {_TAG + key: value for key, value in values.items()}


def _measured(manifest: Phase5Manifest) -> "list[Metric]":
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, 0) for name, value in manifest.metrics.items()]


def _settings(manifest: Phase5Manifest) -> "list[Param]":
    from mlflow.entities import Param

    return [Param(name, getattr(manifest, name)) for name in ("rule", "granularity", "codec")]


def _scorecard_tags(scorecard: Path) -> dict[str, str]:
    card = read_json(scorecard)
    if not isinstance(card, dict) or "overall" not in card or "criteria" not in card:
        raise BitnetError(f"{scorecard} is no scorecard: give the scorecard.json of an audit.")
    return {
        f"{_TAG}scorecard_sha256": digest_file(scorecard),
        f"{_TAG}scorecard_overall": json.dumps(card["overall"])[:500],
    }


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database or the network complain of is told in one sentence."""
    try:
        yield
    except BitnetError:
        raise
    except Exception as error:  # of MLflow, SQLAlchemy, requests and the artefact stores
        told = f"The model registry {uri} does not do this ({first_line(error, _COMPLAINT)}): check the name and --uri."
        raise BitnetError(re.sub("//[^/ ]*@", "//", told)) from error  # without a password
