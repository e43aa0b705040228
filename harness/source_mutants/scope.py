"""What is changed: the files with the tests that each is shown to, and the changes that are left out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

FOLDER: Final = Path("reports/source-mutants")
EXPLANATIONS: Final = "explanations.toml"

TESTS: Final = {
    "bitnet/quantizer.py": (
        "tests/bitnet/test_quantizer.py",
        "tests/bitnet/test_quantizer_planes.py",
        "tests/bitnet/test_quantizer_support.py",
    ),
    "bitnet/packing.py": ("tests/bitnet/test_packing.py",),
    "bitnet/mugrokfast.py": ("tests/bitnet/test_mugrokfast.py", "tests/bitnet/test_mugrokfast_clip.py"),
    "bitnet/perplexity.py": ("tests/bitnet/test_perplexity.py", "tests/bitnet/test_perplexity_passes.py"),
    "bitnet/quality.py": ("tests/bitnet/test_quality.py",),
    "harness/gate.py": (
        "tests/harness/test_gate.py",
        "tests/harness/test_gate_thresholds.py",
        "tests/harness/test_gate_scorecards.py",
        "tests/harness/test_gate_regressions.py",
    ),
}
"""The files that are changed, and the tests that each is shown to."""

LEFT_OUT: Final = {
    "annotation": "type annotations",
    "decorator": "the arguments of decorators",
    "error": "what is raised: its class and its text",
    "text": "texts for people: literals with a space in them, and pieces of such texts",
    "spelling": "the second and third misspelling of a word: one says whether a word is looked at",
}
"""Changes that are counted and not made, by the reason."""


def digest(source: str) -> str:
    """By which a report tells which source it is about."""
    return hashlib.blake2b(source.encode("utf-8"), digest_size=16).hexdigest()
