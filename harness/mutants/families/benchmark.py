"""Mutants of what is timed, and of the instruments that time it."""

from __future__ import annotations

from pathlib import Path

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.decoding import DecodingSubject
from harness.mutants.reference.kernels import KernelSubject
from harness.mutants.reference.speed import SpeedSubject

OUTPUTS = "test_what_is_timed_is_the_models_own_continuation"
EQUAL = "test_equal_arms_are_measured_as_equal"
TWICE = "test_twice_the_work_is_measured_as_twice_the_time"
SPEEDUP = "test_speedup_over_full_precision"
TIMED = (OUTPUTS, EQUAL, TWICE, SPEEDUP)

TRANSFORMERS = "test_decoding_over_transformers"
BITLINEAR = "test_decoding_over_the_ternary_layer_of_transformers"
LLAMA_16 = "test_decoding_over_llama_cpp_in_16_bits"
LLAMA_TERNARY = "test_decoding_over_llama_cpp_with_ternary_weights"
PROMPT_16 = "test_a_prompt_over_llama_cpp_in_16_bits"
PROMPT_QUANTIZED = "test_a_prompt_over_quantized_llama_cpp"
SIZES = "test_decoding_at_size"
COST = "test_cost_grows_with_the_model"
MEMORY = "test_resident_memory_over_the_files"
RATIOS = (TRANSFORMERS, BITLINEAR, LLAMA_16, LLAMA_TERNARY, PROMPT_16, PROMPT_QUANTIZED, SIZES)

CACHED = "test_one_token_against_llama_cpp"
PEAK = "test_one_token_as_a_fraction_of_the_int8_peak"
STREAMED = "test_one_token_from_memory_against_llama_cpp"
BANDWIDTH = "test_one_token_from_memory_as_a_fraction_of_its_bandwidth"
INT8 = "test_many_tokens_against_the_best_int8_of_torch"
MATRIX = "test_many_tokens_with_a_matrix_in_the_caches"
ROOF = "test_no_arm_is_faster_than_the_machine"
PRODUCTS = (CACHED, PEAK, STREAMED, BANDWIDTH, INT8, MATRIX)


def timed_model(words: str, _: Path) -> SpeedSubject:
    """A packed model that does not do the work; a defect of the instrument leaves it as it should be."""
    return SpeedSubject(words)


def decoder(words: str, _: Path) -> DecodingSubject:
    """A decoder of packed models, likewise."""
    return DecodingSubject(words)


def products(words: str, _: Path) -> KernelSubject:
    """Products with ternary matrices, likewise."""
    return KernelSubject(words)


FAMILIES = (
    family_of_words(
        "benchmark",
        Stage("test_inference_speed.py", ("random",), props=("short-texts", "forward-clock")),
        timed_model,
        {"": "2.inference-benchmark", SPEEDUP: "1.1.inference-speedup"},
        {
            "logits that are always zero": TIMED,
            "cache not used": TIMED,
            "a second run that comes out faster": Defect((EQUAL,), prop="second-run-faster"),
            "overhead beside the work": Defect((TWICE,), prop="overhead-beside-the-work"),
            "work that is not waited for": Defect((TWICE,), prop="work-not-waited-for"),
            "a speed-up without an interval": Defect((SPEEDUP,), prop="no-interval"),
        },
    ),
    family_of_words(
        "decoding-benchmark",
        Stage("test_decoding_speed.py", ("random",), "full", props=("forward-clock", "llama-cast")),
        decoder,
        {
            "": "A.speed-decode-transformers",
            LLAMA_16: "A.speed-decode-llama-f16",
            SIZES: "A.speed-decode-0.7b",
            COST: "A.speed-decode-2b",
            MEMORY: "A.memory-resident",
        },
        {
            "another model": (*RATIOS[:-1], COST, MEMORY),
            "a ratio without an interval": Defect(RATIOS, prop="no-interval"),
            "a clock that stands still": Defect((COST,), prop="race-all-alike"),
            "memory of a model that was not opened": Defect((MEMORY,), prop="no-memory"),
        },
    ),
    family_of_words(
        "kernel-benchmark",
        Stage("test_kernel_speed.py", profile="full", props=("small-products",)),
        products,
        {"": "A.speed-gemv-cached-llama", STREAMED: "A.speed-gemv-streaming-llama", ROOF: "A.speed-gemm-16"},
        {
            "wrong by a fifth": (*PRODUCTS, ROOF),
            "the last of several products left out": (STREAMED, BANDWIDTH),
            "a ratio without an interval": Defect(PRODUCTS, prop="no-interval"),
            "a second run that comes out faster": Defect(PRODUCTS, prop="race-second-run-faster"),
            "a limit of the machine that is too low": Defect((ROOF,), prop="low-peak"),
        },
    ),
)
