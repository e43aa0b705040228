import io
from html.parser import HTMLParser

from rich.console import Console

from harness.mutants.render import boards, print_matrix, problems, render_html, render_markdown
from tests.harness.mutants.made_up import ALARM, IDLE, ONE, OTHER, matrix, trial

UNSOUND = matrix(
    trial(red={ONE: "assertion", OTHER: "crash"}),
    trial("second", fate="survived", red={}, title="A <b>title</b> | with markup"),
    checks=(ONE, OTHER, IDLE),
    false_alarms=(ALARM,),
)


def test_a_board_marks_how_each_check_turned_red() -> None:
    (board,) = boards(UNSOUND)
    assert board.checks == ("test_one", "test_other", "test_idle")
    assert board.kills == (1, 0, 0)
    assert board.cells == (("x", "!", "·"), ("·", "·", "·"))


def test_suites_that_nothing_was_shown_to_are_left_out() -> None:
    assert [board.suite for board in boards(matrix(checks=(ONE, OTHER, "test_b.py::test_b")))] == ["test_a.py"]


def test_problems_name_what_is_not_sound() -> None:
    assert problems(matrix()) == []
    lines = problems(UNSOUND)
    assert lines[0].startswith("survived: area/second (A <b>title</b>")
    assert lines[1:3] == [f"idle: {OTHER}", f"idle: {IDLE}"]
    assert lines[3] == f"false alarm: suites/{ONE} with seed 3: AssertionError: <no>"


def test_checks_set_aside_are_shown_with_the_reason_and_are_no_problem() -> None:
    made = matrix(checks=(ONE, OTHER, IDLE), set_aside={IDLE: "a_library not installed"})
    output = io.StringIO()
    print_matrix(made, Console(file=output, width=100, color_system=None))
    assert problems(made) == []
    assert f"set aside: {IDLE}: a_library not installed" in output.getvalue()
    assert all("library not installed" in text for text in (render_markdown(made), render_html(made)))


def test_a_terminal_and_a_file_get_the_whole_table() -> None:
    for terminal in (True, False):
        output = io.StringIO()
        print_matrix(UNSOUND, Console(file=output, force_terminal=terminal, width=100, color_system=None))
        text = output.getvalue()
        assert "test_a.py" in text
        assert "  1 test_one: 1" in text
        assert f"idle: {IDLE}" in text
        assert next(line for line in text.splitlines() if line.strip().startswith("first")).split()[1:] == [
            "killed", "x", "!", "·",
        ]  # fmt: skip


def test_markdown_shows_every_mutant_and_escapes_foreign_text() -> None:
    text = render_markdown(UNSOUND)
    assert "| area/first | What is broken in the first | killed | x | ! | · |" in text
    assert "A &lt;b&gt;title" in text
    assert text.index("idle:") < text.index("## test")
    assert "1. test\\_one: 1" in text or "1. test_one: 1" in text


def test_the_page_is_well_formed_and_escapes_foreign_text() -> None:
    class Reader(HTMLParser):
        stack: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("br", "meta", "p"):
                self.stack.append(tag)

        def handle_endtag(self, tag):
            if tag != "p":
                assert self.stack.pop() == tag

    page = render_html(UNSOUND)
    reader = Reader()
    reader.feed(page)
    assert reader.stack == []
    assert "<b>title" not in page
    assert "area/second" in page
    assert "pack(int8[1, 1]" in page
