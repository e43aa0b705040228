"""Made-up repositories, each with at most one blemish, for checks that read sources, documents, coverage data
and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.mutants.reference.bare import BareSubject
from harness.source_mutants.report import JSON_FILE, FileReport, Report, Trial
from harness.source_mutants.scope import EXPLANATIONS, FOLDER, TESTS, digest

# --------------------------------------------------------------------------- sources

CLEAN = '"""A room."""\n\n\ndef work(x: int) -> int:\n    """Work."""\n    return x\n'
LONG = '\n\ndef long() -> None:\n    """Long."""\n' + "    work(1)\n" * 59
ANNOTATED = "".join(f'\n\ndef work_{n}(x: int) -> int:\n    """Work."""\n    return x\n' for n in range(40))
SWALLOWING = "\n\ndef _f() -> None:\n    try:\n        work(1)\n    except{}:\n        {}\n"

TREE = {f"{room}.py": CLEAN for room in ("quantizer", "calibration", "compressed_model", "fine_tuner")}
TREE |= {"config/__init__.py": '"""A package."""\n', "config/table.py": CLEAN, "__init__.py": '"""All."""\n'}
TREE["phase_controller.py"] = CLEAN + "\n\ndef run() -> None:\n    " + '"""Run."""\n    import subject.quantizer\n'

BLEMISHES: Mapping[str, Mapping[str, str | None]] = {
    # what is written over the clean tree: path -> text (None: the file is taken away)
    "a room is missing": {"fine_tuner.py": None},
    "a room is empty": {"calibration.py": '"""To do."""\n'},
    "a drawer": {"utils.py": CLEAN},
    "a function of 61 lines": {"quantizer.py": CLEAN + LONG},
    "a missing hint": {"quantizer.py": CLEAN.replace("x: int", "x")},
    "a module that nobody annotated, among many that are": {
        "config/table.py": CLEAN + ANNOTATED,
        "quantizer.py": CLEAN.replace("x: int", "x"),
    },
    "a missing docstring": {"quantizer.py": CLEAN.replace('    """Work."""\n', "")},
    "a cycle of imports": {"quantizer.py": CLEAN + "\nimport subject.phase_controller\n"},
    "a cycle through a function": {
        "quantizer.py": CLEAN + "\n\ndef _late() -> None:\n    from subject import phase_controller\n"
    },
    "knows its auditor": {"quantizer.py": CLEAN + "\nimport harness.gate\n"},
    "a bare except": {"quantizer.py": CLEAN + SWALLOWING.format("", "raise")},
    "every error passed over": {"quantizer.py": CLEAN + SWALLOWING.format(" Exception", "pass")},
    "every error turned into nothing": {"quantizer.py": CLEAN + SWALLOWING.format(" Exception", "return None")},
    "no source at all": dict.fromkeys(TREE),
    "source that does not parse": {"quantizer.py": "def (:\n"},
}


def source_tree(root: Path, changes: Mapping[str, str | None]) -> BareSubject:
    """A subject whose package is the clean tree with some files changed."""
    package = root / "subject"
    package.mkdir(parents=True, exist_ok=True)
    for path, text in (TREE | dict(changes)).items():
        if text is not None:
            _write(package / path, text)
    return BareSubject(package)


# --------------------------------------------------------------------------- documents

PATH = "See [the room](subject/room.py) and `pyproject.toml`.\n"
COMMAND = "<!-- not run: it makes an environment -->\n```console\n$ nox -s audit\n```\n"
SYMBOL = "```python\nfrom harness import gate\n```\n"
LINK = "The [guide](docs/guide.md#first-steps) goes on.\n"
README = PATH + COMMAND + SYMBOL + LINK
GUIDE = "# Guide\n\n## First steps\n\n```toml\na = 1\n```\n\n<!-- run as:\ntrue\n-->\n```sh\ntrue && true\n```\n"
ROOMS = 30
MANY = "".join(f"`subject/room_{n}.py` " for n in range(ROOMS))

MISLEADING: Mapping[str, str] = {
    "a path that moved": README.replace("subject/room.py", "src/room.py"),
    "a file that was renamed": README.replace("pyproject.toml", "setup.cfg"),
    "a session that was renamed": README.replace("-s audit", "-s check"),
    "a program that is not installed": README.replace("nox -s audit", "no-such-program"),
    "a name that is gone": README.replace("import gate", "import gates"),
    "a block that does not parse": README.replace("from harness", "form harness"),
    "one wrong path among many right ones": README + MANY + "`subject/gone.py`",
    "a link to a heading that is gone": README.replace("#first-steps", "#second-steps"),
}
MISGUIDING: Mapping[str, str] = {
    # what docs/guide.md says in place of the guide
    "a path that moved, in the guide": GUIDE + "`subject/gone.py`\n",
    "a heading that was renamed": GUIDE.replace("First", "Next"),
    "a command that bash cannot read": GUIDE.replace("true && true", "true &&"),
    "settings that do not parse": GUIDE.replace("a = 1", "a = "),
    "a reduced form that leaves the command out": GUIDE.replace("true && true", "subject compress"),
    "excuses for everything": GUIDE + "<!-- not run: later -->\n```sh\ntrue\n```\n" * 4,
    "a block that fails": GUIDE.replace("\ntrue\n", "\nfalse\n"),
    "a Python block that fails": GUIDE + "```python\n1 / 0\n```\n",
}


def documented_repository(root: Path, words: str, readme: str | None = README) -> BareSubject:
    """A subject in a repository whose documents mislead in one way; `readme` None: there are no documents."""
    for name in ("subject/__init__.py", "subject/room.py", "harness/__init__.py"):
        _write(root / name, "")  # the README may name the package harness, which is installed
    _write(root / "pyproject.toml", '[project.scripts]\nsubject = "subject:main"\n')
    for number in range(ROOMS):
        _write(root / f"subject/room_{number}.py", "")
    _write(root / "noxfile.py", "@nox.session\ndef audit(session): ...\n")
    text = MISLEADING.get(words, readme)
    if text is not None:
        _write(root / "README.md", text)
    if text is not None and "guide" in text:
        _write(root / "docs/guide.md", MISGUIDING.get(words, GUIDE))
    return BareSubject(root / "subject")


# --------------------------------------------------------------------------- coverage

Arcs = Mapping[str, list[tuple[int, int]] | None]

MODULE = "def f(x):\n    if x:\n        return 1\n    return 2\n"
FILES = ("bitnet/calibration.py", "bitnet/fine_tuner.py", "bitnet/other.py", "harness/other.py")
COVERED = [(-1, 1), (1, -1), (-1, 2), (2, 3), (3, -1), (2, 4), (4, -1)]
ONE_BRANCH = [arc for arc in COVERED if arc != (2, 4)]
ONE_LINE = [arc for arc in COVERED if 4 not in arc]

SHORTFALLS: Mapping[str, Arcs] = {
    # jumps between lines that were seen, where not all of them were (None: nothing was)
    "a branch of the auditor": {"harness/other.py": ONE_BRANCH},
    "a line of the auditor": {"harness/other.py": ONE_LINE},
    "a branch of the subject": {"bitnet/other.py": ONE_BRANCH},
    "a line of calibration": {"bitnet/calibration.py": ONE_LINE},
    "fine-tuning was never imported": {"bitnet/fine_tuner.py": None},
    "the auditor was not measured": {"harness/other.py": None},
}


def measured_repository(root: Path, arcs: Arcs) -> BareSubject:
    """A subject in a repository with a data file of coverage's, which says what tests have seen of its modules."""
    import coverage

    for name in FILES:
        _write(root / name, MODULE)
    _write(root / "pyproject.toml", "[tool.coverage.run]\nbranch = true\nrelative_files = true\n")
    seen = dict.fromkeys(FILES, COVERED) | dict(arcs)
    _write(root / "seen.json", json.dumps(seen))
    (root / ".coverage").unlink(missing_ok=True)
    data = coverage.CoverageData(basename=str(root / ".coverage"))
    data.add_arcs({name: each for name, each in seen.items() if each is not None})
    data.write()
    return BareSubject(root / "bitnet")


