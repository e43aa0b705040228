import pytest

from harness import documentation
from harness.documentation import Document, documents, running

PYPROJECT = '[project]\nname = "made-up"\n[project.scripts]\nmade-up = "made_up:main"\n'


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    (root / "out").mkdir()
    (root / ".hidden").mkdir()
    (root / "docs" / "plot.svg").touch()
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / ".gitignore").write_text("out/\n")
    return root


def document(root, text, name="README.md"):
    (root / name).write_text(text)
    return Document(root / name, root)


def problems(root, text):
    return [each.problem for each in documentation.block_references(document(root, text))]


# --------------------------------------------------------------------------- what is said beside a block


def test_a_comment_right_above_a_block_says_how_it_is_run(root):
    text = """\
<!-- not run: it takes
  a network -->
```sh
one
```
<!-- run as:
two --short
# and again
-->

```sh
two
```
<!-- run slowly -->
```python
three
```
<!-- run slowly as:
four --short
-->
```bash
four
```
<!-- saved as: a/five.yaml -->
```yaml
five: 5
```
<!-- a comment of another kind -->
~~~console
$ six
~~~
    ```sh
    seven \\
      eight
    ```
"""
    blocks = document(root, text).blocks
    assert [(each.excuse, each.reduced, each.slow, each.file) for each in blocks] == [
        ("it takes a network", None, False, None),
        (None, "two --short\n# and again\n", False, None),
        (None, None, True, None),
        (None, "four --short\n", True, None),
        (None, None, False, "a/five.yaml"),
        (None, None, False, None),
        (None, None, False, None),
    ]
    assert [each.language for each in blocks] == ["sh", "sh", "python", "bash", "yaml", "console", "sh"]
    assert [blocks[1].to_run, blocks[6].to_run] == ["two --short\n# and again\n", "seven \\\n  eight\n"]
    assert len(documentation.excused_blocks(document(root, text))) == 1
    assert len(documentation.runnable_blocks(document(root, text))) == 6


def test_a_comment_belongs_to_the_next_line_alone(root):
    text = "<!-- not run: because -->\nSome prose.\n```sh\ntrue\n```\n```sh\n```\n"
    blocks = document(root, text).blocks
    assert [each.excuse for each in blocks] == [None, None]
    assert [each.title for each in blocks] == ["true", "(empty block)"]


# --------------------------------------------------------------------------- sound blocks


@pytest.mark.parametrize(
    ("language", "text", "problem"),
    [
        ("sh", "true && true", None),
        ("sh", "true &&", "bash cannot read it"),
        ("console", "$ true\n(an output", None),
        ("python", "x = 1", None),
        ("python", "x = ", "is no Python (line 1)"),
        ("toml", "a = ", "is no TOML"),
        ("yaml", "a: [", "is no YAML"),
        ("json", "{}", None),
        ("json", "{", "is no JSON"),
    ],
)
def test_code_and_data_must_be_readable(root, language, text, problem):
    (found,) = problems(root, f"```{language}\n{text}\n```\n")
    assert (found is None) == (problem is None)
    assert problem is None or found.startswith(problem)


def test_text_is_neither_code_nor_data(root):
    assert problems(root, "```text\n(\n```\n```\n{\n```\n") == []


def test_a_reduced_form_holds_every_command_of_the_project(root):
    shown = "```sh\nmade-up compress x && made-up eval x\nmade-up eval y\nother\n```\n"
    assert problems(root, f"<!-- run as:\nmade-up compress t\nmade-up eval t\nmade-up eval t\n-->\n{shown}") == [None]
    assert problems(root, f"<!-- run as:\nmade-up eval t\n-->\n{shown}") == [
        "its reduced form leaves out made-up compress, made-up eval"
    ]
    assert problems(root, "<!-- run as:\ntrue &&\n-->\n```sh\ntrue\n```\n")[0].startswith("bash cannot read it")


def test_without_bash_no_shell_block_is_read(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert problems(root, "```sh\ntrue\n```\n") == ["there is no bash to read it"]


# --------------------------------------------------------------------------- running


def outcomes(root, slow=True):
    folder = documentation.readers_folder(root, root.parent / "reader")
    return [
        (each.document, each.title, each.problem) for each in documentation.run_blocks(documents(root), folder, slow)
    ]


def test_blocks_run_in_order_in_one_folder_beside_the_repository(root):
    document(
        root,
        "```sh\ntest -e docs/plot.svg && test ! -e out && echo 1 > made\n```\n<!-- run slowly -->\n```sh\nfalse\n```\n",
    )
    text = "<!-- saved as: b -->\n```json\n2\n```\n```python\nfrom pathlib import Path\nPath('made').stat()\n```\n"
    document(
        root,
        text + "```console\n$ cmp made b\noutput\n```\n<!-- not run: never -->\n```sh\nexit 7\n```\n",
        "docs/guide.md",
    )
    done = outcomes(root, slow=False)
    assert [each[:2] for each in done] == [
        ("README.md", "test -e docs/plot.svg && test ! -e out && echo 1 > made"),
        ("docs/guide.md", "2"),
        ("docs/guide.md", "from pathlib import Path"),
        ("docs/guide.md", "$ cmp made b"),
    ]
    assert [each[2] is None for each in done] == [True, True, True, False]
    assert "exit code 1: + cmp made b" in done[-1][2]
    assert not (root / "made").exists()


def test_slow_blocks_are_run_where_time_does_not_count(root):
    document(root, "<!-- run slowly -->\n```sh\nfalse\ntrue\n```\n")
    assert outcomes(root, slow=False) == []
    (root.parent / "reader").rename(root.parent / "first")
    assert outcomes(root)[0][2] == "ended with exit code 1: + false"


def test_a_block_that_does_not_end_is_a_failure(root, monkeypatch):
    monkeypatch.setattr(running, "LIMIT_SECONDS", 0.3)
    document(root, "```sh\nsleep 60\n```\n")
    assert outcomes(root) == [("README.md", "sleep 60", "did not end within 0.3 s")]


@pytest.mark.parametrize(("command", "code", "told"), [("true", 0, "ran"), ("false", 1, "ended with exit code 1")])
def test_the_program_runs_all_documents_of_a_folder(root, capsys, command, code, told):
    from harness.documentation.__main__ import main

    document(root, f"```sh\n{command}\n```\n")
    assert main(root) == code
    assert capsys.readouterr().out.startswith(f"README.md: {command}: {told}")
