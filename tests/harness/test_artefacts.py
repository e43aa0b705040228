from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from harness.artefacts import digest_of
from harness.errors import AuditError
from harness.evidence import Evidence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "deep").mkdir(parents=True)
    for name in ("b.txt", "a b.txt", "deep/c.txt", "Z.txt"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def test_the_digest_of_a_file_is_its_sha256(folder: Path) -> None:
    assert digest_of(folder / "b.txt") == f"sha256:{hashlib.sha256(b'b.txt').hexdigest()}"


def test_the_digest_of_a_folder_is_what_the_documented_command_gives(folder: Path) -> None:
    command = "find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert digest_of(folder) == f"sha256:{done.stdout.split()[0]}"


def test_a_changed_renamed_or_added_file_changes_the_digest(folder: Path) -> None:
    digests = [digest_of(folder)]
    (folder / "b.txt").write_text("other")
    digests.append(digest_of(folder))
    (folder / "b.txt").rename(folder / "c.txt")
    digests.append(digest_of(folder))
    (folder / "empty").touch()
    digests.append(digest_of(folder))
    assert len(set(digests)) == 4


def test_what_is_not_there_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot read the artefact .*absent"):
        digest_of(tmp_path / "absent")


def test_evidence_keeps_digests_by_name(folder: Path) -> None:
    evidence = Evidence()
    evidence.artefact("tiny packed", folder)
    assert evidence.artefacts == {"tiny packed": digest_of(folder)}
