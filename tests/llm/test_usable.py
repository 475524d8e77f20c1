"""A usable answer is taken from whatever stands around it, a useless one is not taken, and is asked for again as a conversation."""

import json

import pytest

from endpoint import GOOD, chat, endpoint, reply
from gta.attributes import Bank
from gta.generate import describe, distinguish
from gta.llm.answers import UnusableAnswer, parse, read, sort_out
from gta.llm.chat import LanguageModel, Question
from gta.llm.ledger import Ledger
from gta.llm.prompts import Prompts

PAIR = Question("what tells it?", "crow", "raven")
GOOD_PHRASES = ["a long tail", "a hooked bill"]
PROMPTS = Prompts("Look of {name}?", "What has {a} that {b} lacks?")


def model(url, ledger=None, **options):
    return LanguageModel("m", url, ledger, backoff=0.01, progress=False, **{"tries": 3, **options})


USABLE = {
    "thoughts before it": f"<think>Okay, the user wants attributes.\nLet me list them.</think>\n\n{GOOD}",
    "a list in the thoughts": "<think>\n- maybe loops\n- maybe lines\n</think>\n- a long tail\n- a hooked bill",
    "thoughts whose beginning is in the template": "Okay.\n- maybe loops\n</think>\n- a long tail\n- a hooked bill",
    "thoughts of other models": f"[THINK]- a b\n- c d[/THINK]{GOOD}",
    "two thoughts": f"<thinking>one</thinking><reasoning>two</reasoning>{GOOD}",
    "channels": f"<|channel|>analysis<|message|>- a b<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
    "an end of the template": f"{GOOD}<|im_end|>",
    "words before": f"Here is the JSON you asked for:\n{GOOD}",
    "words before, on one line": f"Sure! Here is the JSON: {GOOD}",
    "words after": f"{GOOD}\n\nLet me know if you need more.",
    "a fence between words": f"Sure! Here you go:\n```json\n{GOOD}\n```\nLet me know!",
    "two fences": f"```\nimport json\n```\n```json\n{GOOD}\n```",
    "a bare list between words": f"The list:\n{json.dumps(GOOD_PHRASES)}\nThat is all.",
    "a comma too many": '{"attributes": ["a long tail", "a hooked bill",]}',
    "plain lines between words": "Sure, here they are\na long tail\na hooked bill\nI hope this helps",
    "braces in its thoughts": f'<think>{{"attributes": ["x y"]}}</think>{GOOD}',
}


@pytest.mark.parametrize("name", USABLE)
def test_an_answer_is_taken_from_what_stands_around_it(name):
    """And is paid for once."""
    with endpoint([reply(body=chat(USABLE[name]))]) as (url, seen):
        assert list(model(url).ask([PAIR])[0].phrases) == GOOD_PHRASES and len(seen) == 1


def test_what_a_message_says_elsewhere_is_read_too():
    """In parts, or all of it under the reasoning; reasoning beside an answer is none."""
    whole = json.loads(chat())

    def body(**message):
        return reply(
            body=json.dumps({**whole, "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}]})
        )

    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "- x y"}]}, {"type": "text", "text": GOOD}]
    said = [
        body(content=GOOD, reasoning_content='{"attributes": ["x y"]}'),
        body(content=None, reasoning_content=f"I think:\n{GOOD}"),
        body(content="", reasoning=GOOD),
        body(content=parts),
    ]
    for answer in said:
        with endpoint([answer]) as (url, seen):
            assert list(model(url).ask([PAIR])[0].phrases) == GOOD_PHRASES and len(seen) == 1
    with endpoint([body(content=None, reasoning_content="long thoughts. And more.")]) as (url, _):
        assert model(url).ask([PAIR])[0].gave_up == "the answer is empty"


USELESS = {
    "thoughts alone": ("<think>so many</think>", "thoughts without an answer"),
    "thoughts without an end": ("<think>- so many\n- of them", "thoughts without an answer"),
    "JSON that breaks off between words": ('Here is the JSON:\n{"attributes": [\n"a long tail",\n"a ho', "broken JSON between other words"),
    "words about a list": ("Sure, here is the list\nI hope this helps", "prose instead of a list"),
}


@pytest.mark.parametrize("name", USELESS)
def test_what_is_no_answer_says_so(name):
    content, words = USELESS[name]
    with pytest.raises(UnusableAnswer, match=words):
        parse(content)


def test_an_answer_that_was_cut_after_thoughts_or_words_keeps_its_complete_phrases():
    cut = '{"attributes": ["a long tail", "a hooked bill", "a very'
    for before in ("<think>x</think>", "Here is the JSON:\n", "```json\n"):
        assert read(before + cut, cut=True)[0] == GOOD_PHRASES
    with pytest.raises(UnusableAnswer, match="thoughts without an answer"):
        read("<think>- one\n- two\n- th", cut=True)


