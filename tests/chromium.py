"""A headless Chromium that tests drive through its debugging pipe, of which messages end with a zero byte."""

import base64
import json
import os
import shutil
import subprocess
import tempfile

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60  # seconds that a page may take


def executable():
    """Return the path of the browser, or None."""
    return next(filter(None, map(shutil.which, COMMANDS)), None)


class Chromium:
    """One page in a browser of its own; `messages` has its errors and the addresses that it asked for."""

    def __init__(self):
        if executable() is None:
            raise RuntimeError(f"none of {', '.join(COMMANDS)} is installed")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
                 "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={self.profile.name}"]  # fmt: skip
        # The browser reads from descriptor 3 and writes to descriptor 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", executable(), *flags],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._reader = os.fdopen(self._in, "rb")
        self._count, self._session, self.messages = 0, None, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        """Run a command of the protocol and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self):
        parts = []
        while (byte := self._reader.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            parts.append(byte)
        answer = json.loads(b"".join(parts))
        method, params = answer.get("method"), answer.get("params", {})
        if method == "Runtime.exceptionThrown" or (method == "Log.entryAdded" and params["entry"]["level"] == "error"):
            self.messages.append(params)
        if method == "Network.requestWillBeSent":
            self.messages.append(params["request"]["url"])
        return answer

    def resize(self, width, height, *, touch=False, dark=False):
        """Set the size of the window, and whether it is that of a phone, and dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path):
        """Open a file and wait until it has been drawn."""
        self.send("Page.navigate", url=f"file://{path}")
        self.evaluate(
            "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )
        self.settle()

    def settle(self):
        """Wait for what is drawn before the next frames."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, expression):
        """Return the value of an expression, of a promise once it is kept."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def click(self, x, y):
        """Press and release the mouse at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def screenshot(self, path=None):
        """Return the window as PNG bytes, and write them to a path if given."""
        picture = base64.b64decode(self.send("Page.captureScreenshot")["data"])
        if path is not None:
            with open(path, "wb") as file:
                file.write(picture)
        return picture

    def close(self):
        """End the browser."""
        os.close(self._out)
        self._reader.close()
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.profile.cleanup()
