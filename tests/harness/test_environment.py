import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

from harness import environment
from harness.environment import describe_commit, describe_environment


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q")
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("x = 1\n")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-q", "-m", "first")
    return package


def test_the_environment_names_this_process_s_libraries_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(environment, "LIBRARIES", ("torch", "no-such-library"))
    found = describe_environment()
    assert found.libraries == {"torch": metadata.version("torch")}
    assert found.threads["OMP_NUM_THREADS"] == "3"
    assert found.threads["torch"] == str(torch.get_num_threads())
    assert found.cores >= 1
    assert found.cpu


def test_the_fingerprint_changes_with_anything_in_the_environment() -> None:
    found = describe_environment()
    assert found.fingerprint == describe_environment().fingerprint
    others = [{"cores": found.cores + 1}, {"libraries": {"torch": "0"}}, {"threads": {}}, {"python": "3"}]
    fingerprints = {found.model_copy(update=change).fingerprint for change in others}
    assert len(fingerprints | {found.fingerprint}) == 5


def test_the_processor_has_a_name_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def without_proc(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path == Path("/proc/cpuinfo"):
            raise FileNotFoundError
        return read_text(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", without_proc)
    monkeypatch.setattr("platform.processor", lambda: "")
    assert describe_environment().cpu == "unknown"


def test_the_commit_is_that_of_the_tracked_package(repository: Path) -> None:
    head = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = describe_commit(repository)
    assert commit is not None
    assert commit.id == head.stdout.strip()
    assert not commit.dirty


def test_a_changed_or_new_file_makes_the_tree_dirty(repository: Path) -> None:
    (repository / "module.py").write_text("x = 2\n")
    changed = describe_commit(repository)
    git(repository, "checkout", "-q", "--", ".")
    (repository.parent / "new.txt").write_text("new")
    added = describe_commit(repository)
    assert changed is not None
    assert added is not None
    assert (changed.dirty, added.dirty) == (True, True)


def test_hooks_that_export_git_dir_do_not_mislead(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = describe_commit(repository)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert describe_commit(repository) == expected


def test_a_copy_that_the_surrounding_repository_does_not_track_has_no_commit(repository: Path) -> None:
    installed = repository.parent / "site-packages"
    installed.mkdir()
    (installed / "module.py").write_text("x = 1\n")
    assert describe_commit(installed) is None


def test_without_git_or_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert describe_commit(tmp_path) is None
