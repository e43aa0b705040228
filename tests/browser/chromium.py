"""Headless Chromium, driven through its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--mute-audio")


class Page:
    """One page; every request that it made is in `requests`."""

    def __init__(self, socket):
        self._socket, self._last = socket, 0
        self.requests, self.errors = [], []
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=60))
            if told.get("method") == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(told["params"]["exceptionDetails"]["text"])
            if told.get("id") == self._last:
                assert "error" not in told, (method, told["error"])
                return told["result"]

    def open(self, url, width=1280, height=900, dark=False, mobile=False):
        self.emulate(dark)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Page.navigate", url=url)

    def emulate(self, dark, media="screen"):
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=scheme)

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    @property
    def text(self):
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def wait_for(self, words, inside="body", seconds=60):
        """Until an element that the selector `inside` finds says so."""
        said = (
            f"[...document.querySelectorAll({json.dumps(inside)})].some(e => e.innerText.includes({json.dumps(words)}))"
        )
        end = time.monotonic() + seconds
        while not self.evaluate(said):
            if time.monotonic() > end:
                raise AssertionError(f"{words!r} did not appear; the page says: {self.text[:2000]}")
            time.sleep(0.2)

    def choose(self, name):
        """Click the page `name` in the sidebar."""
        self._click("[data-testid=stSidebar] label", f"innerText.startsWith({json.dumps(name)})")

    def press(self, label):
        """Click the button `label`."""
        self._click("button", f"innerText.endsWith({json.dumps(label)})")

    def _click(self, selector, condition):
        found = f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.{condition})"
        assert self.evaluate(f"(e => e && (e.click(), true))({found})"), f"there is no {selector} with {condition}"

    def write(self, selector, text):
        """Put text into the field that the selector finds, in the place of its own, as a user would."""
        self.evaluate(f"(e => (e.focus(), e.select()))(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def press_enter(self):
        for kind in ("rawKeyDown", "char", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")

    def settle(self, seconds=20):
        """Until nothing is drawn or run any more."""
        end, before, same = time.monotonic() + seconds, "", 0
        busy = "!!document.querySelector('[data-testid=stStatusWidget], [data-testid=stSkeleton]')"
        while time.monotonic() < end:
            time.sleep(0.1)
            now = self.evaluate("document.body.innerHTML.length + ' ' + document.querySelectorAll('canvas,svg').length")
            same = same + 1 if now == before and not self.evaluate(busy) else 0
            if same == 4:
                return
            before = now

    def screenshot(self, path, whole=False):
        size = {}
        if whole:
            box = self.call("Page.getLayoutMetrics")["cssContentSize"]
            size = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **size)["data"]))

    def pdf(self, path):
        Path(path).write_bytes(base64.b64decode(self.call("Page.printToPDF")["data"]))


@contextlib.contextmanager
def page(profile):
    """A fresh browser with one page; `profile` is a folder for its own files."""
    words = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                target = next(each for each in json.load(answer) if each["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=None, ping_interval=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()


def _port(file, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = file.read_text().split() if file.is_file() else []
        if lines:
            return int(lines[0])
        time.sleep(0.1)
    raise AssertionError("Chromium did not start")
