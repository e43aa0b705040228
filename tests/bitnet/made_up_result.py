"""A made-up result of a run, as JSON: a success without recovery and without layers, of which tests change parts."""

import math

HASH = 64 * "0"
TEXT = {"source": "text.txt", "sha256": HASH, "characters": 1000}
CALIBRATION = {
    "text": TEXT,
    "requested_samples": 8,
    "used_samples": 8,
    "tokens": 64,
    "shortfall": 0,
    "second_moments": True,
}
CONFIG = {
    "rule": "optimal",
    "granularity": "channel",
    "group_size": 128,
    "fine_tune_lr": 1e-5,
    "codec": "2bit",
    "embedding_dtype": "float16",
    "compensation": "none",
    "planes": 1,
}
SIZES = {
    "fp32_bytes": 2_400_000_000,
    "packed_bytes": 300_000_000,
    "fp16_folder_bytes": 1_200_000,
    "quantized_weights": 1000,
    "quantized_bytes": 250,
    "compression_ratio": 8.0,
    "compression_ratio_fp16": 4.0,
    "quantized_ratio": 16.0,
    "bits_per_weight": 2.0,
}
VERIFIED = {
    "positions": 16,
    "packed_difference": 0.0,
    "fp16_difference": 1e-7,
    "packed_identical": True,
    "fp16_identical": True,
    "tolerance": 1e-5,
    "reproduced": True,
}
RECOVERY = {"perplexity_increase": 0.25, "trigger": 0.05, "triggered": False, "steps": 0, "report": None}
DUAL = {"weights": 64, "equal": 64, "positions": 100, "agreement": 1.0, "agreement_int8": None, "nonfinite": 0}
BEGIN, END = "2026-11-25T10:00:00+00:00", "2026-11-25T10:05:00+00:00"


def figures(perplexity, accuracy=0.5, error=None):
    return {
        "tokens": 1000,
        "loglikelihood": -1000 * (3.0 if perplexity is None else math.log(perplexity)),
        "token_perplexity": perplexity,
        "word_perplexity": None,
        "byte_perplexity": 2.0,
        "bits_per_byte": 1.5,
        "next_token_accuracy": accuracy,
        "standard_error": error,
    }


def layer(name, planes=2, error=None):
    return {
        "name": name,
        "shape": [4, 8],
        "planes": planes,
        "scale_shape": [planes, 4, 1],
        "zero_fraction": 0.375,
        "bytes": 32,
        "gradient_norm": 0.5,
        "gradient_problem": None,
        "weight_error": error,
    }


def made_up_result(source="some[model]", **changes):
    phase3 = {"model_path": source, "tokenizer_sha256": HASH, "vocabulary_size": 288}
    model = {"source": source, "source_kind": "folder", "model_type": "llama", "parameters": 1_500_000}
    quality = {"before": figures(20.0), "after": figures(25.0, 0.4), "recovered": None, "final": figures(25.0, 0.4)}
    return {
        **model,
        "phase3": {**phase3, "strategy_accuracies": {}, "anti_theater": {}, "metrics": {}},
        "size_class": "tiny",
        "command": f"bitnet compress '{source}' --out out",
        "config": CONFIG,
        "user_set": [],
        "plan": [],
        "calibration": CALIBRATION,
        "evaluation": TEXT,
        **quality,
        "recovery": RECOVERY,
        "layers": [],
        "zero_fraction": 0.3456,
        "sizes": SIZES,
        "dual_output": DUAL,
        "gates": [],
        "verification": VERIFIED,
        "success": True,
        "fallbacks": [],
        "metrics": {},
        "phase": {},
        "stages": [],
        "started": BEGIN,
        "finished": END,
        "duration": 12.3,
        **changes,
    }
