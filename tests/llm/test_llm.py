"""Through the real openai client, against a real local endpoint that does everything endpoints do."""

import json
import multiprocessing
import socket
import time
import traceback
from email.utils import formatdate

import pytest

from endpoint import GOOD, chat, endpoint, error, reply
from gta.attributes import Bank
from gta.generate import describe, distinguish
from gta.llm.chat import CapReached, LanguageModel, Question
from gta.llm.endpoint import LanguageModelError, QuotaExhausted
from gta.llm.ledger import Ledger, LedgerMiss
from gta.llm.prompts import Prompts

PAIR = Question("what tells it?", "crow", "raven")
GOOD_PHRASES = ("a long tail", "a hooked bill")
KEY = "sk-very-secret-0123456789"
PROMPTS = Prompts("Look of {name}?", "What has {a} that {b} lacks?")


def model(url, ledger=None, **options):
    return LanguageModel("m", url, ledger, **{"backoff": 0.01, "timeout": 0.5, "tries": 3, "progress": False, **options})


def entries(ledger):
    return list(Ledger(ledger.folder))


OUTAGES = {
    "429": error(429, "rate_limit_exceeded"),
    "429 with Retry-After": error(429, "rate_limit_exceeded", headers={"Retry-After": "0.2"}),
    "429 with a date": error(429, headers={"Retry-After": formatdate(time.time() - 5, usegmt=True)}),
    "500": error(500),
    "dropped connection": reply(drop=True),
    "truncated body": reply(cut=20),
    "hang": reply(hang=1.0),
    "HTML with status 200": reply(body="<html><body>Sign in</body></html>", kind="text/html"),
    "HTML that says it is JSON": reply(body="<html>"),
    "broken JSON": reply(body='{"id": "x", "choices": [{'),
    "missing choices": reply(body='{"id": "x", "object": "chat.completion"}'),
    "no choices": reply(body='{"choices": []}'),
    "choices of another kind": reply(body='{"choices": {"0": 1}}'),
    "a choice without a message": reply(body='{"choices": [{"index": 0}]}'),
    "nothing": reply(body=""),
    "null": reply(body="null"),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_tried_again_and_then_an_error_that_names_the_pair(name, tmp_path):
    with endpoint([OUTAGES[name], reply()]) as (url, seen):
        assert model(url).ask([PAIR])[0].phrases == GOOD_PHRASES
        assert len(seen) == 2
    ledger = Ledger(tmp_path)
    with endpoint(lambda _, request, __: OUTAGES[name] if "tells" in request["messages"][0]["content"] else reply()) as (url, seen):
        asked = model(url, ledger, concurrency=1)
        asked.ask([Question("first", "owl")])
        with pytest.raises(LanguageModelError, match="'crow' against 'raven'"):
            asked.ask([PAIR])
        assert len(seen) == 1 + 3
    # What was answered is kept; an outage is not recorded as an answer, so that the next run asks again.
    assert [(entry["about"], entry["status"]) for entry in entries(ledger)] == [("'owl'", "answered")]


USELESS = {
    "refusal": (chat(None, refusal="I would rather not."), "refused"),
    "content filter": (chat("", finish="content_filter"), "content filter"),
    "length stop": (chat('{"attributes": ["a long ta', finish="length"), "cut off"),
    "wrong schema": (chat('{"features": ["a long tail"]}'), "another shape"),
    "no list": (chat('{"attributes": 3}'), "another shape"),
    "a list of other things": (chat('{"attributes": [{"a": 1}]}'), "another shape"),
    "broken JSON in the message": (chat('{"attributes": ["a long tail"'), "broken JSON"),
    "nested JSON": (chat("[" * 20_000), "broken JSON"),
    "prose": (chat("A crow is smaller than a raven. Its bill is straighter. Its tail is a fan."), "prose"),
    "an apology": (chat("I'm sorry, I cannot help with that."), "prose"),
    "200 KB": (chat(json.dumps({"attributes": ["a very long tail " * 12] * 1000})), "too large"),
    "an empty list": (chat('{"attributes": []}'), "empty"),
    "an empty message": (chat(""), "empty"),
    "no content": (chat(None), "empty"),
    "a page": (chat("<!DOCTYPE html>\n<p>one</p>\n<p>two</p>"), "markup"),
}


@pytest.mark.parametrize("name", USELESS)
def test_an_answer_of_no_use_is_asked_again_with_the_reason_then_given_up_and_kept(name, tmp_path):
    body, reason = USELESS[name]
    with endpoint([reply(body=body), reply()]) as (url, seen):
        assert model(url).ask([PAIR])[0].phrases == GOOD_PHRASES
        assert len(seen) == 2 and reason in seen.text(1) and reason not in seen.text(0)
    ledger = Ledger(tmp_path)
    with endpoint(lambda _, request, __: reply(body=body) if "tells" in request["messages"][0]["content"] else reply()) as (url, seen):
        replies = model(url, ledger).ask([PAIR, Question("other", "owl")])
        assert replies[0].phrases == () and reason in replies[0].gave_up
        assert replies[1].phrases == GOOD_PHRASES  # the run goes on
        assert len(seen) == 3 + 1
    (given_up,) = [entry for entry in entries(ledger) if entry["status"] == "gave_up"]
    assert given_up["about"] == "'crow' against 'raven'" and len(given_up["attempts"]) == 3
    written = json.loads(body)["choices"][0]["message"]
    assert given_up["attempts"][0]["raw"] == (written["refusal"] or written["content"] or "")[:50_000]
    again = model("http://127.0.0.1:9/v1", Ledger(tmp_path, "replay")).ask([PAIR, Question("other", "owl")])
    assert again == replies


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "$(rm -rf ~); `id`", "%%bash", "!ls", "\x1b[31mred\x00", "\ud800", "../../x", "a" * 299]
)
def test_hostile_text_is_text(text, tmp_path):
    """It comes through as a phrase, in files that stay what they are; nothing is run, no path is made from it."""
    content = json.dumps({"attributes": ["a long tail", text]})
    with endpoint([reply(body=chat(content))]) as (url, _):
        phrases = model(url, Ledger(tmp_path / "ledger")).ask([PAIR])[0].phrases
    assert phrases[0] == "a long tail" and not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for phrase in phrases for c in phrase)
    if text.isprintable():
        assert phrases[1] == text
    bank = Bank.from_template(["crow"]).add(0, phrases, source="static")
    bank.save(tmp_path / "bank.json")
    assert Bank.load(tmp_path / "bank.json") == bank
    (entry,) = (tmp_path / "ledger").glob("*.json")
    assert {file.name for file in (tmp_path / "ledger").iterdir()} == {entry.name, f".{entry.stem}.lock"}
    assert len(list(tmp_path.iterdir())) == 2


