"""A real server that plays the Hub and a plain file server: it cuts, flips, gates and loses files as it is told."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants


class Hub(ThreadingHTTPServer):
    """files: {path of the URL: content}; cuts: bytes after which the next answers of GET end, first in first out; gated, gone:
    paths that answer 401 and 404; answers: {path, or its beginning: (status, code, words) of another refusal}; claimed: {path: content that
    the hash in the header is of}, the content itself by default."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.claimed = {}, {}
        self.cuts, self.gated, self.gone, self.log = [], set(), set(), []
        self.answers: dict[str, tuple[int, str, str]] = {}
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        path, hub = self.path, self.server
        content = hub.files.get(path)
        hub.log.append((self.command, path, self.headers.get("Range")))
        refused = next((answer for start, answer in hub.answers.items() if path.startswith(start)), None)
        if path in hub.gated or path in hub.gone or content is None or refused:
            code, reason, words = refused or ((401, "GatedRepo", "") if path in hub.gated else (404, "EntryNotFound", ""))
            self.send_response(code)
            self.send_header("X-Error-Code", reason)
            self.send_header("X-Error-Message", words)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.headers.get("Range") and hub.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(hub.claimed.get(path, content)).hexdigest()}"')
        if "/resolve/" in path:
            revision = path.partition("/resolve/")[2].partition("/")[0]
            self.send_header("X-Repo-Commit", revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest())
        self.end_headers()
        if body:
            cut = hub.cuts.pop(0) if hub.cuts else None
            self.wfile.write(content[start:] if cut is None else content[start : start + cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)

    def log_message(self, *_):
        pass


def point(monkeypatch, url):
    """Let the library take a URL for the Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def played(monkeypatch, cache):
    """A Hub that the library takes for the real one, with a cache of its own; what cannot be reached is asked once."""
    with serving() as server:
        point(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.file_download._DEFAULT_RETRY_ON_EXCEPTIONS", ())
        monkeypatch.setattr("huggingface_hub.file_download._DEFAULT_RETRY_ON_STATUS_CODES", ())
        yield server


@contextmanager
def serving():
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
