import os
import subprocess
import sys

from tests.bitnet.phase4 import LENIENT, finish, write_model, write_texts
from tests.bitnet.test_interrupted_run import outcome

#: Compensation, recovery, and a chain that takes every step, each with a recovery of its own.
SETTINGS = {
    "compensation": "sequential",
    "compensation_samples": 8,
    "compensation_tokens": 32,
    "granularity": "group",
    "group_size": 16,
    "codec": "base3",
    "calibration_samples": 40,
    "calibration_tokens": 16,
    "context_length": 64,
    "evaluation_tokens": 640,
    "fine_tune_steps": 6,
    "fine_tune_lr": 3e-3,
    "fine_tune_trigger": 0.0,
    "checkpoint_steps": 2,
    "warmup_steps": 2,
    **LENIENT,
    "max_accuracy_drop": 0.0,
    "max_minutes": 30.0,
}


def test_a_run_killed_anywhere_and_started_again_finishes_with_the_same_bytes(tmp_path):
    model, texts = write_model(tmp_path / "model"), write_texts(tmp_path)
    expected = finish(model, tmp_path / "whole", **SETTINGS, **texts)
    assert len(expected.result.attempts) > 1
    given = [f"--set={name}={value}" for name, value in {**SETTINGS, **texts}.items()]
    moments = "4/7,6/7+0.2,7/7"
    command = [sys.executable, "-m", "tests.bitnet.cli.killed", moments, "compress", str(model)]
    command += ["--out", str(tmp_path / "out"), *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == (0 if expected.result.success else 1), ended.stderr
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".out")] == []
