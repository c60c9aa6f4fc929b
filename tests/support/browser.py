"""A headless Chromium, spoken to over two pipes in the words of its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-pipe",
)

# Chromium reads commands from file 3 and writes answers to file 4.
_LAUNCHER = """
import os, sys
commands, answers, *command = sys.argv[1:]
os.dup2(int(commands), 3)
os.dup2(int(answers), 4)
os.execv(command[0], command)
"""


def find_chromium() -> str | None:
    """The path of the browser, `None` if none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


# So long may a slow machine take; a browser that hangs must not stop the suite.
_PATIENCE = 120


class BrowserError(Exception):
    """The browser has refused a command, or it is gone."""


class Browser:
    """One process of Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command, and wait for its answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                break
            self._events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def await_event(self, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of this kind, be it there already or still to come; it is taken out."""
        for place, event in enumerate(self._events):
            if accept(event):
                return self._events.pop(place)
        while not accept(event := self._receive()):
            self._events.append(event)
        return event

    def events(self, session: str) -> list[dict[str, Any]]:
        """What a page has told so far."""
        return [event for event in self._events if event.get("sessionId") == session]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], _PATIENCE)[0]:
                raise BrowserError(f"the browser has said nothing for {_PATIENCE} seconds")
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise BrowserError("the browser is gone")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    @contextmanager
    def page(
        self, file: Path, *, width: int, dark: bool = False, media: str = "screen"
    ) -> Iterator[Page]:
        """Open a file in a window of this width."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Log", "Runtime", "Network"):
            page.send(f"{domain}.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        page.send(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        page.send("Page.navigate", url=file.as_uri())
        self.await_event(
            lambda event: (
                event.get("sessionId") == session and event.get("method") == "Page.loadEventFired"
            )
        )
        try:
            yield page
        finally:
            self.send("Target.closeTarget", targetId=target)


class Page:
    """A page that is loaded."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command to this page."""
        return self._browser.send(method, self._session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, as JSON; the page's own policy does not hold."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def screenshot(self) -> bytes:
        """What the window shows, as a PNG."""
        shot = self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF")["data"])

    def complaints(self) -> list[str]:
        """What the console has: messages of any level, exceptions, what the policy has blocked."""
        self.evaluate("0")
        told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [
            json.dumps(event["params"])
            for event in self._browser.events(self._session)
            if event.get("method") in told
        ]

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events(self._session)
            if event.get("method") == "Network.requestWillBeSent"
        ]


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Start the browser with a fresh profile; stop it afterwards."""
    with contextlib.ExitStack() as stack:
        their_commands, our_commands = _pipe()
        stack.callback(os.close, our_commands)
        our_answers, their_answers = _pipe()
        stack.callback(os.close, our_answers)
        theirs = (their_commands, their_answers)
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="lazymig-chromium-", ignore_cleanup_errors=True)
        )
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCHER, *map(str, theirs)),
                *(path, *FLAGS, f"--user-data-dir={profile}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
        )
        # Only the browser holds these ends: when it dies, a read ends.
        for number in theirs:
            os.close(number)
        browser = Browser(our_commands, our_answers)
        try:
            yield browser
        finally:
            with contextlib.suppress(BrowserError, OSError):
                browser.send("Browser.close")
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are out of the way of the numbers that the browser wants."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
