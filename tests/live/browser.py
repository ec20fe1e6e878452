"""A headless Chromium spoken to through two pipes: open a page, press keys, read what it shows.

The pipes are Chromium's `--remote-debugging-pipe`: JSON messages that end with a zero byte, in on descriptor
3 and out on 4. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from live.server import PATIENCE_SECONDS, wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe")  # fmt: skip
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


def find_browser() -> str | None:
    """The Chromium of this machine."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class PageLeft(AssertionError):
    """The page was left while something was asked of it."""


class Browser:
    """One browser with one page."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        words = shlex.join([program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"])
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec {words} 3</dev/fd/{commands} 4>/dev/fd/{answers}"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._last = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("the browser does not answer")
            if not (piece := os.read(self._in, 1 << 16)):
                raise AssertionError("the browser ended")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and give its result; events that come first are kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := self._read(deadline)).get("id") != self._last:
            self.events.append(answer)
        if "error" in answer:
            left = "navigated" in answer["error"].get("message", "")
            raise (PageLeft if left else AssertionError)(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The first true value of a JavaScript expression, on this page or the one that a link leads to."""

        def value() -> Any:
            try:
                return self.evaluate(expression)
            except PageLeft:
                return None

        return wait_until(value, expression)

    def open(self, url: str, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Go to a page, in a window of this size and scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def press(self, key: str) -> None:
        """Press and release one key."""
        code, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, file: Path) -> None:
        """Keep what the page looks like, all of its height."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def errors(self) -> list[str]:
        """What the page's console complained about: exceptions, and what the policy refused."""
        self.evaluate("0")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        os.close(self._in)


def text_of(browser: Browser, selector: str) -> str:
    """The text of the first element that a CSS selector finds on the page."""
    text: str = browser.evaluate(f"document.querySelector({selector!r}).textContent")
    return text