def test_retry_after_is_waited_for_and_too_long_a_wait_is_refused():
    with endpoint([error(429, headers={"Retry-After": "0.4"}), reply()]) as (url, seen):
        model(url).ask([PAIR])
        assert seen.times[1] - seen.times[0] >= 0.4
    with endpoint([error(429, headers={"Retry-After": "86400"})]) as (url, seen):
        with pytest.raises(LanguageModelError, match="86400 s"):
            model(url).ask([PAIR])
        assert len(seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_waiting_cannot_help_is_not_repeated(status):
    with endpoint([error(status)]) as (url, seen):
        with pytest.raises(LanguageModelError, match="'crow' against 'raven'"):
            model(url).ask([PAIR])
        assert len(seen) == 1


def test_exhausted_quota_stops_at_once_and_keeps_the_work(tmp_path):
    questions = [Question(f"question {i}", f"class {i}") for i in range(40)]
    spent = error(429, "insufficient_quota", "You exceeded your current quota")
    with endpoint(lambda number, *_: reply() if number < 10 else spent) as (url, seen):
        with pytest.raises(QuotaExhausted, match="quota"):
            model(url, Ledger(tmp_path), concurrency=4).ask(questions)
        assert len(seen) <= 10 + 4
        assert len(entries(Ledger(tmp_path))) == 10
    with endpoint([reply()]) as (url, seen):
        assert len(model(url, Ledger(tmp_path)).ask(questions)) == 40
        assert len(seen) == 30


@pytest.mark.parametrize("caps", [{"max_calls": 6}, {"max_tokens": 90}])
def test_a_cap_stops_the_run_and_keeps_the_work(caps, tmp_path):
    """Each answer costs 15 tokens: both caps allow six."""
    questions = [Question(f"question {i}", f"class {i}") for i in range(20)]
    with endpoint([reply()]) as (url, seen):
        with pytest.raises(CapReached, match="cap of"):
            model(url, Ledger(tmp_path), concurrency=1, **caps).ask(questions)
        assert len(seen) == len(entries(Ledger(tmp_path))) == 6


def test_no_more_than_the_allowed_number_are_open_at_once_and_equal_questions_are_asked_once():
    with endpoint(lambda *_: reply(hang=0.05)) as (url, seen):
        replies = model(url, concurrency=5).ask([Question(f"{i % 20}", "x") for i in range(40)])
        assert len(replies) == 40 and len(seen) == 20
        assert 2 <= seen.most_open <= 5


def test_replies_come_in_the_order_of_the_questions():
    def behave(number, request, _):
        text = request["messages"][0]["content"]
        return reply(body=chat(json.dumps({"attributes": [f"mark {text}"]})), hang=0.03 * (int(text) % 3))

    with endpoint(behave) as (url, _):
        replies = model(url).ask([Question(str(i), "x") for i in range(20)])
    assert [r.phrases for r in replies] == [(f"mark {i}",) for i in range(20)]


def test_an_endpoint_without_schemas_is_asked_in_plain_words():
    def behave(number, request, _):
        if "response_format" in request:
            return error(400, message="Unrecognized request argument: response_format")
        return reply(body=chat("- a long tail\n- a hooked bill"))

    with endpoint(behave) as (url, seen):
        replies = model(url, concurrency=1).ask([PAIR, Question("other", "owl")])
        assert [r.phrases for r in replies] == [GOOD_PHRASES] * 2
        assert len(seen) == 3 and "one phrase a line" in seen.text(1)


def test_the_schema_is_asked_for_and_sampling_goes_along():
    with endpoint([reply()]) as (url, seen):
        model(url, sampling={"temperature": 0.7}).ask([Question("q", "x", sample=3)])
    assert seen.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["attributes"]
    assert (seen.requests[0]["temperature"], seen.requests[0]["seed"]) == (0.7, 3)


def test_each_part_of_a_request_is_part_of_its_name(tmp_path):
    ledger = Ledger(tmp_path)
    with endpoint([reply()]) as (url, seen):
        for options, sample in (({}, 0), ({"sampling": {}}, 0), ({}, 1)):
            model(url, ledger, **options).ask([Question("q", "x", sample=sample)])
        LanguageModel("other", url, ledger, progress=False).ask([Question("q", "x")])
        model(url, ledger).ask([Question("q", "another class, same words")])
        assert len(seen) == 4


def test_usage_counts_and_prices(tmp_path):
    with endpoint([reply(body=chat("")), reply(body=chat(tokens=(1000, 500)))]) as (url, _):
        asked = model(url, Ledger(tmp_path), price=(2.0, 8.0), concurrency=1)
        asked.ask([PAIR])
        asked.ask([PAIR])
    usage = asked.usage
    assert (usage.questions, usage.recorded, usage.calls, usage.prompt_tokens, usage.completion_tokens) == (2, 1, 2, 1010, 505)
    assert f"cost {(1010 * 2 + 505 * 8) / 1e6:.4f}" in str(usage)


def test_an_endpoint_that_counts_no_tokens_is_no_trouble():
    body = json.loads(chat())
    with endpoint([reply(body=json.dumps({**body, "usage": None}))]) as (url, _):
        asked = model(url)
        assert asked.ask([PAIR])[0].phrases == GOOD_PHRASES and asked.usage.tokens == 0


def bank_of_pairs(llm):
    bank = describe(Bank.from_template(["crow", "raven", "rook"]), llm, PROMPTS)
    return distinguish(bank, [(0, 1, 5), (1, 2, 3)], llm, 0, PROMPTS)


def test_a_full_ledger_needs_no_network_and_gives_the_same_bytes(tmp_path, monkeypatch):
    with endpoint(lambda n, request, _: reply(body=chat(f"1. mark {len(request['messages'][0]['content'])}\n2. a long tail"))) as (url, _):
        bank_of_pairs(model(url, Ledger(tmp_path / "ledger"))).save(tmp_path / "first.json")
    before = {file.name: file.read_bytes() for file in (tmp_path / "ledger").iterdir()}
    monkeypatch.setattr(socket, "socket", None)
    for mode in ("record", "replay"):
        bank_of_pairs(model(url, Ledger(tmp_path / "ledger", mode))).save(tmp_path / f"{mode}.json")
        assert (tmp_path / f"{mode}.json").read_bytes() == (tmp_path / "first.json").read_bytes()
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "ledger").iterdir()}


