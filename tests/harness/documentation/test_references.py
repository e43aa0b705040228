import os
import sys
from pathlib import Path

import pytest

from harness import documentation
from harness.documentation import Document, commands

PYPROJECT = """\
[project]
name = "made-up"
[project.optional-dependencies]
audit = []
[project.scripts]
made-up = "made_up:main"
broken = "made_up:broken"
[dependency-groups]
test = []
"""
NOXFILE = """\
import nox

@nox.session
def tests(session): ...

@nox.session(name="type-check", python=False)
def types(session): ...

def helper(session): ...
"""
SCRIPT = """\
#!/bin/sh
case "$1" in
  --help) echo "--version" ;;
  compress) echo "--out DIR --set KEY=VALUE" ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    (root / "made_up").mkdir(parents=True)
    (root / "docs").mkdir()
    (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (root / "noxfile.py").write_text(NOXFILE, encoding="utf-8")
    (root / "made_up/__init__.py").write_text("class Thing:\n    size = 1\n", encoding="utf-8")
    (root / "made_up/room.py").write_text("def work(): ...\n", encoding="utf-8")
    (root / "constraints.txt").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "made-up").write_text(SCRIPT, encoding="utf-8")
    (programs / "made-up").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.syspath_prepend(root)
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "made_up"]:
        del sys.modules[name]


def document(root: Path, text: str, name: str = "README.md") -> Document:
    (root / name).write_text(text, encoding="utf-8")
    return Document(root / name, root)


def problems(references) -> dict[str, str | None]:
    return {each.text: each.problem for each in references}


# --------------------------------------------------------------------------- paths


def test_links_and_pictures_must_lead_somewhere(repository):
    text = """\
