"""A real HTTP endpoint on the loopback address that answers as a script says: well, badly, late or not at all."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = '{"attributes": ["a long tail", "a hooked bill"]}'


def chat(content=GOOD, finish="stop", refusal=None, tokens=(10, 5)):
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})


def reply(status=200, body=None, kind="application/json", headers=(), cut=0, hang=0.0, drop=False):
    """What the endpoint does with one request. cut: bytes that are announced and not sent; drop: close without a word."""
    body = chat() if body is None else body
    return {"status": status, "body": body, "kind": kind, "headers": dict(headers), "cut": cut, "hang": hang, "drop": drop}


def error(status, code=None, message="no", **options):
    return reply(status, json.dumps({"error": {"message": message, "code": code, "type": code}}), **options)


class Seen:
    """Requests in the order of their arrival, how many of them were open at once, and when each came."""

    def __init__(self):
        self.requests, self.times, self.open, self.most_open, self.lock = [], [], 0, 0, threading.Lock()

    def __len__(self):
        return len(self.requests)

    def text(self, i):
        return self.requests[i]["messages"][-1]["content"]


@contextmanager
def endpoint(behave):
    """Serve `behave(number, request, headers) -> reply(...)`, or a list of replies of which the last is for ever; gives (url, Seen)."""
    seen = Seen()
    script = behave if callable(behave) else lambda number, request, headers: behave[min(number, len(behave) - 1)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                number = len(seen.requests)
                seen.requests.append(request)
                seen.times.append(time.monotonic())
                seen.open += 1
                seen.most_open = max(seen.most_open, seen.open)
            try:
                self._do(script(number, request, self.headers))
            except OSError:
                self.close_connection = True  # the client is gone
            finally:
                with seen.lock:
                    seen.open -= 1

        def _do(self, what):
            time.sleep(what["hang"])
            if what["drop"]:
                self.close_connection = True
                return
            body = what["body"].encode()
            self.send_response(what["status"])
            for name, value in {"Content-Type": what["kind"], "Content-Length": str(len(body)), **what["headers"]}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) - what["cut"]])
            self.close_connection = bool(what["cut"])

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        yield f"{url}/v1", seen


@contextmanager
def serving(handler):
    """The URL of a server on this machine, as long as the block runs."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.request_queue_size = 64
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
