"""Mutants of products with ternary matrices."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.kernels import KernelSubject

SHAPES = "test_every_shape_is_exact_on_every_backend"
ANY = "test_any_planes_groups_and_bias_are_exact"
LONG = "test_long_sums_do_not_overflow"
BITS = "test_all_backends_give_the_same_bits"
TOKENS = "test_tokens_do_not_depend_on_each_other"
ALONE = "test_a_token_that_is_not_finite_stays_alone"
JOINED = "test_products_in_one_call_are_those_of_each"
PLANES = "test_planes_that_do_not_fit_are_rejected"
ACTIVATIONS = "test_activations_that_do_not_fit_are_rejected"

FAMILIES = (
    family_of_words(
        "kernels",
        Stage("test_kernels.py"),
        lambda words, _: KernelSubject(words),
        {"": "A.kernels-exact"},
        {
            "no backend": (SHAPES, BITS),
            "always the best backend": (SHAPES,),
            "sums in 16 bits": (LONG,),
            "sums in 22 bits": (LONG,),
            "groups not kept apart": (ANY,),
            "only the first plane": (ANY,),
            "bias left out": (ANY,),
            "the other backend drops the last input": (SHAPES, ANY, LONG, BITS),
            "the other backend rounds otherwise": (SHAPES, ANY, BITS),
            "one scale for all tokens": (TOKENS, ALONE),
            "layout ignored": (TOKENS,),
            "NaN as zero": (ALONE,),
            "a bad token spoils its neighbour": (ALONE,),
            "a bad token refused without words": Defect((ALONE,), crashes=True),
            "planes not checked": Defect((PLANES,), crashes=True),
            "any backend will do": (PLANES,),
            "shapes of activations not checked": (ACTIVATIONS,),
            "shapes of codes not checked": Defect((ACTIVATIONS,), crashes=True),
            "the last of several products left out": (JOINED,),
            "several products rounded to 16 bits": (JOINED,),
            "several results not checked": Defect((JOINED,), crashes=True),
            "any products joined": (JOINED,),
        },
    ),
)
