"""Starting the dashboard: Streamlit in this process's place, on this machine alone, telling nobody about it."""

import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from bitnet.errors import BitnetError

HOST = "127.0.0.1"
_SCRIPT = Path(__file__).with_name("app.py")
_OPTIONS = {
    "server.address": HOST,
    "server.headless": "true",  # opens no browser and asks for no e-mail address
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": "false",
}


def check(port: int) -> None:
    """See that Streamlit is there and the port is free.

    Raises:
        BitnetError: it is not, or somebody listens there.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise BitnetError(
            'The dashboard needs Streamlit, which is not installed: pip install "bitnet-audit[dashboard]".'
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BitnetError(f"Port {port} cannot be used ({error.strerror}): choose another --port.") from None


def words(reports: Path, runs: Sequence[Path], port: int) -> list[str]:
    """The command that starts the dashboard, in the folder where it is started."""
    options = [f"--{name}={value}" for name, value in {**_OPTIONS, "server.port": str(port)}.items()]
    places = [word for run in runs for word in ("--run", str(run))]
    return [
        *(sys.executable, "-m", "streamlit", "run", str(_SCRIPT), *options),
        *("--", "--reports", str(reports), *places),
    ]


def serve(reports: Path, runs: Sequence[Path], port: int) -> None:
    """Become the dashboard; ends with Ctrl-C.

    Raises:
        BitnetError: as `check`.
    """
    check(port)
    command = words(reports, runs, port)
    sys.stdout.flush()
    os.execv(command[0], command)
