"""Every form in which models write lists."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.llm.answers import UnusableAnswer, is_cut_off, names, normalised, parse, sort_out

LIST = ["a long tail", "a hooked bill", "two wing bars"]


def marked(*marks):
    return "\n".join(f"{mark} {phrase}" for mark, phrase in zip(marks, LIST, strict=True))


FORMS = {
    "JSON": json.dumps({"attributes": LIST}),
    "bare JSON list": json.dumps(LIST),
    "indented JSON": json.dumps({"attributes": LIST}, indent=2),
    "fenced JSON": f"Here you are:\n```json\n{json.dumps({'attributes': LIST})}\n```\nTell me if you need more.",
    "fence without a language": f"```\n{json.dumps(LIST)}\n```",
    "fence that never closes": f"```json\n{json.dumps(LIST)}",
    "dashes": marked("-", "-", "-"),
    "bullets": marked("•", "•", "•"),
    "stars": marked("*", "*", "*"),
    "every bullet": marked("–", "▪", "◦"),
    "numbers": marked("1.", "2.", "3."),
    "numbers in brackets": marked("1)", "(2)", "3:"),
    "letters": marked("a)", "b)", "c)"),
    "indented": "\n".join(f"   - {phrase}" for phrase in LIST),
    "with a beginning and an end": f"Sure! The crow has. Several of them:\n\n{marked('-', '-', '-')}\n\nI hope this helps.",
    "bold": "\n".join(f"1. **{phrase}**" for phrase in LIST),
    "plain lines": "\n".join(LIST),
    "plain lines with a title": "Attributes:\n\n" + "\n\n".join(LIST),
    "Windows lines": "\r\n".join(f"- {phrase}" for phrase in LIST),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_list_is_understood(form):
    assert parse(FORMS[form]) == LIST


@given(st.lists(st.text(min_size=1).filter(lambda text: any(c.isalnum() for c in text)), min_size=1))
def test_json_of_any_strings_comes_through_as_words(phrases):
    clean = ["".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in phrase).split() for phrase in phrases]
    assert parse(json.dumps({"attributes": phrases})) == [" ".join(words) for words in clean]


@pytest.mark.parametrize(
    "text", ["", "  ", "A crow. It is black. It has a bill.", "I cannot help with that.", "<html>\n<body>\n", "{", "[1, 2]"]
)
def test_what_is_no_list_says_so(text):
    with pytest.raises(UnusableAnswer):
        parse(text)


def test_what_cannot_be_used_is_dropped_with_its_reason():
    phrases = [
        "a long tail",
        "  ",
        "...",
        "A long  tail.",
        "x" * 301,
        "a bill with the",
        "plumage (black",
        "shorter than a raven's",
        "a hook.",
    ]
    kept, dropped = sort_out(phrases, other="Raven")
    assert kept == ["a long tail", "a hook"]
    reasons = ["empty", "empty", "duplicate", "too long", "cut off", "cut off", "names the other class"]
    assert [reason for reason, _ in dropped] == reasons


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("Common Raven", "unlike the common  raven", True),
        ("Common_Raven", "like common ravens", True),
        ("raven", "a craven look", False),
        ("one", "a stone look", False),
        ("A319", "longer than an A319.", True),
        ("A319", "longer than an A319neo", False),
        ("F/A-18", "as on the F/A-18", True),
        ("C++", "not as in C++ at all", True),
        (".", "a full stop", False),
    ],
)
def test_a_class_is_named_by_its_whole_name(name, text, found):
    assert names(name, text) == found


@pytest.mark.parametrize(
    "whole", ["a vertical line in the middle", "a bill that it pokes in", "a tail (long)", "large, round eyes", "an open top"]
)
def test_whole_phrases_are_not_cut_off(whole):
    assert not is_cut_off(whole)


def test_normalised_is_blind_to_case_and_punctuation_only():
    assert normalised("A  Long-tail!") == normalised("a long tail") != normalised("a long tails")
