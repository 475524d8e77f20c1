import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.attributes import Bank

awkward = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ["NA", "a/b", "..", '"', "007", "Écureuil", "{attribute}"]
)


@given(st.lists(awkward, min_size=1, max_size=4, unique=True), st.lists(awkward, max_size=3))
def test_any_names_and_phrases_round_trip(tmp_path_factory, names, phrases):
    bank = Bank.from_template(names).add(0, phrases, source="pair", against="x", iteration=2)
    file = tmp_path_factory.mktemp("bank") / "bank.json"
    bank.save(file)
    assert Bank.load(file) == bank
    assert all(names[0] in text for text in bank.texts[0])


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [([], "a {}", "at least one"), (["a", "b", "a"], "a {}", "twice: 'a'"), (["a"], "a photo", "needs")],
)
def test_what_cannot_be_a_bank_says_why(names, template, message):
    with pytest.raises(ValueError, match=message):
        Bank.from_template(names, template)


@pytest.mark.parametrize("content", ["", "[]", '{"class_names": []}'])
def test_a_file_that_is_no_bank_is_named(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json is not an attribute bank"):
        Bank.load(file)