[one](made_up/room.py) ![two](docs/picture.svg "title") [three](<made_up/>) [part](docs/missing.md#section)
[![badge](docs/badge.svg)](made_up/__init__.py) [within](#section) [web](https://example.org/a.md) [mail](mailto:a@b.c)
<a href="docs/"><img alt="x" src='docs/plot.png'></a>

[four]: noxfile.py
[^note]: not-a-path.md
"""
    assert problems(documentation.path_references(document(repository, text))) == {
        "made_up/room.py": None,
        "docs/picture.svg": "does not exist",
        "made_up/": None,
        "docs/missing.md": "does not exist",
        "docs/badge.svg": "does not exist",
        "made_up/__init__.py": None,
        "docs/": None,
        "docs/plot.png": "does not exist",
        "noxfile.py": None,
    }


def test_targets_are_taken_from_the_documents_folder_and_spans_from_the_root(repository):
    text = "[room](../made_up/room.py) and [gone](made_up/room.py), `made_up/room.py`"
    found = documentation.path_references(document(repository, text, "docs/guide.md"))
    assert [(each.text, each.problem) for each in found] == [
        ("../made_up/room.py", None),
        ("made_up/room.py", "does not exist"),
        ("made_up/room.py", None),
    ]


def test_a_target_outside_the_repository_is_not_there_for_the_reader(repository):
    (repository.parent / "secret.md").touch()
    found = documentation.path_references(document(repository, "[up](../secret.md) `../secret.md`"))
    assert problems(found) == {"../secret.md": "lies outside the repository"}


def test_code_spans_count_where_they_look_like_a_path(repository):
    text = "`made_up/gone` `gone/` `docs/` `a/b` `.json` `.hidden.toml` `x.py` `1/2` `f(a.py)` `array[0](x.md)`"
    assert problems(documentation.path_references(document(repository, text))) == {
        "made_up/gone": "does not exist",  # made_up/ is a folder of the repository
        "gone/": "does not exist",
        "docs/": None,
        ".hidden.toml": "does not exist",
        "x.py": "does not exist",
    }


def test_what_a_run_makes_is_left_out(repository):
    (repository / ".gitignore").write_text("# made by a run\nout/\nreports/latest/\n*.tmp.md\n", encoding="utf-8")
    text = "`out/packed/` `reports/latest/scorecard.json` `deep/out/x.json` `a.tmp.md` `path/to/file.py` `reports/x.md`"
    assert problems(documentation.path_references(document(repository, text))) == {"reports/x.md": "does not exist"}


def test_paths_inside_blocks_are_not_prose(repository):
    assert documentation.path_references(document(repository, "```text\n[a](gone.md) `gone.py`\n```\n")) == ()


# --------------------------------------------------------------------------- links


GUIDE = """\
# The guide
## First `steps`, [and](x.md) more!
## Again
## Again
## Ünïcode -- dashes ##
<a id="by-hand"></a> text {#attribute}
```text
# No heading
```
"""


def test_links_lead_to_files_and_headings(repository):
    document(repository, GUIDE, "docs/guide.md")
    (repository / ".gitignore").write_text("out/\n", encoding="utf-8")
    (repository / "docs" / "plot.svg").touch()
    good = ("#here", "docs/guide.md", "docs/plot.svg", "noxfile.py", "docs/guide.md#the-guide", "docs/guide.md#again-1")
    good += ("docs/guide.md#first-steps-and-more", "docs/guide.md#by-hand", "docs/guide.md#attribute")
    good += ("docs/guide.md#ünïcode----dashes",)
    bad = {
        "#gone": "README.md has no heading gone",
        "docs/guide.md#no-heading": "guide.md has no heading no-heading",
        "docs/guide.md#again-2": "guide.md has no heading again-2",
        "docs/gone.md#the-guide": "does not exist",
        "docs/plot.svg#top": "only headings of Markdown files can be linked to",
        "../secret.md": "lies outside the repository",
    }
    left_out = ("https://example.org/#a", "mailto:a@b.c", "out/made.md#later")
    text = "# Here\n" + " ".join(f"[x]({target})" for target in (*good, *bad, *left_out)) + " `[no](link.md)`\n"
    assert problems(documentation.link_references(document(repository, text))) == dict.fromkeys(good) | bad


def test_a_file_that_the_reader_saves_is_no_path_of_the_repository(repository):
    text = "Write `mine.toml`, not `yours.toml`.\n\n<!-- saved as: mine.toml -->\n```toml\na = 1\n```\n"
    assert problems(documentation.path_references(document(repository, text))) == {"yours.toml": "does not exist"}


def test_the_readme_comes_first_and_there_may_be_no_documents(repository):
    assert documentation.documents(repository) == ()
    for name in ("docs/b.md", "docs/a.md", "README.md"):
        document(repository, "", name)
    found = [each.path.relative_to(repository).as_posix() for each in documentation.documents(repository)]
    assert found == ["README.md", "docs/a.md", "docs/b.md"]


# --------------------------------------------------------------------------- commands


def command_problems(root: Path, *lines: str, language: str = "sh") -> dict[str, str | None]:
    block = f"```{language}\n" + "\n".join(lines) + "\n```\n"
    return problems(documentation.command_references(document(root, block)))


def test_scripts_of_the_project_are_asked_for_their_options(repository):
    assert command_problems(
        repository,
        "made-up compress model --out out --set a=b",
        "made-up compress model --output out",
        "made-up compress --out=x --sets y",
        "made-up --version",
        "made-up evaluate model",
        "broken x",
    ) == {
        "made-up compress model --out out --set a=b": None,
        "made-up compress model --output out": "unknown option --output",
        "made-up compress --out=x --sets y": "unknown option --sets",
        "made-up --version": None,
        "made-up evaluate model": "made-up evaluate --help does not run",
        "broken x": "broken x --help does not run",
    }


def test_a_script_that_hangs_or_cannot_start_does_not_run(repository, monkeypatch):
    programs = repository.parent / "programs"
    (programs / "made-up").write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    (programs / "broken").write_text("#!/nowhere/interpreter\n", encoding="utf-8")
    (programs / "broken").chmod(0o755)
    monkeypatch.setattr(commands, "HELP_SECONDS", 0.2)
    assert command_problems(repository, "made-up", "broken") == {
        "made-up": "made-up --help does not run",
        "broken": "broken --help does not run",
    }


def test_nox_sessions_must_be_defined(repository):
    commands = ("nox -s tests type-check -- -k x", "nox -s types", "python -m nox -s types", "nox -l")
    assert command_problems(repository, *commands) == {
        "nox -s tests type-check -- -k x": None,
        "nox -s types": "there is no nox session types",
        "python -m nox -s types": "there is no nox session types",
        "nox -l": None,
    }
    (repository / "noxfile.py").unlink()
    assert command_problems(repository, "nox -s tests") == {"nox -s tests": "there is no noxfile.py"}


def test_extras_groups_and_requirement_files_must_exist(repository):
    assert command_problems(
        repository,
        'pip install -c constraints.txt -e ".[audit]"',
        "pip install '.[audit,gpu]'",
        "python -m pip install 'made-up[gpu]' torch",
        "pip install -r gone.txt",
        "pip install --group test --group gone",
        "pip install --upgrade anything",
    ) == {
        "pip install -c constraints.txt -e '.[audit]'": None,
        "pip install '.[audit,gpu]'": "there is no extra gpu",
        "python -m pip install 'made-up[gpu]' torch": "there is no extra gpu",
        "pip install -r gone.txt": "gone.txt does not exist",
        "pip install --group test --group gone": "there is no dependency group gone",
        "pip install --upgrade anything": None,
    }


def test_python_runs_modules_and_files_that_exist(repository):
    assert command_problems(
        repository, "python3.11 -m venv .venv", "python -m made_up.gone", "python tool.py", "python -c 'x'", "python"
    ) == {
        "python3.11 -m venv .venv": None,
        "python -m made_up.gone": "there is no module made_up.gone",
        "python tool.py": "tool.py does not exist",
        "python -c x": None,
        "python": None,
    }


def test_other_programs_must_be_there(repository):
    assert command_problems(repository, "cd here && . .venv/bin/activate", "ls | no-such-program -x") == {
        "cd here": None,
        ". .venv/bin/activate": None,
        "ls": None,
        "no-such-program -x": "there is no such program",
    }


def test_prompts_output_comments_variables_and_continuations(repository):
    lines = ["$ THREADS=1 made-up compress x \\", "    --out y   # a comment", "output that is no command", "$ cd ''"]
    assert command_problems(repository, *lines, language="console") == {
        "made-up compress x --out y": None,
        "cd ''": None,
    }


def test_a_line_with_an_open_quotation_is_reported_as_it_stands(repository):
    assert command_problems(repository, 'gone "half') == {"""'gone "half'""": "there is no such program"}


def test_other_blocks_hold_no_commands(repository):
    assert command_problems(repository, "made-up gone", language="text") == {}


# --------------------------------------------------------------------------- symbols


def test_imports_of_python_blocks_and_dotted_names_must_exist(repository):
    text = """\
`made_up.room.work()` `made_up.room.play` `made_up.Thing.size` `made_up.gone` `other.thing` `made_up.toml`

```python
import os, made_up.room
from made_up import Thing, Nothing
from . import local
```
"""
    assert problems(documentation.symbol_references(document(repository, text))) == {
        "made_up.room": None,
        "made_up.Thing": None,
        "made_up.Nothing": "made_up has no Nothing",
        "made_up.room.work": None,
        "made_up.room.play": "made_up.room has no play",
        "made_up.Thing.size": None,
        "made_up.gone": "made_up has no gone",
    }


def test_a_package_that_cannot_be_imported_is_a_problem(repository, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(repository)])
    found = documentation.symbol_references(document(repository, "`made_up.room.work`"))
    assert problems(found) == {"made_up.room.work": "there is no module made_up"}


@pytest.mark.parametrize(("block", "first"), [("x = (\n", "x = ("), ("\n  y\n", "y")])
def test_a_python_block_that_does_not_parse_is_a_problem(repository, block, first):
    found = documentation.symbol_references(document(repository, f"```python\n{block}```\n"))
    assert [(each.text, "not valid Python" in each.problem) for each in found] == [(first, True)]


def test_a_repository_without_packages_has_no_symbols(tmp_path):
    assert documentation.symbol_references(document(tmp_path, "`.json` `a.b`")) == ()
