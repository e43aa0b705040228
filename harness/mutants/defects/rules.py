"""What defects of weight rules start from: the reference subject with one of its variants declared."""

from __future__ import annotations

from dataclasses import replace

from harness.mutants.reference.quantizing import ReferenceSubject
from harness.mutants.reference.weights import ABSMEAN, OPTIMAL, THRESHOLD
from harness.subject import Declaration, WeightVariant


def declares(*variants: WeightVariant) -> Declaration:
    """The declaration of the reference subject with these variants alone."""
    return replace(ReferenceSubject.declaration, variants=variants)


class Threshold(ReferenceSubject):
    """Declares the threshold rule alone."""

    declaration = declares(THRESHOLD)


class Absmean(ReferenceSubject):
    """Declares the absmean rule alone."""

    declaration = declares(ABSMEAN)


class Optimal(ReferenceSubject):
    """Declares the searching rule alone."""

    declaration = declares(OPTIMAL)
