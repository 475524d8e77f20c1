"""What an endpoint refuses by name is asked for otherwise, once for a whole run; what a user chose is not."""

import json

import pytest

from endpoint import chat, endpoint, error, reply
from gta.llm.chat import LanguageModel, Question
from gta.llm.endpoint import LanguageModelError
from gta.llm.ledger import Ledger, digest
from gta.llm.sampling import Sampling

PAIR, OTHER = Question("what tells it?", "crow", "raven"), Question("other", "owl")
GOOD_PHRASES = ("a long tail", "a hooked bill")
LINES = chat("- a long tail\n- a hooked bill")


def model(url, ledger=None, how=None, **options):
    return LanguageModel("m", url, ledger, (how or Sampling()).request, backoff=0.01, tries=3, progress=False, concurrency=1, **options)


ZERO = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
TOKENS = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
UNAVAILABLE = "This response_format type is unavailable now"
NO_EXTRA = {"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs are not permitted"}]}
NO_JSON = {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text' or 'json_object'"}]}
STRICT = {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"}

# What is refused: (whether a request is, the answer, what is told of it, the same in its own words).
REFUSALS = {
    "temperature 0": (
        lambda r: "temperature" in r,
        error(400, "unsupported_value", ZERO),
        "refuses temperature=0.0, which is left out",
        ZERO,
    ),
    "temperature 0, of another kind": (
        lambda r: r.get("temperature") == 0,
        error(400, message="invalid temperature: only 1 is allowed for this model"),
        "refuses temperature=0.0, which is left out",
        "invalid temperature: only 1 is allowed for this model",
    ),
    "temperature 0, with 422": (
        lambda r: r.get("temperature") == 0,
        reply(422, json.dumps(STRICT)),
        "refuses temperature=0.0, which is left out",
        STRICT["error"],
    ),
    "max_tokens": (lambda r: "max_tokens" in r, error(400, message=TOKENS), "wants max_completion_tokens for max_tokens", TOKENS),
    "a limit at all": (
        lambda r: "max_tokens" in r,
        error(422, message="unknown field: max_tokens"),
        "refuses max_tokens=1000, which is left out",
        "unknown field: max_tokens",
    ),
    "the schema": (
        lambda r: "response_format" in r,
        error(400, message=UNAVAILABLE),
        "refuses the schema of the answer; a list is asked for in words",
        UNAVAILABLE,
    ),
    "the schema, in `detail`": (
        lambda r: "response_format" in r,
        reply(422, json.dumps(NO_EXTRA)),
        "refuses the schema of the answer; a list is asked for in words",
        "body.response_format: Extra inputs are not permitted",
    ),
    "the schema, by its type": (
        lambda r: "response_format" in r,
        reply(422, json.dumps(NO_JSON)),
        "refuses the schema of the answer; a list is asked for in words",
        "body.response_format.type: Input should be 'text' or 'json_object'",
    ),
    "a grammar, with 500": (
        lambda r: "response_format" in r,
        error(500, message="failed to parse grammar"),
        "refuses the schema of the answer; a list is asked for in words",
        "failed to parse grammar",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_is_left_out_once_for_the_run_told_and_recorded(name, tmp_path, capsys):
    refuses, refusal, told, words = REFUSALS[name]
    with endpoint(lambda number, request, headers: refusal if refuses(request) else reply(body=LINES)) as (url, seen):
        asked = model(url, Ledger(tmp_path))
        assert [answer.phrases for answer in asked.ask([PAIR, OTHER])] == [GOOD_PHRASES] * 2
        assert len(seen) == 3  # refused once, and then not asked for again
    assert asked.learnt == (told,)
    assert capsys.readouterr().err == f"m at {url} {told} ({words.rstrip('.')})\n"
    assert all(entry["attempts"][0]["asked"] == [told] for entry in Ledger(tmp_path))
    sent = seen.requests[1]
    if name == "max_tokens":
        assert sent["max_completion_tokens"] == 1000 and "max_tokens" not in sent
    # Under the name of what was asked for: the same command finds its answers.
    assert model("http://127.0.0.1:9/v1", Ledger(tmp_path, "replay")).ask([PAIR])[0].phrases == GOOD_PHRASES


def test_an_endpoint_that_refuses_everything_learns_one_thing_after_the_other():
    def behave(number, request, headers):
        for name, words in (("max_tokens", TOKENS), ("temperature", ZERO), ("response_format", UNAVAILABLE), ("seed", "unknown: seed")):
            if name in request:
                return error(400, message=words)
        return reply(body=LINES)

    with endpoint(behave) as (url, seen):
        assert model(url).ask([Question("q", "owl", sample=1)])[0].phrases == GOOD_PHRASES
    assert len(seen) == 5 and seen.requests[-1].keys() == {"model", "messages", "max_completion_tokens"}


def test_many_questions_at_once_learn_it_together():
    with endpoint(lambda number, request, _: error(400, message=ZERO) if "temperature" in request else reply(hang=0.02)) as (url, seen):
        asked = LanguageModel("m", url, tries=2, backoff=0.01, progress=False)
        assert all(answer.phrases == GOOD_PHRASES for answer in asked.ask([Question(str(i), "owl") for i in range(30)]))
    assert len(asked.learnt) == 1 and len(seen) <= 30 + 8


@pytest.mark.parametrize(
    ("how", "words", "held"),
    [
        (Sampling(temperature=0.7), ZERO, "temperature=0.7"),
        (Sampling(max_tokens=50), "unknown field: max_tokens", "max_tokens=50"),
        (Sampling(seed=3), "unknown field: seed", "seed=3"),
    ],
)
def test_what_the_user_chose_is_sent_or_the_run_stops(how, words, held):
    with endpoint([error(400, message=words)]) as (url, seen), pytest.raises(LanguageModelError) as caught:
        model(url, how=how).ask([PAIR])
    said = f"answered 400: {words.rstrip('.')}; the request held {held}: `sampling` sets it, and leaves out what is None"
    assert str(caught.value).endswith(said) and len(seen) == 1


def test_a_limit_that_the_user_chose_goes_by_the_name_that_the_endpoint_wants():
    with endpoint(lambda _, request, __: error(400, message=TOKENS) if "max_tokens" in request else reply()) as (url, seen):
        model(url, how=Sampling(max_tokens=4000)).ask([PAIR])
        model(url, how=Sampling.model_validate("{max_tokens: null, extra: {max_completion_tokens: 50}}")).ask([PAIR])
    assert [request.get("max_completion_tokens") for request in seen.requests] == [None, 4000, 50]


def test_a_server_that_breaks_at_the_schema_and_says_nothing_is_tried_without_it():
    """As llama-cpp-python does; one that has answered once is not taken for such a server."""
    with endpoint(lambda _, request, __: error(500) if "response_format" in request else reply(body=LINES)) as (url, seen):
        assert [answer.phrases for answer in model(url).ask([PAIR, OTHER])] == [GOOD_PHRASES] * 2
        assert len(seen) == 4
    with endpoint([reply(), error(500), error(500), reply()]) as (url, seen):
        asked = model(url)
        assert asked.ask([PAIR, OTHER])[1].phrases == GOOD_PHRASES and asked.learnt == ()


def test_a_server_that_streams_unasked_is_told_not_to():
    stream = reply(body='data: {"choices": [{"delta": {"content": "- red"}}]}\n\ndata: [DONE]\n\n', kind="text/event-stream")
    with endpoint(lambda _, request, __: reply() if request.get("stream") is False else stream) as (url, seen):
        assert model(url).ask([PAIR])[0].phrases == GOOD_PHRASES and len(seen) == 2
    with endpoint([stream]) as (url, seen), pytest.raises(LanguageModelError, match="answered a stream of pieces instead of a chat"):
        model(url).ask([PAIR])


def test_the_name_of_an_answer_is_what_it_was():
    """An answer that was paid for under an earlier version is found."""
    assert digest(LanguageModel("m", "http://h/v1")._request(PAIR)) == "d1432f83941dcaa7ed746e55979a8bd4"
