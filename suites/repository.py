"""Where the repository is whose documents and tests describe the subject, and which subject is the project's own."""

from pathlib import Path

import pytest

from harness.run import suites_directory
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


def refuse_other_projects(subject: Subject, what: str) -> None:
    """Leave rows about the auditor itself out of the audits of others: what they say is the same whoever is audited.

    The auditor's own subject is the one whose package lies beside the suites; any other is not applicable.
    """
    root = subject.declaration.source_root
    if root is None or root.resolve().parent != suites_directory().resolve().parent:
        name = subject.declaration.name
        raise NotApplicable(
            f"{what} are the auditor's own and say nothing of {name}; the project's own audit has their rows"
        )
