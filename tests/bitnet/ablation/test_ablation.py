import json
import math
import sys

import pytest

from bitnet.ablation import __main__ as ablation
from bitnet.ablation.arms import Arm, arms
from bitnet.ablation.report import draw, table
from bitnet.config import Phase4Config
from bitnet.text import training_text
from tests.bitnet.small_models import small_model, small_tokenizer

BASELINE = {"validation": 10.0, "evaluation": 11.0, "copying": 0.3}


def found(name, perplexity, *, steps=0, bits=2.0):
    return {
        **{"table": "loss", "name": name, "settings": {}, "control": bits is None, "bits_per_weight": bits},
        "perplexity": {"validation": perplexity, "evaluation": perplexity + 1},
        "accuracy": {"validation": 0.2, "evaluation": 0.2},
        "copying": 0.25,
        **{"steps": steps, "tokens": 8 * steps, "codes_flipped": 0.25 if steps else None, "seconds": 1.0},
    }


def test_every_arm_is_a_valid_configuration_and_has_a_name_of_its_own():
    names = [(arm.table, arm.name) for arm in arms()]
    assert len(set(names)) == len(names)
    assert all(Phase4Config(**arm.settings) for arm in arms())
    audit = {1e-5: False, 3e-3: False}
    for arm in arms():
        audit |= {rate: True for rate in audit if arm.settings.get("fine_tune_lr") == rate}
    assert all(audit.values())


def test_the_table_puts_the_best_arm_on_the_validation_half_first():
    record = {"model": "m", "form": "quick", "baseline": BASELINE}
    record["arms"] = [found("worse", 20.0), found("better", 12.0, steps=5), found("control", 15.0, steps=5, bits=None)]
    rows = [line for line in table(record).splitlines() if line.startswith("| ") and "arm" not in line]
    assert [row.split(" | ")[0] for row in rows] == ["| better", "| control", "| worse"]
    assert "+18.2 %" in rows[0]
    assert "| 25.0 % |" in rows[0]
    assert "25.00 %" in rows[0]


def test_the_plot_shows_every_trained_arm(tmp_path):
    record = {"baseline": BASELINE}
    record["arms"] = [{**found("absmean", 20.0), "table": "rule x group"}, found("trained", 12.0, steps=5)]
    draw(record, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_an_interrupted_ablation_goes_on_where_it_was(monkeypatch, tmp_path):
    measured = []

    def measure(arm, quick):
        measured.append(arm.name)
        return {**found(arm.name, 12.0), **arm._asdict()}

    chosen = (Arm("loss", "first", {"seed": 1}), Arm("loss", "second", {"seed": 2}), Arm("other", "third", {}))
    monkeypatch.setattr(ablation, "arms", lambda: chosen)
    monkeypatch.setattr(ablation, "measure", measure)
    monkeypatch.setattr(ablation, "baseline", lambda: BASELINE)
    monkeypatch.setattr(sys, "argv", ["ablation", "--quick", "--only", "loss", "--out", str(tmp_path)])
    (tmp_path / "quick.json").write_text(
        json.dumps(
            {
                **{
                    "model": "tiny",
                    "form": "quick",
                    "baseline": BASELINE,
                },
                "arms": [{**found("first", 12.0), **chosen[0]._asdict()}],
            }
        )
    )
    ablation.main()
    assert measured == ["second"]
    assert [arm["name"] for arm in json.loads((tmp_path / "quick.json").read_text())["arms"]] == ["first", "second"]
    assert "| second |" in (tmp_path / "quick.md").read_text()


@pytest.mark.parametrize("control", [False, True])
def test_an_arm_is_measured_on_both_halves_of_the_held_out_text(control, monkeypatch, tmp_path):
    small_model("llama").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(ablation, "MODEL", str(tmp_path / "model"))
    monkeypatch.setattr(ablation, "halves", lambda: {"validation": training_text()[:300], "evaluation": "words " * 40})
    settings = {"calibration_samples": 4, "calibration_tokens": 16, "fine_tune_steps": 1, "fine_tune_tokens": 16}
    measured = ablation.measure(
        Arm("t", "n", {**settings, "context_length": 32, "evaluation_tokens": 200}, control), False
    )
    assert measured["steps"] == 1
    assert 0.0 <= measured["copying"] <= 1.0
    assert all(math.isfinite(value) for value in measured["perplexity"].values())
    assert (measured["bits_per_weight"] is None) == control
