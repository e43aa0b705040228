"""Everything that reads what others have made, each with a good example to be spoilt.

A reader is given a fresh copy of the example's folder in which one file has been replaced.
"""

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from typer.testing import CliRunner

from bitnet.artifacts import load_packed
from bitnet.checkpoint import digest_file
from bitnet.config import Phase4Config
from bitnet.dashboard.jobs import Job, job_folder, read_job
from bitnet.dashboard.runs import read_speed, speed_file
from bitnet.dashboard.scorecards import load_scorecard
from bitnet.engines import open_engine
from bitnet.handoff import Phase3Manifest, phase3_manifest, tokenizer_digest
from bitnet.handoff_phase5 import check_phase5
from bitnet.models import load_model
from bitnet.progress_file import Progress, read_progress
from bitnet.result import load_result
from harness.cli import app
from harness.criteria import load_rulebook
from harness.expectations import read_expectations
from harness.gate import load_thresholds
from harness.scorecard import build, load, to_json
from harness.timings import read_benchmark
from tests.bitnet.cli.program import bitnet, settings
from tests.bitnet.small_gguf import write_gguf
from tests.bitnet.small_models import small_model, small_tokenizer
from tests.harness import made_up

THRESHOLDS = "[tool.bitnet-audit.gate]\noverall = '>= 0.1'\nmax_red = 15\n"
TIMES = {"benchmarks": [{"name": "a", "group": "g", "stats": {"data": [1.0, 2.0]}, "extra_info": {}}]}
PROGRESS = Progress(
    command="bitnet compress",
    process=1,
    started=1.0,
    updated=2.0,
    stages=7,
    done=(),
    running="calibrate",
    step=1,
    steps=2,
)


