import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gta.attributes import Bank
from gta.generate import confused_pairs, describe, distinguish, pair_threshold, pairs_to_ask, random_pairs
from gta.llm.chat import Reply
from gta.llm.prompts import Prompts

NAMES = ("zero", "one", "two", "three")
SENTENCES = ("a picture of the digit {}", "a picture of the digit {name} with {attribute}")


class Script:
    """Answers from a list, and keeps the questions."""

    model = "script"

    def __init__(self, *answers):
        self.answers, self.questions = list(answers), []

    def ask(self, questions):
        self.questions += questions
        replies = [self.answers.pop(0) for _ in questions]
        return [Reply((), reply) if isinstance(reply, str) else Reply(tuple(reply)) for reply in replies]


def bank():
    return Bank.from_template(NAMES, *SENTENCES)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 5))
def test_confused_pairs_are_those_of_a_loop(seed, n, m):
    z = torch.rand(n, m, generator=torch.Generator().manual_seed(seed)).softmax(1)
    counts = {}
    for row in z.tolist():
        (second, b), (first, a) = sorted((value, j) for j, value in enumerate(row))[-2:]
        if torch.tensor(first) - torch.tensor(second) < 0.1:
            counts[min(a, b), max(a, b)] = counts.get((min(a, b), max(a, b)), 0) + 1
    pairs = confused_pairs(z, 0.1)
    assert {(a, b): count for a, b, count in pairs} == counts
    assert [p[2] for p in pairs] == sorted((p[2] for p in pairs), reverse=True)


def test_a_tie_for_the_second_place_names_the_lower_class_and_one_for_the_first_names_both():
    """Of classes that are equal up to rounding, whichever has the larger last digit."""
    ties = torch.tensor([[0.1, 0.3, 0.3 + 2e-8, 0.3 - 3e-8], [0.28, 0.1, 0.28 + 2e-8, 0.34], [0.5, 0.1, 0.1, 0.3]], dtype=torch.float64)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert confused_pairs(ties[order], 0.1) == [(0, 3, 1), (1, 2, 1)]


def test_one_class_has_no_pair():
    assert confused_pairs(torch.ones(5, 1)) == []


def test_threshold_is_the_smallest_integer_nearest_to_the_share():
    counts = [9, 7, 5, 5] + [1] * 36  # 40 pairs: 5 % are 2
    assert pair_threshold([(0, i, c) for i, c in enumerate(counts)]) == 5  # keeps 9 and 7
    assert pair_threshold([]) == 0
    assert pair_threshold([(0, 1, 1), (0, 2, 1)], share=0.05) == 1  # few pairs: keeps none


def test_asks_above_beta_else_the_most_frequent_new_pair():
    pairs = [(0, 1, 9), (1, 2, 4), (0, 2, 1)]
    assert pairs_to_ask(pairs, 3, bank()) == pairs[:2]
    assert pairs_to_ask(pairs, 100, bank()) == pairs[:1]
    told = distinguish(bank(), pairs[:2], Script(["x"], ["y"], ["z"], ["w"]), 0)
    assert pairs_to_ask(pairs, 3, told) == pairs[2:]
    assert pairs_to_ask(pairs[:2], 3, told) == []


def test_random_pairs_are_new_and_seeded():
    told = distinguish(bank(), [(0, 1, 1)], Script(["x"], ["y"]), 0)
    drawn = random_pairs(99, told, seed="0 0 1")
    assert len(drawn) == 5 and (0, 1) not in {(a, b) for a, b, _ in drawn}
    assert drawn == random_pairs(99, told, seed="0 0 1") != random_pairs(99, told, seed="0 1 0")


def test_questions_of_an_iteration_do_not_see_its_answers():
    llm = Script(["a tail"], ["a hook"], ["a bar"], ["a dot"])
    told = distinguish(bank().add(0, ["a serif"], source="static"), [(0, 1, 3), (0, 2, 2)], llm, iteration=4)
    assert not any("a tail" in question.text for question in llm.questions)
    assert ["a serif" in question.text for question in llm.questions] == [True] * 4
    assert [(question.name, question.against) for question in llm.questions[:2]] == [("zero", "one"), ("one", "zero")]
    assert told.texts[0][1:] == [f"a picture of the digit zero with a {mark}" for mark in ("serif", "tail", "bar")]
    assert told.asked == ((4, 0, 1, 3), (4, 0, 2, 2))
    assert [(a.against, a.iteration, a.origin) for a in told.attributes[1] if a.source == "pair"] == [("zero", 4, "script")]


