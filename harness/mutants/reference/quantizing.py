"""A second implementation, by definition: it passes every check of layers, codes and settings.

It shares nothing with `bitnet`. Its three variants cover the rules, the granularities, two tie rules and both scale
rules; small groups keep the checks cheap.
"""

from __future__ import annotations

from harness.mutants.reference.activations import Activations
from harness.mutants.reference.calibration import Calibration
from harness.mutants.reference.configuration import Configuration
from harness.mutants.reference.layers import Layers
from harness.mutants.reference.packing import Codecs
from harness.mutants.reference.weights import ABSMEAN, OPTIMAL, THRESHOLD, WeightRules
from harness.subject import Declaration


class ReferenceSubject(WeightRules, Calibration, Activations, Codecs, Layers, Configuration):
    """Everything by definition, in float64."""

    declaration = Declaration(
        name="reference",
        version="1",
        variants=(THRESHOLD, ABSMEAN, OPTIMAL),
        codecs=("int8", "2bit", "base3"),
        ste="identity",
        activation_range=(-127, 127),
    )
