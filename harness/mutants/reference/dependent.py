"""A project that depends on packages which are installed wherever the auditor is, with at most one licence amiss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.mutants.reference.bare import BareSubject

PROJECT = """
[project]
name = "subject"
dependencies = ["pytest"]
optional-dependencies.reports = ["jinja2"]

[tool.bitnet-audit.licences]
allowed = [
    "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "License :: OSI Approved :: MIT License",
    "License :: OSI Approved :: BSD License",
]
by_extras = []
known = {}
"""
DEPENDING: Mapping[str, tuple[str, str]] = {
    "a licence that is not on the list": ('"Apache-2.0", "MIT"', '"Apache-2.0"'),
    "a licence of what a dependency needs": (', "BSD-2-Clause", "BSD-3-Clause"', ""),
    "a licence of an extra": ('"License :: OSI Approved :: BSD License",', ""),
    "a licence for extras alone": ('"Apache-2.0", "MIT", ', '"Apache-2.0", '),
    "no licence that can be read": ("= {}", '= { pytest = "all rights reserved" }'),
    "a requirement that is not installed": ('["pytest"]', '["pytest", "no-such-package-anywhere"]'),
}
"""What stands in pyproject.toml, and what in its place."""


def dependent_project(words: str, root: Path) -> BareSubject:
    """A subject whose repository at `root` has the requirements and the list of licences of a clean one, or all but."""
    text = PROJECT.replace(*DEPENDING[words]) if words else PROJECT
    if words == "a licence for extras alone":
        text = text.replace("by_extras = []", 'by_extras = ["MIT"]')
    package = root / "subject"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    (package / "__init__.py").write_text("", encoding="utf-8")
    return BareSubject(package)
