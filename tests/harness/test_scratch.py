import subprocess
import sys
import tempfile

import pytest

from harness.errors import AuditError
from harness.scratch import scratch_folder

KILLED = """
import os, signal
from harness.scratch import scratch_folder
with scratch_folder("run") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("left")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what it has found before
    return tmp_path


def test_a_folder_is_there_while_it_is_needed(place):
    with pytest.raises(FileExistsError), scratch_folder("run") as folder:
        folder.mkdir()
    assert not list(place.iterdir())


def test_without_a_place_for_it_there_is_one_sentence(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(AuditError, match="temporary folder: No such file or directory; set TMPDIR"):
        scratch_folder("run").__enter__()


def test_what_a_killed_process_has_left_goes_with_the_next_one_for_the_same_purpose(place):
    ended = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert [str(left) for left in place.iterdir()] == [ended.stdout.strip()]
    with scratch_folder("other") as folder:
        assert len(list(place.iterdir())) == 2
    with scratch_folder("run") as folder:
        assert list(place.iterdir()) == [folder]


def test_what_is_in_use_or_of_others_stays(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").write_text("kept")
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (place / f"bitnet-audit-run-{int(ended.stdout)}-abcdefgh").symlink_to(elsewhere)
    for name in ("bitnet-audit-run-1-abcdefgh", "bitnet-audit-run-notes", "bitnet-audit-running"):
        (place / name).mkdir()
    before = set(place.iterdir())
    with scratch_folder("run") as first, scratch_folder("run") as second:
        assert set(place.iterdir()) == before | {first, second}
    assert set(place.iterdir()) == before
    assert (elsewhere / "file").read_text() == "kept"