NOTHING = ["a", "B.", "7", "12", "N/A", "none", "string", "attribute 1", "Phrase b", "yes", "and so on"]


@pytest.mark.parametrize("phrase", NOTHING)
def test_a_phrase_that_says_nothing_is_dropped(phrase):
    assert sort_out([phrase]).dropped == [("says nothing", phrase)]


@pytest.mark.parametrize("phrase", ["red", "an X shape", "2 wing bars", "长", "no tail", "attribute of gold", "two"])
def test_a_short_phrase_that_says_something_is_kept(phrase):
    assert sort_out([phrase]).kept == [phrase]


@pytest.mark.parametrize("phrase", ["crow", "Crow", "a crow", "The crow.", "crows", "a photo of a crow."])
def test_the_name_of_the_class_alone_is_no_attribute(phrase, tmp_path):
    said = [reply(body=chat(json.dumps({"attributes": [phrase]}))), reply()]
    with endpoint(said) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url, Ledger(tmp_path)), PROMPTS)
    assert bank.phrases(0) == GOOD_PHRASES
    assert len(seen) == 2 and "(no phrase is of use: says no more than the name)" in seen.text(1)


def test_an_answer_that_the_sieve_empties_is_asked_for_again_and_not_filed_as_answered(tmp_path):
    bad = reply(body=chat('{"attributes": ["a"]}'))
    with endpoint([bad, reply()]) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url, Ledger(tmp_path / "1")), PROMPTS)
        assert bank.phrases(0) == GOOD_PHRASES and bank.dropped == ()
    (entry,) = Ledger(tmp_path / "1")
    assert [attempt["reason"] for attempt in entry["attempts"]] == ["no phrase is of use: says nothing", None]
    with endpoint([bad]) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url, Ledger(tmp_path / "2")), PROMPTS)
    assert [(line.reason, line.text) for line in bank.dropped] == [("gave up", "no phrase is of use: says nothing")]
    assert [entry["status"] for entry in Ledger(tmp_path / "2")] == ["gave_up"]
    assert bank.texts == [["a photo of a crow."]] and len(seen) == 3


def test_so_is_an_answer_about_a_pair():
    bad = reply(body=chat('{"attributes": ["unlike a raven", "ravens have none"]}'))
    with endpoint(lambda number, request, _: bad if len(request["messages"]) == 1 else reply()) as (url, seen):
        bank = distinguish(Bank.from_template(["crow", "raven"]), [(0, 1, 3)], model(url, concurrency=1), 0, PROMPTS)
    assert bank.phrases(0) == GOOD_PHRASES
    assert "(no phrase is of use: names the other class)" in seen.text(1)


def test_an_answer_of_which_a_part_is_of_use_is_taken():
    with endpoint([reply(body=chat('{"attributes": ["a", "crow", "a long tail"]}'))]) as (url, seen):
        bank = describe(Bank.from_template(["crow"]), model(url), PROMPTS)
    assert bank.phrases(0) == ["a long tail"] and len(seen) == 1
    assert bank.counts == {"says nothing": 1, "says no more than the name": 1}


def test_a_model_that_thinks_until_the_limit_is_told_with_what_sets_it(capsys):
    """Once, though every question fares so."""
    with endpoint([reply(body=chat("", finish="length"))]) as (url, _):
        replies = model(url).ask([PAIR, Question("other", "owl")])
    assert {answer.gave_up for answer in replies} == {"cut off at the length limit"}
    said = "m was cut off by max_tokens=1000 before it had said a phrase: `sampling` sets a larger max_tokens\n"
    assert capsys.readouterr().err == said


def test_a_useless_answer_is_sent_back_as_a_turn_with_the_reason():
    """A model at temperature 0 gives the same answer to the same words, and another to these."""

    def greedy(number, request, headers):
        return reply(body=chat("I think. That it is. Black.")) if len(request["messages"]) == 1 else reply()

    with endpoint(greedy) as (url, seen):
        assert list(model(url).ask([PAIR])[0].phrases) == GOOD_PHRASES
    assert seen.requests[1]["messages"] == [
        {"role": "user", "content": "what tells it?"},
        {"role": "assistant", "content": "I think. That it is. Black."},
        {"role": "user", "content": "The last answer could not be used (prose instead of a list). Answer with the list alone."},
    ]


def test_of_a_long_useless_answer_a_part_is_sent_back_and_of_an_empty_one_nothing():
    with endpoint([reply(body=chat("word " * 20_000)), reply(body=chat("")), reply()]) as (url, seen):
        model(url).ask([PAIR])
    roles = [[(turn["role"], len(turn["content"])) for turn in request["messages"]] for request in seen.requests]
    assert roles[1][1] == ("assistant", 2000) and [role for role, _ in roles[2]] == ["user"]
    assert "what tells it?\n\nThe last answer could not be used" in seen.text(2)
