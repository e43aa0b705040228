import io
import re

import pytest

from bitnet.progress import Stages


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def two_stages(visible):
    with Stages(2, visible) as stages:
        with stages.stage("first") as advance:
            advance(1, 4)
            advance(4, 4)
        with stages.stage("second"):
            running = stages.rows
    return stages, running


def test_stages_are_measured_in_order_and_a_running_one_counts(capsys):
    stages, running = two_stages(visible=False)
    assert [row.name for row in running] == [row.name for row in stages.rows] == ["first", "second"]
    assert running[0] == stages.rows[0]
    assert all(row.duration >= 0 and row.peak_memory > 1e6 for row in stages.rows)
    assert stages.rows[1].duration >= running[1].duration
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_one_line_for_each_stage(capsys):
    two_stages(visible=True)
    output, log = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r" *\d+\.\d s  1/2 first\n *\d+\.\d s  2/2 second\n", log)


def test_a_terminal_gets_bars(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    two_stages(visible=True)
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "━" in shown
    assert "1/2 first" in shown
    assert " s  1/2" not in shown


def test_a_terminal_without_cursor_control_gets_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    two_stages(visible=True)
    assert "\x1b" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) == 2


def test_a_stage_that_fails_counts_as_running():
    stages = Stages(1, visible=False)
    with pytest.raises(ZeroDivisionError), stages, stages.stage("fails"):
        raise ZeroDivisionError
    assert [row.name for row in stages.rows] == ["fails"]
