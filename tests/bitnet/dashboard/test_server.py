import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bitnet.dashboard import server
from bitnet.errors import BitnetError


@pytest.fixture
def taken():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_the_server_is_for_this_machine_alone_and_tells_nobody():
    words = server.words(Path("reports"), [Path("a"), Path("b")], 8600)
    assert words[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert {"--server.address=127.0.0.1", "--server.port=8600", "--browser.gatherUsageStats=false"} < set(words)
    assert words[words.index("--") :] == ["--", "--reports", "reports", "--run", "a", "--run", "b"]
    assert Path(words[4]).is_file()


def test_a_missing_extra_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BitnetError, match=r'pip install "bitnet-audit\[dashboard\]"'):
        server.check(8600)


def test_a_port_that_is_taken_is_bad_input(taken):
    pytest.importorskip("streamlit", reason="the extra [dashboard] is not installed")
    words = [sys.executable, "-m", "bitnet", "dashboard", "--port", str(taken)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert f"Port {taken} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_process_becomes_the_server(monkeypatch):
    pytest.importorskip("streamlit", reason="the extra [dashboard] is not installed")
    became = []
    monkeypatch.setattr("os.execv", lambda program, words: became.append((program, words)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server.serve(Path("reports"), [], port)
    assert became == [(sys.executable, server.words(Path("reports"), [], port))]
