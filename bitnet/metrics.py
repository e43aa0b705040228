"""Run metrics under the names that trackers know: 19 under `compression/` and a summary of 8.

A value that was not measured is absent, never 0. Megabytes have 10^6 bytes. Degradations, drops and recoveries are
fractions: 0.1 is 10 %.
"""

from collections.abc import Mapping

from bitnet.quality import relative_increase
from bitnet.result import Figures
from bitnet.sizes import Sizes

MEGABYTE = 1e6

Metric = float | int | bool


def before_metrics(sizes: Sizes, before: Figures) -> dict[str, Metric]:
    """What is known of the full-precision model: its size in FP32, perplexity and loss (nats a token)."""
    return _measured(
        original_size_mb=sizes.fp32_bytes / MEGABYTE,
        pre_perplexity=before.token_perplexity,
        pre_eval_loss=before.loss,
    )


def process_metrics(
    sizes: Sizes, zero_fraction: float, parameters: int, quantized_layers: int, smaller_layers: int
) -> dict[str, Metric]:
    """What compression did. `layers_quantized` are ternary; `layers_compressed` also counts tables below FP32."""
    return _measured(
        compressed_size_mb=sizes.packed_bytes / MEGABYTE,
        ratio=sizes.compression_ratio,
        layers_compressed=smaller_layers,
        sparsity_ratio=zero_fraction,
        quantized_params=sizes.quantized_weights,
        total_params=parameters,
        layers_quantized=quantized_layers,
    )


def after_metrics(
    before: Figures, after: Figures, final: Figures, dequantization: float, gradient_flow: bool
) -> dict[str, Metric]:
    """Quality straight after compression (`post_perplexity`) and of the artefact that is handed over (the rest)."""
    return _measured(
        post_perplexity=after.token_perplexity,
        perplexity_degradation=relative_increase(before.token_perplexity, final.token_perplexity),
        accuracy_preserved=accuracy_preserved(before, final),
        dequantization_accuracy=dequantization,
        gradient_flow_test_passed=gradient_flow,
    )


def recovery_metrics(
    before: Figures, after: Figures, recovered: Figures, epochs: float | None, hours: float | None
) -> dict[str, Metric]:
    """What recovery did; `perplexity_recovery` is the share of the increase that it took back."""
    share = None
    if before.token_perplexity and after.token_perplexity and recovered.token_perplexity:
        lost = after.token_perplexity - before.token_perplexity
        share = (after.token_perplexity - recovered.token_perplexity) / lost if lost > 0 else None
    return _measured(
        post_finetune_perplexity=recovered.token_perplexity,
        perplexity_recovery=share,
        fine_tune_epochs=epochs,
        fine_tune_time_hours=hours,
    )


def phase_summary(
    sizes: Sizes, before: Figures, final: Figures, zero_fraction: float, method: str, success: bool
) -> dict[str, float | bool | str]:
    """The eight values that sum up the phase, under the names that trackers show after `phase/`."""
    values: Mapping[str, float | bool | str | None] = {
        "compression_ratio": sizes.compression_ratio,
        "original_size_mb": sizes.fp32_bytes / MEGABYTE,
        "compressed_size_mb": sizes.packed_bytes / MEGABYTE,
        "final_perplexity": final.token_perplexity,
        "accuracy_preserved": accuracy_preserved(before, final),
        "success": success,
        "quantization_method": method,
        "sparsity_ratio": zero_fraction,
    }
    return {name: value for name, value in values.items() if value is not None}


def accuracy_preserved(before: Figures, final: Figures) -> float | None:
    """Next-token accuracy of the final model over that of the full-precision one; None if the latter is 0."""
    if before.next_token_accuracy == 0:
        return None
    return final.next_token_accuracy / before.next_token_accuracy


def _measured(**values: Metric | None) -> dict[str, Metric]:
    return {f"compression/{name}": value for name, value in values.items() if value is not None}
