"""The page of a review, for one browser on this machine.

Anybody who can reach a port of this machine could answer in the user's name, so: the server listens on the loopback address alone; every
address holds a token of 192 random bits; the host must be this machine's own name, so that no other name can be pointed here (DNS
rebinding); a POST must come from the page itself (`Origin`) and be JSON. The page loads nothing from elsewhere, which its content security
policy forbids, and names of files and classes reach it as JSON alone and are set as text.
"""

import hmac
import io
import json
import secrets
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gta.encoders.decode import UNREADABLE, decode
from gta.label.answers import NONE, TAKEN_BACK, UNSURE
from gta.label.report import shown
from gta.label.review import Item, Review

SIDE = 1024  # pixels of a picture on the page, at most
LONGEST = 10_000  # bytes of a request
HERE = ("127.0.0.1", "localhost")
PAGES = {"": ("review.html", "text/html"), "review.css": ("review.css", "text/css"), "review.js": ("review.js", "text/javascript")}
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Sitting:
    """A round while it is answered. Every change is in `reviews.csv` before it is told to the page."""

    def __init__(self, review: Review, items: list[Item]):
        self._review, self.items, self._lock = review, items, threading.Lock()
        self._labels = [*review.kept.class_names, NONE, UNSURE]
        mine = review.mine
        self._said = [mine.get(item.path, TAKEN_BACK) for item in items]
        row = {item.path: i for i, item in enumerate(items)}
        # What can be taken back, the last at the end: (image, what was said of it before).
        self._history = [(row[path], TAKEN_BACK) for path in mine if path in row]

    @property
    def complete(self) -> bool:
        return all(self._said)

    def round(self) -> dict[str, Any]:
        """All that does not change while the round is answered."""
        number = {name: j for j, name in enumerate(self._review.kept.class_names)}
        images = [
            {
                "name": shown(item.path),
                "proposal": number.get(item.proposal),
                "runner_up": number.get(item.runner_up),
                "confidence": item.confidence,
            }
            for item in self.items
        ]
        classes = [shown(name) for name in self._review.kept.class_names]
        return {"classes": classes, "images": images, "reviewer": shown(self._review.reviewer), **self.state()}

    def state(self) -> dict[str, Any]:
        """answers: the number of a class, of `NONE` (M) or `UNSURE` (M + 1), or None; changes: how many can be taken back; last: the image
        of the last one."""
        answers = [self._labels.index(label) if label in self._labels else None for label in self._said]
        return {"answers": answers, "changes": len(self._history), "last": self._history[-1][0] if self._history else None}

    def answer(self, image: int, label: int) -> dict[str, Any]:
        """Say what an image shows. The same answer twice is one. Raises IndexError, and OSError where it cannot be written."""
        with self._lock:
            if not (0 <= image < len(self.items) and 0 <= label < len(self._labels)):
                raise IndexError(f"no image {image} or no label {label}")
            before, new = self._said[image], self._labels[label]
            if new != before:
                self._say(image, new)
                self._history.append((image, before))
            return self.state()

    def undo(self, changes: int) -> dict[str, Any]:
        """Take the last change back, if it is the one that the page means: a request that comes twice, or of a tab that has not seen the
        last change, takes nothing back."""
        with self._lock:
            if self._history and changes == len(self._history):
                self._say(*self._history[-1])
                self._history.pop()
            return self.state()

    def _say(self, image: int, label: str) -> None:
        item = self.items[image]
        self._review.say({item.path: label}, {item.path: item.chosen_by})
        self._said[image] = label

    def picture(self, image: int) -> tuple[str, bytes]:
        """Kind and bytes of a picture that a browser shows, whatever the format of the file. Raises as `decode` does, and IndexError."""
        if image >= len(self.items):
            raise IndexError(image)
        picture, data = decode(self._review.path_of[self.items[image].path])[0], io.BytesIO()
        picture.thumbnail((SIDE, SIDE))
        kind = "png" if max(picture.size) < SIDE // 4 else "jpeg"
        picture.save(data, kind, quality=90)
        return f"image/{kind}", data.getvalue()


class Server(ThreadingHTTPServer):
    """Serves a sitting until `finished` is set. url: where, with the token."""

    daemon_threads = True

    def __init__(self, sitting: Sitting, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.sitting, self.token, self.finished = sitting, secrets.token_urlsafe(24), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes on to the next picture, or is closed, hangs up; that is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def sit(review: Review, items: list[Item], port: int = 0) -> None:
    """Serve the page of a round until it is finished there. Raises OSError where the port is taken."""
    with Server(Sitting(review, items), port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"open {server.url} in a browser of this machine, for this user alone; Ctrl-C ends it, every answer is kept", flush=True)
        tunnel = f"ssh -L {server.server_port}:127.0.0.1:{server.server_port} HOST"
        print(f"over ssh: {tunnel} first, or --file in place of the page", flush=True)
        server.finished.wait()
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = self._allowed()
        if path is None:
            return
        if path in PAGES:
            name, kind = PAGES[path]
            self._send(HTTPStatus.OK, f"{kind}; charset=utf-8", (Path(__file__).parent / name).read_bytes())
        elif path == "round":
            self._json(self.server.sitting.round())
        elif path == "state":
            self._json(self.server.sitting.state())
        elif path.startswith("image/") and path.removeprefix("image/").isdecimal():
            try:
                picture = self.server.sitting.picture(int(path.removeprefix("image/")))
            except (*UNREADABLE, IndexError) as error:
                return self._refuse(HTTPStatus.NOT_FOUND, f"no picture: {error}")
            self._send(HTTPStatus.OK, *picture)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "nothing here")

    def do_POST(self) -> None:
        path = self._allowed()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") != f"http://{self.headers.get('Host')}" or self.headers.get("Content-Type") != "application/json":
            return self._refuse(HTTPStatus.FORBIDDEN, "not from the page")
        if not length.isdecimal() or int(length) > LONGEST:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {LONGEST} bytes")
        try:
            said = json.loads(self.rfile.read(int(length)))
            if path == "answer":
                self._json(self.server.sitting.answer(int(said["image"]), int(said["label"])))
            elif path == "undo":
                self._json(self.server.sitting.undo(int(said["changes"])))
            elif path == "finish":
                self._json(self.server.sitting.state())
                self.server.finished.set()
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "nothing here")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"not understood: {error}")
        except OSError as error:  # of a full disk
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"not written: {error}")

    def _allowed(self) -> str | None:
        """What is asked for, below the token; None where the request is refused."""
        token, slash, path = self.path.removeprefix("/").partition("/")
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name in HERE and slash and hmac.compare_digest(token.encode(), self.server.token.encode()):
            return path
        self._refuse(HTTPStatus.FORBIDDEN, "open the whole address that the command printed last")
        return None

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # what was not read of a request is no request
        self._send(status, "text/plain; charset=utf-8", why.encode(errors="replace"))

    def _json(self, content: dict[str, Any]) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Log nothing: a line for each picture would hide the address."""
