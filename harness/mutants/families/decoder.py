"""Mutants of the decoder of packed models."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.decoding import DecodingSubject

PERPLEXITY = "test_perplexity_is_that_of_transformers"
STEPS = "test_tokens_one_by_one_give_the_logits_of_one_pass"
TOKENS = "test_tokens_that_do_not_exist_are_rejected"
DAMAGE = "test_a_folder_that_is_damaged_is_rejected"

FAMILIES = (
    family_of_words(
        "decoder",
        Stage("test_decoder.py", ("random",), props=("few-windows",)),
        lambda words, _: DecodingSubject(words),
        {"": "A.decoder-agrees"},
        {
            "another model": (PERPLEXITY,),
            "sequence forgotten": (STEPS,),
            "logits that are not finite": (STEPS,),
            "tokens not checked": (TOKENS,),
            "damage not noticed": (DAMAGE,),
        },
    ),
)
