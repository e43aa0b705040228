"""What each choice in compression and recovery is worth, on the built-in model `tiny`: quality against bits and time.

Defaults are to be chosen by the perplexity on the validation half of the held-out text; the evaluation half is there to
report. Arms that are in the record already are not run again, so an interrupted ablation goes on where it was.
"""

import argparse
import copy
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bitnet.ablation.arms import Arm, arms
from bitnet.ablation.copying import copy_accuracy
from bitnet.ablation.report import draw, table
from bitnet.bitlinear import TernaryLinear
from bitnet.checkpoint import read_json, write_json
from bitnet.compressed_model import CompressedModel, layer_plan
from bitnet.compressor import compress
from bitnet.config import Phase4Config
from bitnet.fine_tuner import RecoveryReport, mean_loss, recover
from bitnet.perplexity import PerplexityResult, perplexity
from bitnet.phase_controller import calibrate, load
from bitnet.phase_state import Calibration, Run
from bitnet.recovery_data import recovery_samples
from bitnet.scales import SCALE_BITS
from bitnet.text import heldout_text

MODEL = "tiny"
#: The short form trains for a fifth of the steps on half the tokens: it tells which arm is better, not how good it is.
QUICK = {"fine_tune_steps": 50, "fine_tune_tokens": 128}


def measure(arm: Arm, quick: bool) -> dict[str, Any]:
    """Everything that is known of an arm; perplexities are per token."""
    started = time.process_time()
    config = Phase4Config(**{**(QUICK if quick else {}), **arm.settings})
    with tempfile.TemporaryDirectory() as folder:
        run = load(MODEL, Path(folder) / "out", config)
        calibration = calibrate(run, _quiet)
        report = None
        subject = (
            _control(run)
            if arm.control
            else compress(run, calibration, Path(folder), _quiet).trainable(run.loaded.model)
        )
        if run.config.fine_tune_steps:
            report = _train(run, calibration, subject)
        final = subject.model if arm.control else subject.packed().model
        figures, copied = _evaluate(run, final), copy_accuracy(final, run.loaded.tokenizer)
    return {
        **arm._asdict(),
        "bits_per_weight": None if arm.control else bits_per_weight(subject.packed()),
        "perplexity": {name: found.token_perplexity for name, found in figures.items()},
        "accuracy": {name: found.next_token_accuracy for name, found in figures.items()},
        "copying": copied,
        "steps": 0 if report is None else report.steps,
        "tokens": 0 if report is None else report.tokens,
        "codes_flipped": None if report is None or arm.control else report.codes_flipped,
        "seconds": time.process_time() - started,
    }


def halves() -> dict[str, str]:
    """The held-out text, cut between two paragraphs in the middle."""
    text = heldout_text()
    middle = text.index("\n\n", len(text) // 2)
    return {"validation": text[:middle], "evaluation": text[middle + 2 :]}


def bits_per_weight(packed: CompressedModel) -> float:
    """Codes as stored and their scales, over the quantized weights."""
    layers = [layer for layer in packed.layers.values() if isinstance(layer, TernaryLinear)]
    scale_bits = SCALE_BITS[packed.config.scale_dtype]
    stored = sum(8 * layer.packed.nbytes + scale_bits * layer.scale.numel() for layer in layers)
    return stored / sum(layer.in_features * layer.out_features for layer in layers)


def baseline() -> dict[str, float]:
    """Perplexity of the full-precision model, and its accuracy in the copy task."""
    with tempfile.TemporaryDirectory() as folder:
        run = load(MODEL, Path(folder) / "out", Phase4Config())
    figures = {name: found.token_perplexity for name, found in _evaluate(run, run.loaded.model).items()}
    return {**figures, "copying": copy_accuracy(run.loaded.model, run.loaded.tokenizer)}


def _evaluate(run: Run, model: PreTrainedModel) -> dict[str, PerplexityResult]:
    windows = (run.config.context_length, run.config.batch_size)
    return {name: perplexity(model, run.loaded.tokenizer, [text], *windows) for name, text in halves().items()}


def _control(run: Run) -> CompressedModel:
    """The full-precision model in a form that can be trained on: no layer of it is quantized."""
    model = copy.deepcopy(run.loaded.model).requires_grad_(True)
    return CompressedModel(model, layer_plan(model), run.config, {})


def _train(run: Run, calibration: Calibration, subject: CompressedModel) -> RecoveryReport:
    training, selection = recovery_samples(run, calibration)

    def loss() -> float:
        model = subject.packed().model if subject.layers else subject.model
        return mean_loss(model, selection, run.config.batch_size)

    return recover(subject, training, run.config, loss, teacher=run.loaded.model)


def _quiet(done: int, total: int) -> None:
    """No bar."""


def main() -> None:
    """The command line: `--quick`, `--only TABLE`, `--out FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter trainings: at most ten minutes in all")
    parser.add_argument("--only", action="append", help="a table to run, such as 'loss'; all without it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the record, the table and the plot")
    options = parser.parse_args()
    form = "quick" if options.quick else "full"
    file: Path = options.out / f"{form}.json"
    record: dict[str, Any] = read_json(file) if file.exists() else {}
    if "copying" not in record.get("baseline", {}):  # of a version that measured less, or none at all
        record = {"model": MODEL, "form": form, "baseline": baseline(), "arms": []}
    done = {(found["table"], found["name"]): found["settings"] for found in record["arms"]}
    torch.set_num_threads(1)
    for arm in arms():
        if (options.only and arm.table not in options.only) or done.get((arm.table, arm.name)) == arm.settings:
            continue
        found = measure(arm, options.quick)
        record["arms"] = [old for old in record["arms"] if (old["table"], old["name"]) != (arm.table, arm.name)]
        record["arms"].append(found)
        record["environment"] = {"torch": torch.__version__, "machine": platform.machine(), "threads": 1}
        write_json(file, record)
        print(f"{arm.table}: {arm.name}: {found['perplexity']['evaluation']:.2f}, {found['seconds']:.0f} s", flush=True)
    (options.out / f"{form}.md").write_text(table(record), encoding="utf-8")
    draw(record, options.out / f"{form}.svg")


if __name__ == "__main__":
    main()
