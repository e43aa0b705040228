import pytest

from bitnet.metrics import (
    accuracy_preserved,
    after_metrics,
    before_metrics,
    phase_summary,
    process_metrics,
    recovery_metrics,
)
from bitnet.result import Figures
from bitnet.sizes import Sizes

SIZES = Sizes(
    fp32_bytes=8_000_000,
    packed_bytes=1_000_000,
    fp16_folder_bytes=4_100_000,
    quantized_weights=1_500_000,
    quantized_bytes=400_000,
)


def figures(perplexity, accuracy=0.5, tokens=100, loglikelihood=-300.0):
    return Figures(
        tokens=tokens,
        loglikelihood=loglikelihood,
        token_perplexity=perplexity,
        word_perplexity=None,
        byte_perplexity=None,
        bits_per_byte=1.0,
        next_token_accuracy=accuracy,
    )


BEFORE, AFTER, RECOVERED = figures(20.0), figures(40.0, 0.3), figures(25.0, 0.4)


def test_the_19_metrics_by_their_names_and_values():
    metrics = {
        **before_metrics(SIZES, BEFORE),
        **process_metrics(SIZES, 0.31, parameters=2_000_000, quantized_layers=14, smaller_layers=15),
        **after_metrics(BEFORE, AFTER, RECOVERED, dequantization=1.0, gradient_flow=True),
        **recovery_metrics(BEFORE, AFTER, RECOVERED, epochs=1.5, hours=0.25),
    }
    assert metrics == {
        "compression/original_size_mb": 8.0,
        "compression/pre_perplexity": 20.0,
        "compression/pre_eval_loss": 3.0,
        "compression/compressed_size_mb": 1.0,
        "compression/ratio": 8.0,
        "compression/layers_compressed": 15,
        "compression/sparsity_ratio": 0.31,
        "compression/quantized_params": 1_500_000,
        "compression/total_params": 2_000_000,
        "compression/layers_quantized": 14,
        "compression/post_perplexity": 40.0,
        "compression/perplexity_degradation": 0.25,
        "compression/accuracy_preserved": 0.8,
        "compression/dequantization_accuracy": 1.0,
        "compression/gradient_flow_test_passed": True,
        "compression/post_finetune_perplexity": 25.0,
        "compression/perplexity_recovery": 0.75,
        "compression/fine_tune_epochs": 1.5,
        "compression/fine_tune_time_hours": 0.25,
    }


def test_the_summary_of_the_phase():
    assert phase_summary(SIZES, BEFORE, RECOVERED, 0.31, "optimal-channel-2bit", success=False) == {
        "compression_ratio": 8.0,
        "original_size_mb": 8.0,
        "compressed_size_mb": 1.0,
        "final_perplexity": 25.0,
        "accuracy_preserved": 0.8,
        "success": False,
        "quantization_method": "optimal-channel-2bit",
        "sparsity_ratio": 0.31,
    }


def test_what_was_not_measured_is_absent_and_what_is_zero_is_not():
    unmeasured = figures(None, accuracy=0.0)
    assert "compression/pre_perplexity" not in before_metrics(SIZES, unmeasured)
    after = after_metrics(unmeasured, unmeasured, unmeasured, dequantization=0.0, gradient_flow=False)
    assert after == {"compression/dequantization_accuracy": 0.0, "compression/gradient_flow_test_passed": False}
    recovery = recovery_metrics(BEFORE, AFTER, unmeasured, epochs=0.0, hours=None)
    assert recovery == {"compression/fine_tune_epochs": 0.0}
    summary = phase_summary(SIZES, unmeasured, unmeasured, 0.0, "absmean-tensor-int8", success=False)
    assert summary.keys() == {
        "compression_ratio",
        "original_size_mb",
        "compressed_size_mb",
        "success",
        "quantization_method",
        "sparsity_ratio",
    }


def test_no_share_is_recovered_where_nothing_was_lost():
    assert "compression/perplexity_recovery" not in recovery_metrics(AFTER, BEFORE, RECOVERED, 1.0, 1.0)
    worse = recovery_metrics(BEFORE, AFTER, figures(50.0), 1.0, 1.0)
    assert worse["compression/perplexity_recovery"] == -0.5


@pytest.mark.parametrize(("before", "after", "kept"), [(0.5, 0.5, 1.0), (0.5, 0.0, 0.0), (0.0, 0.5, None)])
def test_accuracy_that_is_preserved(before, after, kept):
    assert accuracy_preserved(figures(1.0, before), figures(1.0, after)) == kept
