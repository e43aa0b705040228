from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import bench
from harness.errors import AuditError
from harness.timings import read_benchmark, speedup_lines, speedups
from tests.harness.render.test_targets import speeds

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0]


def benchmark(name: str, seconds: list[float], group: str | None = None, interleaved: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "group": group,
        "stats": {"data": seconds, "median": 1.0},
        "extra_info": {"interleaved": True} if interleaved else {},
    }


def written(tmp_path: Path, *benchmarks: dict[str, Any]) -> Path:
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"benchmarks": benchmarks, "version": "5"}))
    return path


def lines(path: Path, baseline: str = "old") -> list[str]:
    return list(speedup_lines(speedups(read_benchmark(path), baseline)))


def test_each_arm_is_compared_with_the_baseline_of_its_group(tmp_path: Path) -> None:
    fast, slow = [each / 4 for each in STEADY], [each * 2 for each in STEADY]
    path = written(
        tmp_path,
        benchmark("old", STEADY, "a"),
        benchmark("old (again)", STEADY[::-1], "a"),
        benchmark("new", fast, "a"),
        benchmark("old", slow, "b"),
        benchmark("new", STEADY, "b"),
        benchmark("alone", STEADY, "c"),
    )
    first, second = speedups(read_benchmark(path), "old")
    assert (first.group, first.name, first.ratio.value, first.sound) == ("a", "new", 4.0, True)
    assert (second.group, second.ratio.value, second.sound) == ("b", 2.0, None)
    assert lines(path)[0] == "a: new: 4 [4, 4] times as fast as old"


def test_what_limits_a_comparison_is_told(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        benchmark("old", STEADY, interleaved=False),
        benchmark("old (again)", [each * 1.5 for each in STEADY], interleaved=False),
        benchmark("new", [*STEADY, 1.0], interleaved=False),
    )
    (line,) = lines(path)
    assert line.startswith("new: 1 [")
    assert "not interleaved: drift counts as a difference" in line
    assert "the baseline differs from itself: no difference can be told" in line


def test_the_benchmark_s_own_file_is_read_back(tmp_path: Path) -> None:
    card = speeds()
    longer = [
        check.model_copy(update={"timings": {name: times * 2 for name, times in check.timings.items()}})
        for check in card.checks
    ]
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(bench.benchmark_json(card.model_copy(update={"checks": tuple(longer)}))))
    series = read_benchmark(path)
    assert [(each.name, each.interleaved) for each in series] == [("subject", True), ("llama.cpp TQ2_0", True)]
    assert series[0].seconds == (0.001, 0.002, 0.003) * 2
    assert len(lines(path, "subject")) == 1


def test_what_holds_no_times_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(AuditError) as caught:
            lines(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "cannot read the times" in refused(tmp_path / "absent.json")
    path = written(tmp_path)
    assert "is no pytest-benchmark file: benchmarks" in refused(path)
    path.write_text("{")
    assert "is not JSON" in refused(path)
    assert "has no raw times of old; save them with --benchmark-save-data" in refused(
        written(tmp_path, {"name": "old", "stats": {"median": 1.0}})
    )
    assert "no group has the baseline 'old'; its arms are new" in refused(written(tmp_path, benchmark("new", STEADY)))
