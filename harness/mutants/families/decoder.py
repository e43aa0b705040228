"""Mutants of the decoder of packed models."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.decoding import DecodingSubject

PERPLEXITY = "test_perplexity_is_that_of_transformers"
PARTS = "test_each_part_computes_what_that_of_transformers_does"
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
            "queries a position too far": (PARTS, PERPLEXITY),
            "another epsilon in one norm": (PARTS, PERPLEXITY),
            "one scale off by a percent": (PARTS, PERPLEXITY),
            "one token lost": (PARTS,),
            "a layer that is not counted": (PARTS,),
            "sequence forgotten": (STEPS,),
            "logits that are not finite": (STEPS,),
            "tokens not checked": (TOKENS,),
            "damage not noticed": (DAMAGE,),
        },
    ),
)