# --------------------------------------------------------------------------- changes to the source

NOTICED = Trial(line=2, function="f", change="- if x:\n+ if not x:", fate="killed")
SURVIVOR = Trial(line=3, function="f", change="- return 1\n+ return 2", fate="survived")
EXPLANATION = """[[explained]]
file = "{file}"
function = "{function}"
reason = "Made up."
changes = ["- return {before}\\n+ return 2"]
"""


def changed_repository(root: Path, words: str) -> BareSubject:
    """A subject in a repository with a report on changes to its source: one was noticed, another is explained."""
    for file in TESTS:
        _write(root / file, MODULE)
    _write(root / "pyproject.toml", "")
    first, report = next(iter(TESTS)), Report()
    for file in TESTS:
        trials = [SURVIVOR] if file == first else []
        if file == first or words != "a file that nothing was changed in":
            trials.append(NOTICED)
        report = report.with_file(
            FileReport(file=file, tests=(), digest=digest(MODULE), trials=tuple(trials), left_out={}, seconds=0.0)
        )
    _write(root / FOLDER / JSON_FILE, report.model_dump_json())
    function = "g" if words == "an explanation of another function" else "f"
    before = 2 if words == "an explanation of another change" else 1
    explanation = EXPLANATION.format(file=first, function=function, before=before)
    _write(root / FOLDER / EXPLANATIONS, "" if words == "a survivor that nobody explained" else explanation)
    return BareSubject(root / "bitnet")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
