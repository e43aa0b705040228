import sys
from pathlib import Path

import pytest
from hypothesis import settings

from harness.source_mutants import campaign, trial

FILE = "made_up_place.py"
TEST = "test_made_up_place.py"
SOURCE = '''"""A place."""


def larger(a, b):
    """The larger of two."""
    return a if a > b else b


def nobody_asks(a):
    """Nobody tests this."""
    return a + 1
'''
TESTS = """from made_up_place import larger


def test_larger():
    assert larger(1, 2) == larger(2, 1) == 2
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one file and its tests; what a child would alter of its process is put back."""
    (tmp_path / FILE).write_text(SOURCE, encoding="utf-8")
    (tmp_path / TEST).write_text(TESTS, encoding="utf-8")
    monkeypatch.setattr(trial, "ROOT", tmp_path)
    monkeypatch.setattr(campaign, "TESTS", {FILE: (TEST,)})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    monkeypatch.chdir(tmp_path)
    profile = settings.get_current_profile_name()
    yield tmp_path
    settings.load_profile(profile)
    for name in ("made_up_place", "test_made_up_place"):
        sys.modules.pop(name, None)
