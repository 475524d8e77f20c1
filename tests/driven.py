"""Headless Chromium under a test's hand: tabs, real key presses, pictures. It speaks the DevTools protocol through two pipes, so that no
port is opened and no further package is needed."""

import base64
import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path

from browser import OPTIONS

WAIT = 120  # seconds until what is waited for counts as missing
CODES = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}


class Chromium:
    """A browser while the block runs."""

    def __init__(self, profile: Path):
        self.profile = profile

    def __enter__(self):
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        assert program, "these tests need Chromium: install it, such as by `apt-get install chromium`"
        read_by_it, self._out = os.pipe()
        self._in, written_by_it = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_by_it, written_by_it)]  # so that 3 and 4 are free to be made of them
        words = [program, *OPTIONS.split(), "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank"]
        command = ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", *words]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=theirs, stdin=quiet, stdout=quiet, stderr=quiet)
        for end in (read_by_it, written_by_it, *theirs):
            os.close(end)
        self._answers: dict[int, queue.Queue] = {}
        self._count, self.events = 0, []
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.call("Browser.close")
        self._process.wait(WAIT)
        os.close(self._out)

    def _listen(self):
        with os.fdopen(self._in, "rb") as stream:
            rest = b""
            while part := stream.read1(1 << 16):
                *whole, rest = (rest + part).split(b"\0")
                for message in map(json.loads, whole):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    else:
                        self.events.append(message)

    def call(self, method, session=None, **parameters):
        self._count += 1
        number, self._answers[self._count] = self._count, queue.Queue()
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._answers[number].get(timeout=WAIT)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, address: str) -> "Tab":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.go(address)
        return tab


class Tab:
    def __init__(self, chromium: Chromium, session: str):
        self._chromium, self._session = chromium, session

    def call(self, method, **parameters):
        return self._chromium.call(method, self._session, **parameters)

    def events(self, method):
        return [event["params"] for event in self._chromium.events if event.get("sessionId") == self._session and event["method"] == method]

    def go(self, address):
        before = len(self.events("Page.loadEventFired"))
        self.call("Page.navigate", url=address)
        self.until(lambda: len(self.events("Page.loadEventFired")) > before)

    def reload(self):
        before = len(self.events("Page.loadEventFired"))
        self.call("Page.reload")
        self.until(lambda: len(self.events("Page.loadEventFired")) > before)

    def value(self, script):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Wait until a script gives something true."""
        self.until(lambda: self.value(script), script)

    def until(self, there, what=""):
        end = time.monotonic() + WAIT
        while not there():
            assert time.monotonic() < end, f"did not come: {what}"
            time.sleep(0.02)

    def press(self, *keys):
        for key in keys:
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            of = {"key": key, "windowsVirtualKeyCode": CODES.get(key, ord(key[0].upper()))}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **of, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **of)

    def console(self):
        """What the browser complains of: errors of scripts, what the content security policy refused, requests that failed."""
        said = [event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")]
        return said + [event["entry"]["text"] for event in self.events("Log.entryAdded") if event["entry"]["level"] in ("error", "warning")]

    def requested(self):
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def picture(self, file: Path, width=1200, height=900, dark=False, media="screen", whole=False):
        """A PNG of the page as it looks at a size, light or dark, on the screen or printed."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))