def test_a_miss_in_replay_names_the_pair_and_how_to_record_it(tmp_path):
    with pytest.raises(LedgerMiss, match=r"'crow' against 'raven': no answer in .* mode 'record'"):
        model("http://127.0.0.1:9/v1", Ledger(tmp_path, "replay")).ask([PAIR])


def test_refresh_asks_once_more_and_keeps_what_was_said_before(tmp_path):
    old, new = (chat(json.dumps({"attributes": [age]})) for age in ("old", "new"))
    with endpoint([reply(body=old), reply(body=new)]) as (url, seen):
        model(url, Ledger(tmp_path)).ask([PAIR])
        refreshing = model(url, Ledger(tmp_path, "refresh"))
        assert [refreshing.ask([PAIR])[0].phrases for _ in range(2)] == [("new",)] * 2
        assert len(seen) == 2
    (entry,) = entries(Ledger(tmp_path))
    assert "old" in entry["earlier"][0]["raw"] and "new" in entry["attempts"][0]["raw"]


def test_tries_are_counted_over_runs(tmp_path):
    """A run that stops between two tries goes on where it was, and what it paid for is evidence."""
    with endpoint([reply(body=chat("no list")), error(401)]) as (url, _), pytest.raises(LanguageModelError):
        model(url, Ledger(tmp_path)).ask([PAIR])
    assert [entry["status"] for entry in entries(Ledger(tmp_path))] == ["open"]
    with endpoint([reply(body=chat("no list"))]) as (url, seen):
        assert model(url, Ledger(tmp_path)).ask([PAIR])[0].gave_up == "prose instead of a list"
        assert len(seen) == 2


