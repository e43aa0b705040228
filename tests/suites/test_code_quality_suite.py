"""Each blemish in a made-up source tree turns its own checks RED, and no others; the clean tree turns none."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit, checks_in

SUITE = "test_code_quality.py"

STRUCTURE = "test_each_responsibility_has_a_module_of_its_own"
DRAWER = "test_there_is_no_drawer_for_everything_else"
LENGTH = "test_no_function_is_longer_than_a_page"
HINTS = "test_public_functions_are_annotated"
DOCSTRINGS = "test_everything_public_is_documented"
EACH_MODULE = "test_every_module_by_itself_meets_the_rules"
CYCLE = "test_imports_form_no_cycle"
AUDITOR = "test_the_subject_does_not_know_its_auditor"
SWALLOWED = "test_no_error_is_swallowed"

CLEAN = '"""A room."""\n\n\ndef work(x: int) -> int:\n    """Work."""\n    return x\n'
LONG = '\n\ndef long() -> None:\n    """Long."""\n' + "    work(1)\n" * 59
ANNOTATED = "".join(f'\n\ndef work_{n}(x: int) -> int:\n    """Work."""\n    return x\n' for n in range(40))
SWALLOWING = "\n\ndef _f() -> None:\n    try:\n        work(1)\n    except{}:\n        {}\n"

TREE = {f"{room}.py": CLEAN for room in ("quantizer", "calibration", "compressed_model", "fine_tuner")}
TREE |= {"config/__init__.py": '"""A package."""\n', "config/table.py": CLEAN, "__init__.py": '"""All."""\n'}
TREE["phase_controller.py"] = CLEAN + "\n\ndef run() -> None:\n    " + '"""Run."""\n    import subject.quantizer\n'

BLEMISHES = {
    # what is written over the clean tree: path -> text (None: the file is taken away), and what has to turn RED
    "a room is missing": ({"fine_tuner.py": None}, {STRUCTURE}),
    "a room is empty": ({"calibration.py": '"""To do."""\n'}, {STRUCTURE}),
    "a drawer": ({"utils.py": CLEAN}, {DRAWER}),
    "a function of 61 lines": ({"quantizer.py": CLEAN + LONG}, {LENGTH, EACH_MODULE}),
    "a missing hint": ({"quantizer.py": CLEAN.replace("x: int", "x")}, {HINTS, EACH_MODULE}),
    "a module that nobody annotated, among many that are": (
        {"config/table.py": CLEAN + ANNOTATED, "quantizer.py": CLEAN.replace("x: int", "x")},
        {EACH_MODULE},
    ),
    "a missing docstring": ({"quantizer.py": CLEAN.replace('    """Work."""\n', "")}, {DOCSTRINGS, EACH_MODULE}),
    "a cycle of imports": ({"quantizer.py": CLEAN + "\nimport subject.phase_controller\n"}, {CYCLE}),
    "a cycle through a function": (
        {"quantizer.py": CLEAN + "\n\ndef _late() -> None:\n    from subject import phase_controller\n"},
        {CYCLE},
    ),
    "knows its auditor": ({"quantizer.py": CLEAN + "\nimport harness.gate\n"}, {AUDITOR}),
    "a bare except": ({"quantizer.py": CLEAN + SWALLOWING.format("", "raise")}, {SWALLOWED}),
    "every error passed over": ({"quantizer.py": CLEAN + SWALLOWING.format(" Exception", "pass")}, {SWALLOWED}),
    "every error turned into nothing": (
        {"quantizer.py": CLEAN + SWALLOWING.format(" Exception", "return None")},
        {SWALLOWED},
    ),
    "no source at all": (
        dict.fromkeys(TREE),
        {STRUCTURE, DRAWER, LENGTH, HINTS, DOCSTRINGS, EACH_MODULE, CYCLE, AUDITOR, SWALLOWED},
    ),
    "source that does not parse": (
        {"quantizer.py": "def (:\n"},
        {STRUCTURE, DRAWER, LENGTH, HINTS, DOCSTRINGS, EACH_MODULE, CYCLE, AUDITOR, SWALLOWED},
    ),
}


def run(folder: Path, changes: dict[str, str | None]) -> Audit:
    root = folder / "subject"
    for path, text in (TREE | changes).items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    source = (
        "from pathlib import Path\nfrom tests.suites.subjects import BareSubject\n"
        f"def factory():\n    return BareSubject(Path({str(root)!r}))\n"
    )
    return audit(folder, SUITE, source)


def test_a_clean_tree_passes_every_check(tmp_path: Path) -> None:
    done = run(tmp_path, {})
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {name: figure.value for record in done.records for name, figure in record.figures.items()}
    assert figures["longest_function"] == 3
    assert figures["type_hint_coverage"] == figures["docstring_coverage"] == 100
    assert figures["modules"] == 8


@pytest.mark.parametrize("blemish", BLEMISHES)
def test_a_blemish_turns_its_own_checks_red(tmp_path: Path, blemish: str) -> None:
    changes, expected = BLEMISHES[blemish]
    done = run(tmp_path, changes)
    assert done.red == expected, done.messages()


def test_every_check_can_fail() -> None:
    specific = [expected for _, expected in BLEMISHES.values() if len(expected) < 3]
    assert set().union(*specific) == checks_in(SUITE)


def test_a_subject_without_source_is_not_applicable(tmp_path: Path) -> None:
    source = "from tests.suites.subjects import BareSubject\ndef factory():\n    return BareSubject()\n"
    assert {record.outcome for record in audit(tmp_path, SUITE, source).records} == {"not_applicable"}
