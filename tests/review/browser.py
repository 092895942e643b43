"""Chromium without a window, driven by its DevTools protocol, for the tests of the review page."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
DEADLINE_SECONDS = 60


class Browser:
    """One tab. What the page says on its console as an error is kept in `errors`."""

    def __init__(self, loop, socket, downloads):
        self.loop, self.socket, self.downloads = loop, socket, downloads
        self.errors, self.requests, self._n = [], [], 0

    def send(self, method, **params):
        """The result of one command."""
        self._n += 1
        number = self._n
        self.loop.run_until_complete(_write(self.socket, {"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self.loop.run_until_complete(_read(self.socket)))
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]
            self._note(said)

    def _note(self, said):
        method, params = said.get("method"), said.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "error"))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            said = params["entry"]["text"]
            if "'beforeunload'" not in said:  # which a page that nobody has clicked in may not ask
                self.errors.append(said)
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"].split(":")[0])
        elif method == "Page.javascriptDialogOpening":  # `beforeunload`; answered without waiting
            self._n += 1
            message = {"id": self._n, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            self.loop.run_until_complete(_write(self.socket, message))

    def do(self, expression):
        """The value of an expression in the page; of a promise, what it gives."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression):
        """Until an expression is true."""
        began = time.monotonic()
        while not self.do(expression):
            if time.monotonic() - began > DEADLINE_SECONDS:
                raise TimeoutError(f"never true: {expression}; the page's errors: {self.errors}")
            time.sleep(0.02)

    def open(self, path, *, width=1400, height=900, ratio=1):
        """Open a file; returns the seconds until its first page of signal was drawn."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=False
        )
        began = time.monotonic()
        self.send("Page.navigate", url=Path(path).absolute().as_uri())
        self.wait("!!document.getElementById('page')?.dataset.start && location.protocol === 'file:'")
        return time.monotonic() - began

    def press(self, *keys):
        """Press keys one after another, as a keyboard does."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector):
        """Click in the middle of the first element of a kind."""
        x, y = self.do(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path):
        """Save what the window shows."""
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def text(self, selector):
        """The text of the first element of a kind."""
        return self.do(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")


@contextmanager
def browser(folder):
    """A browser that keeps its profile and its downloads in `folder`."""
    from tornado.websocket import websocket_connect

    profile, downloads = folder / "profile", folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    flags += [f"--user-data-dir={profile}", "--disable-background-networking", "--disable-component-update"]
    process = subprocess.Popen(
        [CHROMIUM, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    loop = asyncio.new_event_loop()
    socket = None
    try:
        port = _port(profile / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE_SECONDS) as answer:
            tab = next(one for one in json.load(answer) if one["type"] == "page")
        socket = loop.run_until_complete(_connect(websocket_connect, tab["webSocketDebuggerUrl"]))
        made = Browser(loop, socket, downloads)
        for domain in ("Page", "Runtime", "Log", "Network"):
            made.send(f"{domain}.enable")
        made.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        yield made
    finally:
        if socket is not None:
            loop.run_until_complete(_close(socket))
        loop.close()
        os.killpg(process.pid, 9)
        process.wait()


async def _close(socket):
    """In the loop: other tests may have taken the thread's away."""
    socket.close()
    await asyncio.sleep(0.05)


async def _connect(connect, url):
    return await connect(url, max_message_size=1 << 28)


async def _write(socket, message):
    await socket.write_message(json.dumps(message))


async def _read(socket):
    return await asyncio.wait_for(socket.read_message(), DEADLINE_SECONDS)


def _port(file, process):
    began = time.monotonic()
    while not (file.is_file() and file.read_text().strip()):
        if process.poll() is not None or time.monotonic() - began > DEADLINE_SECONDS:
            raise RuntimeError("Chromium does not start")
        time.sleep(0.05)
    return int(file.read_text().split()[0])
