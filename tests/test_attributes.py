import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta import encoders
from gta.attributes import Bank

awkward = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip) | st.sampled_from(
    ["NA", "a/b", "..", '"', "007", "Écureuil", "{attribute}"]
)


@given(st.lists(awkward, min_size=1, max_size=4), st.lists(awkward, max_size=3))
def test_any_names_and_phrases_round_trip(tmp_path_factory, names, phrases):
    """Names of equal spelling too: ImageNet has two missiles."""
    bank = Bank.from_template(names).add(0, phrases, source="pair", against="x", iteration=2, origin="m").drop(0, [("cut off", "a")])
    bank = replace(bank, asked=((2, 0, len(names) - 1, 7),))
    file = tmp_path_factory.mktemp("bank") / "bank.json"
    bank.save(file)
    assert Bank.load(file) == bank
    assert all(names[0] in text for text in bank.texts[0])


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [([], "a {}", "at least one"), (["a", " "], "a {}", "none may be empty"), (["a"], "a photo", "needs")],
)
def test_what_cannot_be_a_bank_says_why(names, template, message):
    with pytest.raises(ValueError, match=message):
        Bank.from_template(names, template)


@pytest.mark.parametrize("content", ["", "[]", '{"class_names": []}'])
def test_a_file_that_is_no_bank_is_named(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"other\.json is not an attribute bank"):
        Bank.load(file)


def test_the_file_is_json_with_a_line_for_each_text(tmp_path):
    bank = Bank.from_template(["a/b", "Écureuil"]).add(0, ["a tail"], source="static").add(1, ["a tuft"], source="static")
    bank.save(tmp_path / "bank.json")
    before = (tmp_path / "bank.json").read_text(encoding="utf-8").splitlines()
    bank.add(1, ["a nut"], source="static").save(tmp_path / "bank.json")
    after = (tmp_path / "bank.json").read_text(encoding="utf-8").splitlines()
    assert [of_class["name"] for of_class in json.loads("\n".join(after))["classes"]] == ["a/b", "Écureuil"]
    assert len(set(after) - set(before)) == 2 and any("a nut" in line for line in after)  # its line, and a comma before


def test_texts_that_say_the_same_stand_once_and_are_counted():
    bank = Bank.from_template(["owl"]).add(0, ["A  Long tail", "a long tail.", "a long-tail", "a short tail"], source="static")
    assert len(bank.attributes[0]) == 3 and bank.counts == {"duplicate": 2}


def test_memory_decides_what_an_iteration_sees():
    bank = Bank.from_template(["owl"])
    for t in range(3):
        bank = bank.add(0, [f"mark {t}"], source="pair", iteration=t)
    seen = {memory: [len(replace(bank, memory=memory).at(t).attributes[0]) for t in range(4)] for memory in ("cumulative", "one_iteration")}
    assert seen == {"cumulative": [2, 3, 4, 4], "one_iteration": [2, 2, 2, 1]}


def test_one_iteration_may_say_again_what_an_earlier_one_said():
    bank = replace(Bank.from_template(["owl"]), memory="one_iteration")
    bank = bank.add(0, ["a tuft"], source="pair", iteration=0).add(0, ["a tuft"], source="pair", iteration=1)
    assert [len(bank.at(t).attributes[0]) for t in range(3)] == [2, 2, 1]


def test_texts_are_cut_to_what_clip_reads_and_the_cut_is_counted():
    """The tokenizer tells by itself: what is cut off changes no token."""
    clip = encoders.load("ViT-B-32", pretrained="random", device="cpu")
    long = "a photo of an owl with " + " ".join(f"feather{i}" for i in range(40))
    bank = Bank.from_template(["owl"]).add_texts(0, [long], source="static").within(clip.shorten)
    short = bank.texts[0][1]
    assert bank.counts == {"cut to the context": 1} and bank.dropped[0].text == long
    assert long.startswith(short) and len(short) > 60
    assert clip.tokenizer([short])[0, -1] == 0 and clip.tokenizer([long])[0, -1] != 0
    assert bank.within(clip.shorten) == bank


def test_the_embedded_encoder_cuts_too(encoder):
    phrase = " ".join(["a picture of the digit three with"] + ["only curved lines"] * 40)
    short = encoder.shorten(phrase)
    assert phrase.startswith(short) and len(short) < len(phrase)
    encoder.encode_texts([short])
    with pytest.raises(ValueError, match="tokens"):
        encoder.encode_texts([" ".join(phrase.split()[: len(short.split()) + 1])])
