"""Through the real openai client, against real local servers."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gta import experiments
from gta.embedded import fieldguide
from gta.embedded.glyphs import FACTS, NAMES
from gta.generate import DESCRIBE, DISTINGUISH
from gta.llm import LanguageModel, LanguageModelError


@contextmanager
def server(*replies):
    """Answers with (status, content of the message) in turn, the last one for ever; gives the URL and the requests seen."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, content = replies[min(len(seen), len(replies)) - 1]
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            body = json.dumps(reply) if status == 200 else content
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", seen
    finally:
        http.shutdown()
        http.server_close()


def test_an_answer_is_a_clean_list_and_the_schema_is_asked_for():
    with server((200, '{"attributes": ["  a long\\ntail ", "", "a beak"]}')) as (url, seen):
        assert LanguageModel("m", url).ask("what?") == ["a long tail", "a beak"]
    assert seen[0]["response_format"]["json_schema"]["schema"]["required"] == ["attributes"]


@pytest.mark.parametrize("useless", ["not JSON", '{"attributes": []}', '{"attributes": 3}', '["a"]', '{"other": []}', ""])
def test_a_useless_answer_is_asked_again_and_then_an_error_that_names_the_question(useless):
    good = (200, '{"attributes": ["a beak"]}')
    with server((200, useless), good) as (url, seen):
        assert LanguageModel("m", url).ask("what?") == ["a beak"]
        assert len(seen) == 2
    with server((200, useless)) as (url, seen), pytest.raises(LanguageModelError, match="what tells a from b"):
        LanguageModel("m", url, tries=2).ask("what tells a from b")


def test_the_key_is_in_no_error(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with server((401, '{"error": {"message": "no"}}')) as (url, _), pytest.raises(LanguageModelError) as caught:
        LanguageModel("m", url).ask("what?")
    assert "very-secret" not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_the_guide_omits_and_errs_as_stated():
    guides = [fieldguide.draw_guide(seed) for seed in range(200)]
    said = [(name, fact) for guide in guides for name in NAMES for fact in guide[name]]
    wrong = sum(fact not in FACTS[name] for name, fact in said) / len(said)
    kept = len(said) / sum(len(FACTS[name]) for name in NAMES) / len(guides)
    assert wrong == pytest.approx(fieldguide.WRONG, abs=0.01)
    assert kept == pytest.approx(1 - fieldguide.OMITTED, abs=0.02)
    assert guides[0] == fieldguide.draw_guide(0) != guides[1]


def test_the_guide_answers_over_http_what_it_says(guide_llm):
    guide = fieldguide.draw_guide(0)
    assert guide_llm.ask(DESCRIBE.format(name="three")) == guide["three"][: fieldguide.AT_FIRST]
    told = guide_llm.ask(DISTINGUISH.format(a="three", b="eight", known_a="nothing", known_b="nothing"))
    assert told == [fact for fact in guide["three"] if fact not in guide["eight"]] or told == guide["three"]
    with pytest.raises(LanguageModelError, match="no character"):
        guide_llm.ask('What of "platypus"?')


def test_shuffled_names_ask_about_another_class(guide_llm):
    names = NAMES[:10]
    shuffled = experiments.ShuffledNames(guide_llm, names, seed=0)
    guide = fieldguide.draw_guide(0)
    answers = [shuffled.ask(DESCRIBE.format(name=name)) for name in names]
    assert sorted(answers) == sorted(guide[name][: fieldguide.AT_FIRST] for name in names)
    assert all(answer is not None and shuffled._stands_for[name] != name for answer, name in zip(answers, names, strict=True))


def test_a_language_model_is_named_in_full():
    with pytest.raises(ValueError, match="MODEL@URL"), experiments.language_model("gpt-4o", 0):
        pass
