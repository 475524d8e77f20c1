"""Words that are near by hand, and how often they take each other's places."""

import random
import types

import pytest
import torch

from gta.distil.swaps import WORD, Swaps

ANGLES = {"red": 0, "scarlet": 10, "pink": 25, "cat": 90, "dog": 100, "##s": 95, "a": 60, ".": 180, "2nd": 5}
IDS = {word: number for number, word in enumerate(ANGLES)}


class Tokenizer:
    """`dogs` is two pieces, dog and ##s."""

    def get_vocab(self):
        return IDS

    def __call__(self, word, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [IDS["dog"], IDS["##s"]] if word == "dogs" else [IDS[word.lower()]]}


@pytest.fixture
def swaps():
    angles = torch.tensor([float(angle) for angle in ANGLES.values()]).deg2rad()
    table = torch.nn.Embedding.from_pretrained(3 * torch.stack([angles.cos(), angles.sin()], 1))  # only directions count
    model = types.SimpleNamespace(get_input_embeddings=lambda: table)
    return Swaps(types.SimpleNamespace(tokenizer=Tokenizer(), model=model), candidates=2)


def test_candidates_are_the_nearest_whole_words_and_never_the_word_itself(swaps):
    assert swaps.words == ["cat", "dog", "pink", "red", "scarlet"]
    assert swaps.near("red") == swaps.near("Red") == ["scarlet", "pink"]
    assert swaps.near("pink") == ["scarlet", "red"] and swaps.near("cat") == ["dog", "pink"]
    assert swaps.near("dogs") == ["dog", "cat"]  # at 97.5 degrees, between dog (100) and ##s (95)


def test_a_share_of_0_changes_nothing_and_of_1_every_word(swaps):
    text = "Red cat, 2 dogs. (pink)"
    assert swaps.augmented(text, random.Random(0), 0.0) == text
    found = swaps.augmented(text, random.Random(0), 1.0)
    assert not set(WORD.findall(found)) & {"Red", "dogs"} and WORD.sub("_", found) == WORD.sub("_", text) == "_ _, 2 _. (_)"
    for was, became in zip(WORD.findall(text), WORD.findall(found), strict=True):
        assert became in swaps.near(was)


def test_words_are_replaced_as_often_as_in_the_paper_by_each_candidate_alike(swaps):
    """Of 20,000 words 40 % within five standard deviations (of 0.35 %), half of them by each of two candidates."""
    words = swaps.augmented(" ".join(["red"] * 20_000), random.Random(1)).split()
    share = {word: words.count(word) / len(words) for word in set(words)}
    assert abs(share["red"] - 0.6) < 0.0175 and abs(share["scarlet"] - 0.2) < 0.0145 and abs(share["pink"] - 0.2) < 0.0145


def test_a_corpus_keeps_the_texts_and_is_the_same_for_a_seed(swaps):
    texts = ["red cat pink dog", "dog cat scarlet red"]
    found = swaps.corpus(texts, 3)
    assert found[:2] == texts and len(found) == 2 + 2 * 20 and found == swaps.corpus(texts, 3) != swaps.corpus(texts, 4)
    assert len(set(found)) > 15 and len(swaps.corpus(texts, 3, times=1)) == 4
