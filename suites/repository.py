"""Where the repository is whose documents and tests describe the subject."""

from pathlib import Path

import pytest

from harness.subject import NotApplicable, Subject


def repository_of(subject: Subject) -> Path:
    """The nearest folder above the subject's source that holds a pyproject.toml.

    A subject without source has no repository here (not applicable); one that is installed without its repository
    cannot be measured (skipped).
    """
    root = subject.declaration.source_root
    if root is None:
        raise NotApplicable(f"{subject.declaration.name} offers no source")
    for folder in root.resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    pytest.skip(f"{subject.declaration.name} is installed without its repository; run the audit from a clone of it")
