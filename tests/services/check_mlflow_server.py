"""The model registry on a real MLflow server, by `nox -s tracking_server` alone, which installs one."""

import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from bitnet.checkpoint import digest_file
from tests.bitnet.cli.program import assert_one_sentence, bitnet
from tests.bitnet.phase4 import LENIENT, finish, write_model, write_texts

pytestmark = pytest.mark.skipif(importlib.util.find_spec("flask") is None, reason="only mlflow-skinny is installed")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return finish(write_model(root / "model", "llama"), root / "out", **write_texts(root), **LENIENT).out


@contextlib.contextmanager
def server(folder):
    """A server with its database and its artefacts in `folder`, which clients reach by its URI alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    with subprocess.Popen([*words, *places], cwd=folder) as process:
        family = psutil.Process(process.pid)
        try:
            end = time.monotonic() + 180
            while not answers(port):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            for each in (*family.children(recursive=True), family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.terminate()


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30):
            return True
    except OSError:
        return False


def digests(folder):
    return {path.relative_to(folder): digest_file(path) for path in folder.rglob("*") if path.is_file()}


def test_what_is_pushed_to_a_server_is_promoted_and_fetched_from_it(out, tmp_path):
    (tmp_path / "server").mkdir()
    with server(tmp_path / "server") as uri:
        here = ("--uri", uri)
        assert bitnet("registry", "push", out, "small", *here).stdout == "small/1 registered.\n"
        assert bitnet("registry", "push", out, "small", *here).stdout == "small/1 was registered before.\n"
        assert bitnet("registry", "promote", "small/1", *here).stdout == "small/1 is small@champion.\n"
        (listed,) = json.loads(bitnet("registry", "list", "--json", *here).stdout)
        assert (listed["name"], listed["aliases"], listed["success"]) == ("small", ["champion"], True)
        fetched = bitnet("registry", "fetch", "small@champion", "--out", tmp_path / "fetched", *here)
        assert fetched.exit_code == 0, fetched.stderr
        assert digests(tmp_path / "fetched") == digests(out)
        assert_one_sentence(bitnet("registry", "promote", "none/1", *here), "none")
    assert_one_sentence(bitnet("registry", "list", *here), uri)
