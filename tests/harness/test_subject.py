from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness import subject as subjects
from harness.errors import AuditError
from harness.subject import Declaration, NotApplicable, Packs, RunsCommand, WeightVariant, load_subject, require

SUBJECT = """
from dataclasses import dataclass
from harness.subject import Declaration

@dataclass
class Mine:
    declaration: Declaration = Declaration(name="mine", version="2.0", codecs=("2bit",))
    command: tuple = ("mine",)
    def pack(self, codes, codec): return codes
    def unpack(self, packed, codec, width): return packed

def broken(): raise RuntimeError("no model at hand")
def nothing(): return object()
class Untyped: declaration = "mine"
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_subject.py"
    path.write_text(SUBJECT)
    return path


def test_a_subject_is_loaded_from_a_file(file: Path) -> None:
    subject = load_subject(f"{file}:Mine")
    assert (subject.declaration.name, subject.declaration.version) == ("mine", "2.0")


def test_a_capability_is_given_to_those_who_have_it(file: Path) -> None:
    subject = load_subject(f"{file}:Mine")
    assert require(subject, RunsCommand).command == ("mine",)
    assert require(subject, Packs).pack("codes", "2bit") == "codes"  # type: ignore[arg-type]


def test_a_missing_capability_is_not_applicable(file: Path) -> None:
    with pytest.raises(NotApplicable, match="mine does not offer QuantizesWeights"):
        require(load_subject(f"{file}:Mine"), subjects.QuantizesWeights)


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [
        ("missing", "has no callable 'missing'"),
        ("number", "has no callable 'number'"),
        ("", "has no callable ''"),
        ("broken", "could not be made: RuntimeError: no model at hand"),
        ("nothing", "has no `declaration`"),
        ("Untyped", "has no `declaration`"),
    ],
)
def test_a_factory_that_gives_no_subject_is_refused(file: Path, attribute: str, fault: str) -> None:
    with pytest.raises(AuditError, match=fault) as caught:
        load_subject(f"{file}:{attribute}")
    assert str(file) in str(caught.value)


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"there is no file .*absent\.py"):
        load_subject(f"{tmp_path / 'absent.py'}:Mine")
    (tmp_path / "faulty.py").write_text("import a_module_that_is_not_there")
    with pytest.raises(AuditError, match="could not be imported: ModuleNotFoundError"):
        load_subject(f"{tmp_path / 'faulty.py'}:Mine")


def test_a_subject_is_loaded_through_an_entry_point(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, "my_subject", raising=False)
    entry = EntryPoint(name="mine", value="my_subject:Mine", group=subjects.ENTRY_POINT_GROUP)
    monkeypatch.setattr(subjects, "entry_points", lambda group: [entry] if group == subjects.ENTRY_POINT_GROUP else [])
    assert load_subject("mine").declaration.name == "mine"


@pytest.mark.parametrize("spec", ["nobody", "", "nobody:Mine", "file.txt:Mine"])
def test_an_unknown_name_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(AuditError, match=r"unknown subject .*known are .*bitnet"):
        load_subject(spec)


@pytest.mark.parametrize(
    ("granularity", "group_size", "name"),
    [("tensor", None, "absmean-tensor"), ("channel", None, "absmean-channel"), ("group", 128, "absmean-group128")],
)
def test_a_variant_has_a_short_name(granularity: str, group_size: int | None, name: str) -> None:
    variant = WeightVariant("absmean", granularity, group_size, None, "half_even", "absmean", False)  # type: ignore[arg-type]
    assert variant.id == name


def test_a_declaration_cannot_be_changed_after_the_fact() -> None:
    declaration = Declaration(name="mine", version="1")
    with pytest.raises(FrozenInstanceError):
        declaration.ste = "clipped"  # type: ignore[misc]
