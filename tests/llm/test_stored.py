"""Stored answers about pairs, served by names and direction."""

import pytest

from gta.attributes import Bank
from gta.generate import describe, distinguish
from gta.llm.chat import Question
from gta.llm.stored import StoredAnswers

OWL, GULL = "a photo of an owl, which hoots.", "a photo of a gull, which is no owl."
STORED = {("owl", "gull"): [OWL, OWL, "a photo of an owl with ears."], ("gull", "owl"): [GULL], ("owl", "crow"): []}


def test_a_pair_has_its_own_answer_in_each_direction_whatever_the_question_says():
    llm = StoredAnswers("birds", STORED)
    replies = llm.ask([Question("any words", "owl", "gull"), Question("others", "gull", "owl", sample=3)])
    assert [reply.phrases for reply in replies] == [tuple(STORED["owl", "gull"]), (GULL,)]
    assert all(reply.whole and reply.gave_up is None for reply in replies)


def test_what_is_not_stored_and_what_is_stored_empty_are_told_and_counted():
    llm = StoredAnswers("birds", STORED)
    pairs = [("owl", "gull"), ("owl", "crow"), ("crow", "owl"), ("crow", "gull")]
    replies = llm.ask([Question("", *pair) for pair in pairs])
    assert [(reply.phrases == (), reply.gave_up) for reply in replies[1:]] == [
        (True, "the stored answer is empty"),
        (True, "no answer is stored"),
        (True, "no answer is stored"),
    ]
    assert (llm.usage.questions, llm.usage.recorded, llm.usage.gave_up, llm.usage.calls) == (4, 1, 3, 0)
    assert str(llm.usage).startswith("4 questions, 1 with a stored answer, 2 with none, 1 with an empty one")


def test_a_bank_takes_whole_texts_as_they_are_and_logs_what_is_missing():
    bank = Bank.from_template(["owl", "gull", "crow"])
    grown = distinguish(bank, [(0, 1, 5), (0, 2, 4)], StoredAnswers("birds", STORED), iteration=2)
    assert grown.texts == [["a photo of a owl.", OWL, "a photo of an owl with ears."], ["a photo of a gull.", GULL], ["a photo of a crow."]]
    assert {(a.source, a.against, a.iteration) for a in grown.attributes[0][1:]} == {("pair", "gull", 2)}
    logged = [(line.name, line.against, line.reason, line.text) for line in grown.dropped]
    assert logged == [
        ("owl", "gull", "duplicate", OWL),
        ("owl", "crow", "gave up", "the stored answer is empty"),
        ("crow", "owl", "gave up", "no answer is stored"),
    ]
    assert [pair[:3] for pair in grown.asked] == [(2, 0, 1), (2, 0, 2)]


def test_it_cannot_say_what_a_class_looks_like_and_says_what_helps():
    llm = StoredAnswers("birds", STORED)
    with pytest.raises(ValueError, match=r"'owl': birds-.* answers about pairs alone .* by `attributes`, such as adaptclipzs:CHECKOUT"):
        describe(Bank.from_template(["owl", "gull"]), llm)
    assert llm.usage.questions == 0


def test_the_name_holds_the_answers():
    names = {StoredAnswers("birds", stored).model for stored in (STORED, {**STORED, ("gull", "owl"): []}, dict(reversed(STORED.items())))}
    assert len(names) == 2 and all(name.startswith("birds-") for name in names)
