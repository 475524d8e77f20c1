"""How an endpoint is asked: what goes along, what an endpoint refuses, and a model that repeats itself without end."""

import json

import pytest

from endpoint import chat, endpoint, error, reply
from gta.attributes import Bank
from gta.generate import describe
from gta.llm.answers import MOST, UnusableAnswer, read
from gta.llm.chat import LanguageModel, Question
from gta.llm.endpoint import LanguageModelError
from gta.llm.ledger import Ledger
from gta.llm.prompts import Prompts
from gta.llm.sampling import Sampling
from gta.studies.cost import Counted
from gta.worlds.fieldguide import language_model

QUESTION = Question("what tells it?", "crow", "raven")
PROMPTS = Prompts("Look of {name}?", "What has {a} that {b} lacks?")


def model(url, ledger=None, how=None, **options):
    return LanguageModel("m", url, ledger, (how or Sampling()).request, backoff=0.01, tries=3, progress=False, **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temprature": 1}, "unknown parameter 'temprature'; did you mean 'temperature'"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"extra": {"top_p": 1}}, "'top_p' stands beside `extra`"),
        ({"extra": {"stream": True}}, "'stream' is set by the program"),
        ("temperature", "'temperature' holds no names with values"),
        ("{temperature: [", "holds no names"),
        (3, "3 holds no names"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        Sampling.model_validate(given)


def test_a_text_is_read_as_what_it_says():
    """As papermill and snakemake give it: the whole as a text, or each value."""
    how = Sampling(temperature=0.7, max_tokens=None, extra={"top_k": 3})
    assert Sampling.model_validate("{temperature: 0.7, max_tokens: null, extra: {top_k: 3}}") == how
    assert Sampling.model_validate({"temperature": "0.7", "max_tokens": "null", "extra": "{top_k: 3}"}) == how
    assert Sampling.model_validate(how) == how and Sampling.model_validate({}) == Sampling()


def test_each_request_carries_what_was_chosen_and_nothing_that_is_none():
    how = Sampling(temperature=0.5, max_tokens=None, seed=7, extra={"repetition_penalty": 1.1})
    with endpoint([reply()]) as (url, seen):
        model(url).ask([QUESTION])
        model(url, how=how).ask([QUESTION, Question("another", "crow", sample=2)])
    first, *others = seen.requests
    assert (first["max_tokens"], first["temperature"]) == (1000, 0) and not {"top_p", "seed"} & first.keys()
    assert first["response_format"]["json_schema"]["schema"]["properties"]["attributes"]["maxItems"] == MOST
    for request in others:
        assert (request["temperature"], request["repetition_penalty"]) == (0.5, 1.1) and "max_tokens" not in request
    assert {request["seed"] for request in others} == {7, 9}


def test_runs_of_other_parameters_share_no_answer_and_no_name(tmp_path):
    ways = [Sampling(), Sampling(temperature=0.7), Sampling(max_tokens=None), Sampling(seed=1), Sampling(extra={"top_k": 3})]
    with endpoint(lambda number, *_: reply(body=chat(json.dumps({"attributes": [f"mark {number}"]})))) as (url, seen):
        said = [model(url, Ledger(tmp_path), how).ask([QUESTION])[0].phrases for how in ways]
        again = [model(url, Ledger(tmp_path, "replay"), how).ask([QUESTION])[0].phrases for how in ways]
        assert len(set(said)) == len(seen) == len(ways) and said == again
        assert [model(url, how=how).model for how in ways] == ["m", "m, temperature=0.7", "m, max_tokens=None", "m, seed=1", "m, top_k=3"]
        counted = Counted(model(url, Ledger(tmp_path), ways[1]))
        counted.ask([QUESTION])
        assert counted.paid(Ledger(tmp_path))["calls"] == 1
    # How many are open at once and how long they may take changes no answer.
    assert Sampling(concurrency=1, timeout=9, patience=9).request == Sampling().request


def test_the_guide_needs_none_and_an_endpoint_gets_all():
    how = Sampling(temperature=0.7, concurrency=3, timeout=20, patience=4)
    with language_model("fieldguide", 0) as plain, language_model("fieldguide", 0, sampling=how) as guide:
        assert guide.model == plain.model
    with language_model("m@http://127.0.0.1:9/v1", 0, sampling=how) as llm:
        assert (llm.sampling["temperature"], llm.concurrency, llm.timeout, llm.patience) == (0.7, 3, 20, 4)
        assert llm.model == "m, temperature=0.7"


@pytest.mark.parametrize(
    ("said", "held", "not_held"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", "the request held max_tokens=500:", "temperature"),
        ("unknown field top_k", "the request held top_k=3:", "max_tokens"),
        ("bad request", "the request held max_tokens=500, temperature=0.0, top_k=3:", "top_p"),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_parameter_that_an_endpoint_refuses_is_named_with_the_mend(said, held, not_held, status):
    with endpoint([error(status, message=said)]) as (url, seen):
        with pytest.raises(LanguageModelError) as caught:
            model(url, how=Sampling(max_tokens=500, extra={"top_k": 3})).ask([QUESTION])
        assert len(seen) == 1
    told = str(caught.value).partition("; the request held")[2]
    assert said.rstrip(".") in str(caught.value) and held in str(caught.value) and "`sampling`" in told and not_held not in told


def test_a_timeout_says_what_to_change():
    with endpoint([reply(hang=1.0)]) as (url, _), pytest.raises(LanguageModelError, match=r"0\.1 s without a byte; `sampling`"):
        model(url, timeout=0.1).ask([QUESTION])


def test_an_endpoint_that_knows_schemas_but_no_cap_is_asked_without_the_cap():
    def behave(number, request, _):
        phrases = request["response_format"]["json_schema"]["schema"]["properties"]["attributes"]
        refused = "Invalid schema for response_format 'attributes': 'maxItems' is not permitted."
        return error(400, message=refused) if "maxItems" in phrases else reply()

    with endpoint(behave) as (url, seen):
        assert all(len(answer.phrases) == 2 for answer in model(url, concurrency=1).ask([QUESTION, Question("other", "owl")]))
        assert len(seen) == 3


LOOP = ', "a hooked bill", "a long tail"' * 90
CUT = {
    "a list that repeats itself": ('{"attributes": ["a long tail"' + LOOP + ', "a ho', ["a long tail", "a hooked bill"]),
    "indented": ('{\n "attributes": [\n  "a long tail",\n  "a ho', ["a long tail"]),
    "fenced": ('```json\n["a long tail", "a hook', ["a long tail"]),
    "a phrase that repeats itself": ('{"attributes": ["a long tail", "a very' + " very" * 900, ["a long tail"]),
    "white space": ('{"attributes": ["a long tail",' + "\n" * 900, ["a long tail"]),
    "quotation marks": (r'{"attributes": ["a 2\" tail", "bars\\", "c' + "c" * 99, ['a 2" tail', "bars\\"]),
    "bullets": ("- a long tail\n- a hooked bill" + "\n- a hooked bill" * 99 + "\n- a ho", ["a long tail", "a hooked bill"]),
    "numbers that go on": (json.dumps({"attributes": [f"{i} bars" for i in range(200)]})[:-30], [f"{i} bars" for i in range(MOST)]),
}


@pytest.mark.parametrize("name", CUT)
def test_of_an_endless_answer_the_complete_phrases_are_kept_and_the_log_says_so(name, tmp_path):
    content, kept = CUT[name]
    with endpoint([reply(body=chat(content, finish="length"))]) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url, Ledger(tmp_path)), PROMPTS)
        assert len(seen) == 1
        assert describe(Bank.from_template(["crow"]), model(url, Ledger(tmp_path, "replay")), PROMPTS) == bank
    assert bank.phrases(0) == kept
    (line,) = bank.dropped
    assert line.reason == "cut off at the length limit" and line.text.startswith(f"{len(kept)} of ")


@pytest.mark.parametrize(
    "content",
    ["", "   ", '{"attributes": ["a very' + " very" * 900, '{"attributes": [{"a": "b"}, ', "It is black. " * 90, '{"x": ["a", "b"', "[["],
)
def test_without_a_complete_phrase_it_is_asked_again_then_given_up_and_the_run_goes_on(content):
    with endpoint([reply(body=chat(content, finish="length"))]) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url), PROMPTS)
        assert len(seen) == 3 and "cut off" in seen.text(1)
    assert bank.texts == [["a photo of a crow."]]
    assert [(line.reason, line.text) for line in bank.dropped] == [("gave up", "cut off at the length limit")]


def test_a_whole_answer_of_too_many_phrases_is_shortened_and_one_of_as_many_as_may_be_is_not():
    many = [f"{i} bars" for i in range(MOST + 1)]
    assert read(json.dumps(many)) == (many[:MOST], f"too many phrases: {MOST} of {MOST + 1} kept")
    assert read(json.dumps(many[:MOST])) == (many[:MOST], None)
    with pytest.raises(UnusableAnswer, match="empty"):
        read(json.dumps(["..."] * (MOST + 1)))
