"""What is taken off an answer, and what stays."""

import pytest

from gta.llm.phrases import bare
from gta.worlds import aviary, glyphs

BIRD, NAME = "a photo of a {name} bird with {attribute}", "Yellow-headed Blackbird"


@pytest.mark.parametrize(
    "said",
    [
        "a hooked bill",
        "with a hooked bill",
        "... with a hooked bill",
        "has a hooked bill",
        "Yellow-headed Blackbird: a hooked bill",
        "**Yellow-headed Blackbird**: a hooked bill",
        "Yellow-headed Blackbird: with a hooked bill",
        "Yellow-headed Blackbird - a hooked bill",
        '"Yellow-headed Blackbird" with a hooked bill',
        "The yellow headed blackbird has a hooked bill",
        "Yellow-headed blackbirds have a hooked bill",
        "a yellow-headed blackbird bird with a hooked bill",
        "a photo of a yellow-headed blackbird bird with a hooked bill",
        "A photo of an Yellow-headed  Blackbird bird with a hooked bill.",
    ],
)
def test_sentence_name_and_with_are_taken_off(said):
    assert bare(said, NAME, BIRD) == "a hooked bill"


@pytest.mark.parametrize(
    ("said", "name", "sentence"),
    [
        ("one stroke with a hook", "one", "a picture of the digit {name} with {attribute}"),
        ("a hook: one, and a dot", "one", "a picture of the digit {name} with {attribute}"),
        ("a photo of a raven bird with a hook", "crow", BIRD),
        ("a bill without a hook", "crow", BIRD),
        ("withered leaves", "rose", "a photo of a {name} flower with {attribute}"),
        ("with a loop", "crow", "{name} texture {attribute}"),  # a sentence that does not say it needs it
        ("with", "crow", BIRD),
        ("crow:", "crow", BIRD),
        ("", "crow", BIRD),
    ],
)
def test_what_is_no_frame_stays(said, name, sentence):
    assert bare(said, name, sentence) == said


def test_a_sentence_of_any_form_is_read_backwards():
    for sentence in (
        "a photo of {name}, a type of food, with {attribute}.",
        "{attribute}, as seen on {name}",
        "{name} texture {attribute}",
    ):
        for name in ("C++ (pie)", "A/B.1", "{attribute} x"):
            whole = sentence.replace("{attribute}", "\0").replace("{name}", name).replace("\0", "dark spots")
            assert bare(whole, name, sentence) == "dark spots"


def test_a_text_that_was_cut_lacks_the_end_of_the_sentence():
    assert bare("the look of crow with a hook", "crow", "the look of {name} with {attribute} in a photo") == "a hook"


def test_no_fact_of_the_embedded_worlds_changes_and_each_comes_out_of_its_sentence():
    digit, nameless = "a picture of the digit {name} with {attribute}", "a character with {attribute}"
    worlds = [(glyphs.FACTS, (digit, nameless)), (aviary.world(1000).facts, (aviary.SENTENCE,))]
    for facts, sentences in worlds:
        every = {fact for of_class in facts.values() for fact in of_class}
        for name in facts:
            for sentence in sentences:
                assert all(bare(fact, name, sentence) == fact for fact in every)
                assert all(bare(sentence.format(name=name, attribute=fact), name, sentence) == fact for fact in every)
