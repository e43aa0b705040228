"""A stand-in for a server of Weights & Biases, or one that is out of order; it remembers what it was sent."""

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PROJECT = {"id": "1", "name": "some-project", "entity": {"id": "1", "name": "somebody"}}
_RUN = {"id": "1", "name": "some-run", "historyLineCount": 0, "project": _PROJECT}
_USER = {"id": "1", "entity": "somebody", "username": "somebody", "flags": "{}", "teams": {"edges": []}}


def wandb(server, path, body):
    """(status, answer) as the server of W&B would give it."""
    if path != "/graphql":
        return 200, b"{}"
    asked = json.loads(body)
    files = asked.get("variables", {}).get("files", ())
    places = [{"name": name, "uploadUrl": f"{server.address}/upload/{name}"} for name in files]
    told = {
        "Viewer": {"viewer": _USER},
        "UpsertBucket": {"upsertBucket": {"bucket": _RUN, "inserted": True}},
        "CreateRunFiles": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": places}},
    }
    return 200, json.dumps({"data": told.get(asked["operationName"], {})}).encode()


def broken(server, path, body):
    return 500, b'{"errors": [{"message": "out of order"}]}'


def nonsense(server, path, body):
    return 200, b"<html>Welcome to a hotel's network</html>"


class MadeUpServer(ThreadingHTTPServer):
    """`sent` has (path, body) of every request."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.sent = answer, []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def lines(self, name):
        """The JSON lines of a stream of the run."""
        streams = [json.loads(body)["files"] for path, body in self.sent if path.endswith("/file_stream")]
        return [json.loads(line) for files in streams if name in files for line in files[name]["content"]]

    def uploads(self):
        return {path.removeprefix("/upload/") for path, _ in self.sent if path.startswith("/upload/")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.sent.append((self.path, body))
        status, answer = self.server.answer(self.server, self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_request
        raise AttributeError(name)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def made_up_server(answer):
    with MadeUpServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
