from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import bench, cli
from harness.errors import AuditError
from harness.run import Request
from harness.scorecard import Scorecard
from tests.harness.render.test_targets import speeds


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    asked: list[Request] = []

    def audit(request: Request) -> Scorecard:
        asked.append(request)
        return speeds()

    monkeypatch.setattr(bench.run, "audit", audit)
    return asked


def test_it_measures_every_row_of_the_targets_and_leaves_its_reports(requests: list[Request], tmp_path: Path) -> None:
    bench.bench("bitnet", (), tmp_path)
    (request,) = requests
    assert (request.profile, request.models) == ("full", ("smollm2-135m",))
    assert request.only == ("A.speed-*", "A.memory-resident")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"targets.md", "benchmark.json", "scorecard.json", "scorecard.html"} <= names


def test_the_times_are_in_pytest_benchmarks_format(requests: list[Request], tmp_path: Path) -> None:
    bench.bench("bitnet", ("tiny",), tmp_path)
    told = json.loads((tmp_path / "benchmark.json").read_text())
    assert [each["name"] for each in told["benchmarks"]] == ["subject", "llama.cpp TQ2_0"]
    assert told["benchmarks"][0]["stats"]["median"] == 0.002
    assert told["benchmarks"][0]["stats"]["data"] == [0.001, 0.002, 0.003]
    words = [sys.executable, "-m", "pytest_benchmark", "compare", str(tmp_path / "benchmark.json"), "--columns=median"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "llama.cpp TQ2_0" in done.stdout


def test_without_pytest_benchmark_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_benchmark", None)
    with pytest.raises(AuditError, match="install it, or run `nox -s bench`"):
        bench.benchmark_json(speeds())


def test_the_command_prints_the_table(
    requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bitnet-audit", "bench", "--model", "tiny", "--out", str(tmp_path / "here")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Speed of made-up" in printed
    assert "targets.md" in printed
    assert requests[0].models == ("tiny",)
