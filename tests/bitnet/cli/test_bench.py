import json
import shutil

import pytest
import torch

from bitnet import benchmark
from tests.bitnet.cli.program import assert_one_sentence, bitnet


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Memory takes a process for every model: tests/bitnet/test_resident.py measures it."""
    monkeypatch.setattr(benchmark, "resident_memory", lambda *_: 5_000_000)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_bench_compares_a_run_with_the_model_that_it_names(easy, folder):
    outcome = bitnet("bench", easy[1], "--rounds", "3", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["model"], found["baseline"]) == (str(easy[1] / "packed"), str(folder))
    assert [arm["name"] for arm in found["arms"]] == ["packed", "fp32", "bf16", "control"]
    assert found["agreement"]["top1_agreement"] > 0.9
    assert [line.split("  ")[-1] for line in outcome.stderr.splitlines()] == [
        "1/5 load",
        "2/5 compare outputs",
        "3/5 warm up",
        "4/5 time",
        "5/5 memory",
    ]


def test_bench_shows_tables_and_takes_another_baseline(easy, folder):
    chosen = ["--baseline", folder, "--against", "bf16", "--rounds", "9", "--seconds", "0", "--threads", "2", "--quiet"]
    outcome = bitnet("bench", easy[1] / "packed", *chosen)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    text = " ".join(outcome.stdout.split())
    assert "packed, faster than decode prefill first token" in text
    assert "5.0 MB" in text
    assert "fp32" not in text
    assert "Settings: 2 thread(s), 3 rounds (time was up; 9 asked for)" in text


def test_bad_requests_are_one_sentence(easy, folder, tmp_path):
    assert_one_sentence(bitnet("bench", folder), "no packed model", f"bitnet compress {folder} --out OUT")
    assert_one_sentence(bitnet("bench", easy[1], "--against", "fp64"), "'fp64' is no precision")
    assert_one_sentence(bitnet("bench", easy[1], "--baseline", tmp_path / "absent"), "absent")
    shutil.copytree(easy[1] / "packed", tmp_path / "packed")
    assert_one_sentence(bitnet("bench", tmp_path / "packed"), "result.json", "--baseline MODEL")
    (tmp_path / "packed" / "model.safetensors").write_bytes(b"short")
    assert_one_sentence(bitnet("bench", tmp_path / "packed", "--baseline", folder), "model.safetensors has 5 bytes")
