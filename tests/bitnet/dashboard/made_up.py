"""Made-up artefacts: a scorecard with earlier ones, and a run with layers, a recovery and a missed gate."""

import json

import numpy as np
from safetensors.numpy import save_file

from tests.bitnet.made_up_result import DUAL, RECOVERY, VERIFIED, figures, layer, made_up_result

STATUSES = ("GREEN", "YELLOW", "RED", "GREY")


def row(identity, status, baseline, **more):
    return {
        "id": identity,
        "category": "speed",
        "title": f"Title of {identity}",
        "claim": "Claimed <b>bold</b> [link](http://elsewhere.example)",
        "explanation": "How it is measured.",
        "weight": 1.0,
        "status": status,
        "reason": f"because of {identity}",
        "command": f"bitnet-audit run --only {identity}",
        "baseline": baseline,
        "baseline_value": "[ ]",
        **more,
    }


def figure(name, value, **more):
    return {
        "name": name,
        "value": value,
        "unit": "x",
        "target": ">= 2",
        "status": "RED",
        "nodeid": "s.py::t[a]",
        **more,
    }


def scorecard(overall=0.6173, started="2026-11-25T10:00:00+00:00", **more):
    """As the auditor writes it, reduced to what is read, with a field that is not."""
    rows = [
        row("1.quality", "GREEN", "RED", checks=["s.py::test_quality"]),
        row("1.speed", "RED", "GREEN", figures=[figure("speedup", 1.234, interval=[1.1, 1.9], timing=True)]),
        row("2.new", "YELLOW", "GREY", figures=[figure("share", "NaN")], reading="Read like this.", arithmetic="1 + 1"),
        row("2.gone", "GREY", "GREEN"),
        row("3.same", "GREEN", "GREEN"),
    ]
    counts = {name: sum(each["status"] == name for each in rows) for name in STATUSES}
    checks = [
        {
            "nodeid": "s.py::test_quality",
            "outcome": "failed",
            "message": "![image](http://elsewhere.example/x.png)",
            "figures": {"zeros": {"value": 0.3172, "unit": "", "interval": [0.3, 0.33]}},
            "notes": ["a *note*"],
            "command": "python -m pytest s.py",
            "duration": 1.5,
        }
    ]
    score = {"score": overall, "counts": counts, "arithmetic": "as shown"}
    return {
        "schema_version": 99,
        "subject": {"name": "subject", "version": "1.0"},
        "profile": "quick",
        "models": ["tiny"],
        "started": started,
        "duration": 75.0,
        "environment": {"python": "3.11", "cpu": "some processor"},
        "commit": {"id": "0123456789abcdef", "dirty": True},
        "complete": True,
        "overall": score,
        "categories": [{"id": "speed", "title": "Speed of things", **score}],
        "criteria": rows,
        "checks": checks,
        **more,
    }


def write_reports(folder, earlier=1):
    """A folder of reports with the last scorecard and some earlier ones."""
    (folder / "latest").mkdir(parents=True)
    (folder / "history").mkdir()
    (folder / "latest" / "scorecard.json").write_text(json.dumps(scorecard()))
    for number in range(earlier):
        told = scorecard(0.4 + number / 100, f"2026-11-0{number + 1}T10:00:00+00:00")
        (folder / "history" / f"{number}.json").write_text(json.dumps(told))
    return folder


def gate(name, measured, limit, passed):
    told = {"name": name, "measured": measured, "comparison": "<=", "limit": limit, "passed": passed}
    return {**told, "explanation": f"explanation of {name}"}


LAYERS = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")
REPORT = {
    "steps": 7,
    "best_step": 5,
    "training": [{"step": 1, "loss": 3.0, "learning_rate": 1e-3}, {"step": 7, "loss": 2.0, "learning_rate": 1e-4}],
    "selection": [{"step": 0, "loss": 2.5}, {"step": 5, "loss": 2.1}],
}


UNREPRODUCED = {"fp16_difference": None, "fp16_identical": False, "reproduced": False}


def result(**more):
    plan = [{"name": "lm_head", "kind": "head", "parameters": 10, "quantized": False, "reason": "kept"}]
    attempt = {"name": "as configured", "token_perplexity": 23.75, "next_token_accuracy": 0.3}
    told = {
        "plan": plan,
        "after": figures(41.5, 0.3, 0.02),
        "recovered": figures(23.75, 0.3, 0.02),
        "final": figures(23.75, 0.3, 0.02),
        "recovery": {
            **RECOVERY,
            "perplexity_increase": 1.075,
            "triggered": True,
            "steps": 7,
            "report": REPORT,
        },
        "layers": [layer(name, error=0.125 + number) for number, name in enumerate(LAYERS)],
        "dual_output": {**DUAL, "equal": 63, "agreement": 0.98},
        "gates": [gate("perplexity_increase", 0.1875, 0.1, False), gate("accuracy_drop", None, 0.1, True)],
        "verification": {**VERIFIED, **UNREPRODUCED, "error": "The [file](http://elsewhere.example) is damaged."},
        "success": False,
        "fallbacks": [{"step": "evaluation_text", "used": "standard library", "reason": "no text was given"}],
        "attempts": [{**attempt, "layers_by_planes": {2: 2}}],
        "stages": [{"name": "load and validate", "duration": 75.0, "peak_memory": 400_000_000}],
    }
    return made_up_result(**{"source": "no-such-model", **told, **more})


def write_run(out, **more):
    """A run with everything that pages read, its packed model reduced to scales."""
    (out / "packed").mkdir(parents=True)
    (out / "result.json").write_text(json.dumps(result(**more)))
    scales = np.array([[0.1, 0.2, 0.2, 0.4], [0.01, 0.02, 0.03, 0.04]], dtype=np.float16).reshape(2, 4, 1)
    save_file({f"{name}.scale": scales for name in LAYERS}, out / "packed" / "model.safetensors")
    (out / "packed" / "config.json").write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of "{}"
    files = {"packed/config.json": digest, "packed/gone.json": digest, "packed/model.safetensors": digest}
    manifest = {"run_id": "feedbeef", "primary": "fp16", "files": files, "success": False}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def benchmark():
    arm = {
        "decode_tokens_per_second": 100.0,
        "prefill_tokens_per_second": 1000.0,
        "time_to_first_token": 0.25,
        "resident_bytes": 7_000_000,
        "seconds": {},
    }
    names = ("packed", "fp32", "control")
    return {
        "model": "out/packed",
        "baseline": "tiny",
        "packed_bytes": 500_000,
        "engine": "native runtime",
        "threads": 1,
        "rounds": 5,
        "rounds_asked": 5,
        "seed": 0,
        "prefill_tokens": 128,
        "prompt_tokens": 16,
        "new_tokens": 33,
        "agreement": None,
        "arms": [{"name": name, "what": f"what {name} is", **arm} for name in names],
        "ratios": [{"against": name, "metric": "decode", "value": 3.21, "low": 3.0, "high": 3.5} for name in names[1:]],
        "control_sound": False,
        "environment": {},
    }