def test_an_answer_that_names_the_other_class_is_dropped_but_not_a_word_that_contains_it():
    told = distinguish(bank(), [(0, 1, 3)], Script(["less like One", "a stone look"], ["a bar"]), 0)
    assert told.texts[0][1:] == ["a picture of the digit zero with a stone look"]
    assert told.counts == {"names the other class": 1}


def test_a_question_shows_bare_phrases_and_an_answer_is_taken_without_its_frame():
    said = ["with a tail", "zero: a bar", "a picture of the digit zero with a dot", "Zero has a tail", "a loop, unlike one"]
    known = bank().add(0, ["a serif"], source="static").add_texts(1, ["the digit one, thin"], source="imported")
    llm = Script(said, ["a hook"])
    told = distinguish(known, [(0, 1, 3)], llm, 0, Prompts("{name}", "{a}: {known_a} | {b}: {known_b}"))
    assert llm.questions[0].text == "zero: a serif | one: the digit one, thin"
    assert told.phrases(0) == ["a serif", "a tail", "a bar", "a dot"]
    assert told.texts[0][2] == "a picture of the digit zero with a tail"
    assert told.counts == {"duplicate": 1, "names the other class": 1}


def test_describe_replaces_templates(guide_llm):
    described = describe(bank(), guide_llm)
    assert all(attribute.source == "static" for of_class in described.attributes for attribute in of_class)
    assert guide_llm.usage.calls == len(NAMES)


@pytest.mark.parametrize("phrases", [[], ["a loop", "a loop"]])
def test_a_text_stands_once(phrases):
    assert len(bank().add(0, phrases, source="static").attributes[0]) == 1 + len(set(phrases))


def test_a_pair_that_was_given_up_is_logged_and_not_asked_again():
    told = distinguish(bank(), [(0, 1, 3)], Script("refused", ["a bar"]), 2)
    assert [(d.name, d.against, d.iteration, d.reason, d.text) for d in told.dropped] == [("zero", "one", 2, "gave up", "refused")]
    assert told.texts[0] == bank().texts[0] and pairs_to_ask([(0, 1, 3)], 0, told) == []


def test_a_class_that_was_given_up_keeps_its_template():
    described = describe(bank(), Script("refused", ["a bar"], ["a bar"], ["a bar"]))
    assert described.texts[0] == bank().texts[0] and described.texts[1] == ["a picture of the digit one with a bar"]


def test_classes_of_one_name_are_no_pair_and_keep_apart():
    two = Bank.from_template(["missile", "owl", "missile"])
    assert pairs_to_ask([(0, 2, 9), (0, 1, 4), (1, 2, 3)], 0, two) == [(0, 1, 4), (1, 2, 3)]
    told = distinguish(two, [(0, 1, 4)], Script(["fins"], ["wings"]), 0)
    assert pairs_to_ask([(0, 1, 4), (1, 2, 3)], 0, told) == [(1, 2, 3)]
    assert [len(texts) for texts in told.texts] == [2, 2, 1]


def test_natural_domains_ask_where_a_thing_is_found():
    llm = Script(*[["reeds behind it"]] * 8)
    described = describe(bank(), llm, Prompts("look of {name}", "{a} {b}", "place of {name}"))
    assert [question.text for question in llm.questions[:2]] == ["look of zero", "place of zero"]
    assert {a.source for a in described.attributes[0]} == {"static"} and described.counts == {"duplicate": 4}


def test_a_class_name_is_filled_in_once():
    """A class may be called "{b}"."""
    told = Bank.from_template(["{b}", "owl"])
    llm = Script(["fins"], ["wings"])
    distinguish(told, [(0, 1, 1)], llm, 0, Prompts("{name}", "<{a}> not <{b}>"))
    assert [question.text for question in llm.questions] == ["<{b}> not <owl>", "<owl> not <{b}>"]
