"""The language model of the demo: a local server that speaks the OpenAI chat protocol and answers from a field guide.

It is not a neural network. The guide lists facts about characters or birds. It is drawn at random from the true facts: each fact
is left out with probability `OMITTED`, each remaining fact is replaced with probability `WRONG` by a fact of some other class,
and the order is random. Questions name classes in double quotes. If a question names one class, the server gives the first half
of the facts of that class, but at least `AT_FIRST`. If it names two, the server gives the facts of the first class that the
second class does not have. `python -m gta.worlds.fieldguide --port 8000` serves the guide to any client.
"""

import argparse
import hashlib
import json
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gta.encoders.words import WORDS, has_words
from gta.llm.address import parted
from gta.llm.chat import LanguageModel
from gta.llm.ledger import Ledger
from gta.llm.sampling import Sampling
from gta.worlds.glyphs import FACTS

OMITTED = 0.25
WRONG = 0.1
AT_FIRST = 2
LONGEST = 1 << 20  # the largest size of a question, bytes


def draw_guide(
    seed: int, facts: Mapping[str, Sequence[str]] = FACTS, omitted: float = OMITTED, wrong: float = WRONG
) -> dict[str, list[str]]:
    """Draw what the guide says about each class: true facts, of which a share is left out and a share is replaced by wrong ones.

    facts: the true facts of each class, by default those of `shapes.yaml`.
    """
    rng = random.Random(seed)
    guide = {}
    for name, true in facts.items():
        others = sorted({fact for of_other in facts.values() for fact in of_other} - set(true))
        kept = [fact for fact in true if rng.random() >= omitted] or [rng.choice(true)]
        rng.shuffle(kept)
        guide[name] = list(dict.fromkeys(rng.choice(others) if rng.random() < wrong else fact for fact in kept))
    return guide


def name_of(guide: dict[str, list[str]]) -> str:
    """The name of the model. It contains a hash of the guide, so that a ledger keeps the answers of different guides apart."""
    return f"fieldguide-{hashlib.sha256(json.dumps([AT_FIRST, guide]).encode()).hexdigest()[:8]}"


def answer(guide: dict[str, list[str]], question: str) -> list[str]:
    """A list of facts about the first class that the question names.

    If no fact distinguishes it from the second class, all its facts. Raises ValueError if the guide knows none of the names.
    """
    names = [name for name in dict.fromkeys(re.findall(r'"([^"]+)"', question)) if name in guide]
    if not names:
        raise ValueError("the question names no class that this guide knows")
    facts = guide[names[0]]
    if len(names) == 1:
        return facts[: max(AT_FIRST, len(facts) // 2)]
    return [fact for fact in facts if fact not in guide[names[1]]] or facts


class _Server(ThreadingHTTPServer):
    guide: dict[str, list[str]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply(200, {"object": "list", "data": [{"id": "fieldguide", "object": "model"}]})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/v1/chat/completions" or length > LONGEST:
            return self._reply(404, {"error": {"message": f"POST {self.path}: only /v1/chat/completions, up to {LONGEST} bytes"}})
        try:
            question = json.loads(self.rfile.read(length))["messages"][-1]["content"]
            content = json.dumps({"attributes": answer(self.server.guide, question)})
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return self._reply(400, {"error": {"message": str(error)}})
        used = {"prompt_tokens": len(question.split()), "completion_tokens": len(content.split())}
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {**used, "total_tokens": sum(used.values())}
        self._reply(
            200, {"id": "fieldguide", "object": "chat.completion", "created": 0, "model": "fieldguide", "choices": [choice], "usage": usage}
        )

    def _reply(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Log nothing: the client reports what matters."""


@contextmanager
def serve(guide: dict[str, list[str]], port: int = 0) -> Iterator[str]:
    """Serve a guide on the loopback address while the block runs. Yields the base URL for an OpenAI client."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.guide = guide
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def refuse_free(llm: str, encoder: str) -> None:
    """Raise ValueError, before anything is paid for, where an encoder that knows few words would read what a free model says: `embedded`,
    or a folder whose tokenizer is a list of words, as a model that was kept of `embedded` is.

    A guide that `python -m gta.worlds.fieldguide` serves is none: fieldguide@URL.
    """
    if "://" not in llm or llm.startswith("fieldguide@"):
        return
    if encoder == "embedded":
        known, instead = "its own small world", "for 'embedded' the llm is fieldguide"
    elif has_words(Path(encoder)):
        known, instead = str(Path(encoder, WORDS)), "with this folder leave `llm` out, and nobody is paid"
    else:
        return
    raise ValueError(
        f"the encoder {encoder!r} knows only the words of {known}; the first answer with another word would end the run, "
        "after every question was paid for. For a free language model name a real CLIP and images that it knows, such as ViT-B/16 "
        f"and your photographs; {instead}"
    )


@contextmanager
def language_model(
    name: str,
    seed: int,
    ledger: Ledger | None = None,
    max_calls: int | None = None,
    facts: Mapping[str, Sequence[str]] = FACTS,
    sampling: Sampling | None = None,
) -> Iterator[LanguageModel]:
    """The language model of a name, while the block runs.

    name: `fieldguide`, which is drawn from `facts` and served here, or `MODEL@URL` for an endpoint that speaks the OpenAI protocol.
    sampling: how that endpoint is asked; the guide needs none. Raises ValueError for another name.
    """
    if name == "fieldguide":
        guide = draw_guide(seed, facts)
        with serve(guide) as url:
            yield LanguageModel(name_of(guide), url, ledger, max_calls=max_calls)
    else:
        try:
            model, address = parted(name)
        except ValueError as error:
            raise ValueError(f"{error}; the other one is 'fieldguide'") from None
        how = sampling or Sampling()
        pace: dict[str, Any] = {"timeout": how.timeout, "patience": how.patience, "concurrency": how.concurrency}
        yield LanguageModel(model, str(address), ledger, how.request, **pace, max_calls=max_calls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the field guide to any OpenAI client.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with serve(draw_guide(arguments.seed), arguments.port) as url:
        print(f"the field guide of seed {arguments.seed} answers at {url}; stop with Ctrl-C", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
