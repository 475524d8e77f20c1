"""Short texts from docstrings: what a first sentence is, and that each topic has texts and descriptions."""

import pytest

from gta.data import short_texts
from gta.worlds import docstrings


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Solve ``A x = b``.\n\nMore.", "Solve A x = b."),
        ("\n  Of two\n  lines. And a second sentence.", "Of two lines."),
        ("No end", "No end"),
        ("", ""),
    ],
)
def test_a_first_sentence(docstring, sentence):
    assert docstrings.first_sentence(docstring) == sentence


@pytest.mark.parametrize("library", ["scipy", "numpy"])
def test_each_topic_has_texts_and_six_descriptions(library, tmp_path):
    texts, told = docstrings.texts(library), docstrings.described(library)
    assert list(texts) == list(told) == sorted(told)
    assert all(len(of_topic) == 6 and of_topic[0] == name for name, of_topic in told.items())
    for of_topic in texts.values():
        assert 8 <= len(of_topic) <= docstrings.MOST and all(len(text.split()) > 3 for text in of_topic.values())
    found = short_texts.read(str(docstrings.write(tmp_path, library)))
    assert list(found.class_names) == sorted(told) and len(found.texts) == sum(map(len, texts.values()))
