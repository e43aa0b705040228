"""A README that misleads turns the checks of that kind of reference RED; one without references is not measured."""

from pathlib import Path

import pytest

from tests.suites.audits import Audit, audit, checks_in

SUITE = "test_documentation.py"

NAMED = "test_what_the_readme_names_exists"
SHARE = "test_share_of_references_that_hold"
PATHS, COMMANDS, SYMBOLS = (f"{NAMED}[{kind}]" for kind in ("path", "command", "symbol"))

PATH = "See [the room](subject/room.py) and `pyproject.toml`.\n"
COMMAND = "```console\n$ nox -s audit\n```\n"
SYMBOL = "```python\nfrom harness import gate\n```\n"
README = PATH + COMMAND + SYMBOL
MANY = "".join(f"`subject/room_{n}.py` " for n in range(30))

MISLEADING = {
    "a path that moved": (README.replace("subject/room.py", "src/room.py"), {PATHS, SHARE}),
    "a file that was renamed": (README.replace("pyproject.toml", "setup.cfg"), {PATHS, SHARE}),
    "a session that was renamed": (README.replace("-s audit", "-s check"), {COMMANDS, SHARE}),
    "a program that is not installed": (README.replace("nox -s audit", "no-such-program"), {COMMANDS, SHARE}),
    "a name that is gone": (README.replace("import gate", "import gates"), {SYMBOLS, SHARE}),
    "a block that does not parse": (README.replace("from harness", "form harness"), {SYMBOLS, SHARE}),
    "one wrong path among many right ones": (README + MANY + "`subject/gone.py`", {PATHS}),
}


def run(folder: Path, readme: str | None) -> Audit:
    root = folder / "repository"
    (root / "subject").mkdir(parents=True)
    (root / "harness").mkdir()  # the README may name the package of that name, which is installed
    for name in ("subject/__init__.py", "subject/room.py", "harness/__init__.py", "pyproject.toml"):
        (root / name).touch()
    for number in range(30):
        (root / f"subject/room_{number}.py").touch()
    (root / "noxfile.py").write_text("@nox.session\ndef audit(session): ...\n", encoding="utf-8")
    if readme is not None:
        (root / "README.md").write_text(readme, encoding="utf-8")
    source = (
        "from pathlib import Path\nfrom tests.suites.subjects import BareSubject\n"
        f"def factory():\n    return BareSubject(Path({str(root / 'subject')!r}))\n"
    )
    return audit(folder, SUITE, source)


def test_a_truthful_readme_passes_every_check(tmp_path: Path) -> None:
    done = run(tmp_path, README)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()
    figures = {name: figure.value for record in done.records for name, figure in record.figures.items()}
    assert figures == {"paths_named": 2, "commands_named": 1, "symbols_named": 1, "valid_references": 100}


@pytest.mark.parametrize("what", MISLEADING)
def test_a_misleading_readme_turns_the_checks_of_its_kind_red(tmp_path: Path, what: str) -> None:
    text, expected = MISLEADING[what]
    done = run(tmp_path, text)
    assert done.with_outcome("failed", "error") == expected, done.messages()


def test_every_check_can_fail() -> None:
    names = set().union(*(expected for _, expected in MISLEADING.values()))
    assert {name.partition("[")[0] for name in names} == checks_in(SUITE)


@pytest.mark.parametrize("readme", [None, "Nothing named.\n"], ids=["no-readme", "no-references"])
def test_a_readme_that_names_nothing_is_not_measured(tmp_path: Path, readme: str | None) -> None:
    assert {record.outcome for record in run(tmp_path, readme).records} == {"skipped"}