@pytest.mark.parametrize("content", ["", "{}", '{"request": 1}', "[]"])
def test_a_damaged_entry_is_named(content, tmp_path):
    with endpoint([reply()]) as (url, _):
        model(url, Ledger(tmp_path)).ask([PAIR])
        (file,) = tmp_path.glob("*.json")
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=f"{file.name} is not a ledger entry"):
            model(url, Ledger(tmp_path)).ask([PAIR])


def test_the_key_is_in_nothing_that_is_written_or_raised(tmp_path, monkeypatch):
    """Even where the endpoint echoes it, in an answer, a refusal or an error."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def behave(number, request, headers):
        echo = headers["Authorization"]
        assert echo == f"Bearer {KEY}"
        bodies = [chat(f"you sent {echo}"), chat(None, refusal=f"not for {echo}"), chat(json.dumps({"attributes": [f"a tail {echo}"]}))]
        return reply(body=bodies[number]) if number < 3 else error(400, message=f"bad key: {echo}")

    with endpoint(behave) as (url, _):
        asked = model(url, Ledger(tmp_path / "ledger"))
        describe(Bank.from_template(["owl"]), asked, PROMPTS).save(tmp_path / "bank.json")
        with pytest.raises(LanguageModelError) as caught:
            asked.ask([PAIR])
    written = "".join(file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.json"))
    assert written.count("[key]") >= 4
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in written + shown + repr(asked) and "[key]" in shown


def test_a_password_in_the_address_is_refused_without_repeating_it():
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as caught:
        LanguageModel("m", "https://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


def test_the_answer_is_good_by_construction():
    assert tuple(json.loads(GOOD)["attributes"]) == GOOD_PHRASES


def _asks(url, folder, answers):
    answers.put(model(url, Ledger(folder)).ask([PAIR])[0].phrases)


def test_two_runs_that_ask_the_same_at_once_pay_once_and_use_one_answer(tmp_path):
    """A server that never says the same twice."""
    context = multiprocessing.get_context("fork")
    said = [reply(body=chat(json.dumps({"attributes": [f"a tail of {i} feathers"]}))) for i in range(4)]
    with endpoint(said) as (url, seen):
        answers = context.Queue()
        runs = [context.Process(target=_asks, args=(url, tmp_path, answers)) for _ in range(4)]
        for run in runs:
            run.start()
        phrases = {answers.get(timeout=30) for _ in runs}
        for run in runs:
            run.join()
    assert len(phrases) == 1 and len(seen) == 1
