"""Mutants of compressing a pretrained model in few bits, seen from outside its command."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.sparing import SparingSubject

FEW = "test_few_bits_keep_quality"
ONE = "test_one_plane_keeps_some_quality"
FEW_RECOVERED = "test_fewer_bits_keep_quality_with_recovery"
ONE_RECOVERED = "test_one_plane_recovers"

FAMILIES = (
    family_of_words(
        "few-bits",
        Stage("test_few_bits.py", models=("ternary",), profile="full", props=("short-hours",), judges_timings=True),
        lambda words, _: SparingSubject(words),
        {
            FEW: "A.few-bits",
            ONE: "A.one-plane",
            FEW_RECOVERED: "A.few-bits-recovered",
            ONE_RECOVERED: "A.one-plane-recovered",
        },
        {
            "noise": (FEW, ONE, FEW_RECOVERED, ONE_RECOVERED),
            "one plane is noise": (ONE, ONE_RECOVERED),
            "recovery spoils it": (FEW_RECOVERED, ONE_RECOVERED),
            "a byte for each code": (FEW, FEW_RECOVERED),
            "holds more than it may": (FEW_RECOVERED, FEW),
            "takes its time": (ONE, FEW),
            "no artefact": (FEW, ONE, FEW_RECOVERED, ONE_RECOVERED),
            "breaks down": Defect((FEW, ONE, FEW_RECOVERED, ONE_RECOVERED), crashes=True),
        },
    ),
)
