"""A server on the loopback address that answers each path of its own, for addresses that are wrong; the paths and headers are kept."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from endpoint import chat, serving

MODELS = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in ("m", "small")]})
NOT_FOUND = (404, {"detail": "Not Found"})


def usual(method, path, request, headers):
    """An endpoint at /v1 that serves two models."""
    if (method, path.partition("?")[0]) == ("GET", "/v1/models"):
        return 200, MODELS
    return (200, chat()) if (method, path) == ("POST", "/v1/chat/completions") else NOT_FOUND


@contextmanager
def standin(answer=usual):
    """Serve `answer(method, path, request, headers) -> (status, body[, headers])`; gives (root URL, what came, (method, path, request,
    headers) each). A body is text, or what becomes JSON."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            request = json.loads(self.rfile.read(length) or "null")
            came.append((self.command, self.path, request, self.headers))
            status, body, *more = answer(self.command, self.path, request, self.headers)
            kind = "text/html" if str(body).startswith("<") else "application/json"
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(more[0] if more else {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        yield url, came