@dataclass(frozen=True)
class Reader:
    """`file` of the folder `of` is what is spoilt; `repair` writes digests anew, so that it is looked into."""

    of: str
    file: str
    read: Callable[[Path], object]
    repair: Callable[[Path], object] = lambda _: None

    def example(self, root: Path) -> bytes:
        """The content of the good file."""
        return (root / self.of / self.file).read_bytes()

    def __call__(self, root: Path, content: bytes, folder: Path) -> object:
        """Read a copy of the example in which the file has this content."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / self.of, folder)
        (folder / self.file).write_bytes(content)
        self.repair(folder)
        return self.read(folder)


def examples(root: Path) -> None:
    """Make the good examples."""
    small_model("llama").save_pretrained(root / "plain")
    small_tokenizer().save_pretrained(root / "plain")
    manifest = Phase3Manifest(
        model_path="m",
        tokenizer_sha256=tokenizer_digest(small_tokenizer()),
        vocabulary_size=len(small_tokenizer()),
        strategy_accuracies={"s": 0.5},
        anti_theater={"t": True},
        metrics={"x": 1.0},
    )
    (root / "plain" / "phase3.json").write_text(manifest.model_dump_json(exclude={"synthesised"}))
    made = bitnet("compress", root / "plain", "--out", root / "out", "-q", *settings(compression_target=1.0))
    assert made.exit_code in (0, 1), made.stderr
    for name in ("gguf", "records", "audit", "settings"):
        (root / name).mkdir()
    write_gguf(root / "gguf" / "model.gguf", small_model("llama"), small_tokenizer())
    (root / "settings" / "phase4.yaml").write_text(Phase4Config(seed=1, codec="base3").to_yaml())
    card = to_json(build(made_up.run(), load_rulebook()))
    audit = {
        "card.json": card,
        "pyproject.toml": THRESHOLDS,
        "known.txt": "A.* # why\n",
        "times.json": json.dumps(TIMES),
    }
    for name, text in audit.items():
        (root / "audit" / name).write_text(text)
    (root / "records" / "o").mkdir()
    for folder, name, text in (
        (".o.work", "progress.json", PROGRESS.model_dump_json()),
        (job_folder(Path("o")).name, "job.json", Job(words=("compress",), started=1.0).model_dump_json()),
    ):
        (root / "records" / folder).mkdir()
        (root / "records" / folder / name).write_text(text)
    speed_file(root / "records" / "o").write_text("{}")


def _packed_digests(folder: Path) -> None:
    """Write the digests anew, as whoever makes a hostile folder would."""
    record = json.loads((folder / "bitnet.json").read_text())
    for name in record["files"]:
        path = folder / name
        record["files"][name] = {"sha256": digest_file(path), "bytes": path.stat().st_size}
    (folder / "bitnet.json").write_text(json.dumps(record))


def _phase3(folder: Path) -> object:
    return phase3_manifest("m", folder, small_tokenizer())


def _generate(folder: Path) -> object:
    engine = open_engine(str(folder))
    return list(engine.tokens(engine.encode("the"), 2, 0.0, 0))


def _audit(*words: str) -> Callable[[Path], object]:
    """A command of `bitnet-audit`, whose errors come out as they are raised."""

    def run(folder: Path) -> object:
        given = [str(folder / word) if "." in word and not word.startswith("-") else word for word in words]
        ended = CliRunner().invoke(app, given)
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return ended.exit_code

    return run


def _settings(folder: Path) -> object:
    return Phase4Config.from_yaml(folder / "phase4.yaml").resolved(1000)


@functools.cache
def readers() -> Mapping[str, Reader]:
    """All of them by name."""
    return MappingProxyType(
        {
            "packed-manifest": Reader("out/packed", "bitnet.json", load_packed),
            "packed-config": Reader("out/packed", "config.json", load_packed, _packed_digests),
            "packed-generation": Reader("out/packed", "generation_config.json", _generate, _packed_digests),
            "packed-tokenizer": Reader("out/packed", "tokenizer_config.json", load_packed, _packed_digests),
            "packed-vocabulary": Reader("out/packed", "tokenizer.json", load_packed, _packed_digests),
            "packed-weights": Reader("out/packed", "model.safetensors", load_packed, _packed_digests),
            "runtime-config": Reader("out/packed", "config.json", _generate, _packed_digests),
            "plain-config": Reader("plain", "config.json", lambda folder: load_model(str(folder))),
            "plain-weights": Reader("plain", "model.safetensors", lambda folder: load_model(str(folder))),
            "gguf": Reader("gguf", "model.gguf", lambda folder: load_model(str(folder / "model.gguf"))),
            "phase3": Reader("plain", "phase3.json", _phase3),
            "phase5": Reader("out", "manifest.json", check_phase5),
            "result": Reader("out", "result.json", load_result),
            "progress": Reader("records", ".o.work/progress.json", lambda folder: read_progress(folder / "o")),
            "job": Reader("records", ".o.job/job.json", lambda folder: read_job(folder / "o")),
            "speed": Reader("records", "o-speed.json", lambda folder: read_speed(folder / "o")),
            "shown-scorecard": Reader("audit", "card.json", lambda folder: load_scorecard(folder / "card.json")),
            "settings": Reader("settings", "phase4.yaml", _settings),
            "scorecard": Reader("audit", "card.json", lambda folder: load(folder / "card.json")),
            "gate": Reader("audit", "card.json", _audit("gate", "card.json", "--pyproject", "pyproject.toml")),
            "report": Reader("audit", "card.json", _audit("report", "card.json", "--format", "md", "--out", "out.md")),
            "diff": Reader("audit", "card.json", _audit("diff", "card.json", "card.json")),
            "thresholds": Reader("audit", "pyproject.toml", lambda folder: load_thresholds(folder / "pyproject.toml")),
            "known": Reader("audit", "known.txt", lambda folder: read_expectations(folder / "known.txt")),
            "times": Reader("audit", "times.json", lambda folder: read_benchmark(folder / "times.json")),
        }
    )
