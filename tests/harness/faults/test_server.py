import os
import signal
import subprocess
import sys

import pytest

from harness.faults import server


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("print(sys.argv[1:])", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("raise ValueError('why')", 1, "ValueError: why\n"),
    ],
)
def test_a_module_ends_with_the_exit_code_that_python_would_give(source, code, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "ending_module.py").write_text(f"import sys\n\n{source}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["before"])
    assert server.run_module(["ending_module", "a", "b"]) == code
    output, errors = capsys.readouterr()
    assert errors.endswith(told)
    assert output == ("['a', 'b']\n" if "print" in source else "")


def test_other_programs_are_started_as_always():
    done = server.run_or_fork([sys.executable, "-c", "print(5)"], capture_output=True, text=True, check=True)
    assert done.stdout == "5\n"


def test_an_ending_is_an_exit_code_a_signal_or_a_stop():
    command = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); raise SystemExit(7)"
    with subprocess.Popen([sys.executable, "-c", command]) as process:
        assert server.ending(process.pid) is None
        os.kill(process.pid, signal.SIGCONT)
        assert server.ending(process.pid) == 7
        process.returncode = 7
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        process.kill()
        assert server.ending(process.pid) == -signal.SIGKILL
        process.returncode = -signal.SIGKILL
