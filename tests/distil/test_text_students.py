"""Text students of a small BERT, and of a CLIP text tower: losses over real tokens alone, and what training changes."""

from itertools import pairwise

import pytest
import torch
from test_taps import bert
from torch.nn import functional as F

from gta import encoders
from gta.distil.taps import blocks
from gta.distil.text_students import TextTinyBERT, read, shallow, tower_of, train
from gta.distil.tinybert import INTERMEDIATE, PREDICTION
from gta.encoders import sentences
from gta.encoders.sentences import SentenceEncoder
from gta.worlds import glyphs

TEXTS = ["abc", "hgfedcba", "ba", "cdefg"]


class Tokens(dict):
    def to(self, _):
        return self


def letters(texts, **_):
    """Each letter is a token, its place in the alphabet; 0 is padding."""
    longest = max(map(len, texts))
    ids = torch.tensor([[ord(letter) - 96 for letter in text] + [0] * (longest - len(text)) for text in texts])
    return Tokens(input_ids=ids, attention_mask=(ids > 0).long())


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return SentenceEncoder(bert(num_hidden_layers=4, initializer_range=0.5).double().eval(), letters, "toy", "", logit_scale=3.0)


@pytest.fixture
def rows():
    return F.normalize(torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=1)


def test_a_student_that_is_its_teacher_has_loss_zero(teacher, rows):
    terms = TextTinyBERT(teacher, shallow(teacher, 4), rows)(TEXTS)
    assert set(terms) == {"embedding", "attention", "hidden", "prediction"}
    assert all(abs(term.item()) < 1e-12 for term in terms.values())


def test_padding_counts_in_no_term(teacher, rows):
    """Of a batch each term is the mean over what its texts have alone: tokens, pairs of them, and texts."""
    objective = TextTinyBERT(teacher, shallow(teacher, 2), rows)
    whole, alone = objective(TEXTS), [objective([text]) for text in TEXTS]
    lengths = [len(text) for text in TEXTS]
    weights = {"embedding": lengths, "hidden": lengths, "attention": [n * n for n in lengths], "prediction": [1] * len(TEXTS)}
    for name, of in weights.items():
        expected = sum(w * terms[name] for w, terms in zip(of, alone, strict=True)) / sum(of)
        assert whole[name].item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_prediction_is_between_the_rows_at_the_teachers_scale(teacher, rows):
    student = shallow(teacher, 2)
    found = TextTinyBERT(teacher, student, rows, PREDICTION, t=2.0)(TEXTS)
    z = {who: (3.0 * encoder.encode_texts(TEXTS) @ rows.T / 2.0).log_softmax(1) for who, encoder in (("T", teacher), ("S", student))}
    expected = (z["T"].exp() * (z["T"] - z["S"])).sum(1).mean()
    assert list(found) == ["prediction"] and found["prediction"].item() == pytest.approx(expected.item(), rel=1e-9)


def test_training_lowers_the_loss_by_a_seed_and_leaves_the_teacher_alone(teacher, rows):
    before, kept = teacher.encode_texts(TEXTS), []
    for seed in (1, 1, 2):
        student = shallow(teacher, 2)
        objective = TextTinyBERT(teacher, student, rows, INTERMEDIATE)
        torch.manual_seed(seed)
        losses = train(objective, TEXTS, steps=25, rate=2e-2, seed=seed, batch=2)
        assert len(losses) == 25 and sum(losses[-5:]) < 0.5 * sum(losses[:5])
        kept.append(student.encode_texts(TEXTS))
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])
    assert torch.equal(teacher.encode_texts(TEXTS), before)
    with pytest.raises(ValueError, match="no text to learn from"):
        train(objective, [], steps=1, rate=1e-2, seed=0)


def test_texts_are_read_equally_often_and_the_rate_falls_in_a_line(teacher, rows):
    seen, rates = [], []

    class Objective(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(torch.zeros(()))

        def forward(self, texts):
            seen.append(tuple(texts))
            rates.append(self.at.item())
            return {"loss": -self.at * 1e3}  # AdamW moves by the rate against the sign of a constant gradient

    train(Objective(), TEXTS, steps=8, rate=0.1, seed=0, batch=2)
    assert all(len(part) == 2 for part in seen) and sorted(sum(seen, ())) == sorted(TEXTS * 4)
    steps = [after - before for before, after in pairwise(rates)]
    assert steps == pytest.approx([0.1 * (1 - k / 8) for k in range(7)], rel=0.02)


def test_the_text_tower_of_a_clip_encoder_hides_later_tokens_and_padding():
    encoder = encoders.load("embedded")
    student = shallow(encoder, 1)
    assert len(blocks(tower_of(student))) == 1 and len(blocks(tower_of(encoder))) == 2
    texts = ["a character with " + glyphs.FACTS[glyphs.NAMES[0]][0], "a character"]
    rows = encoder.encode_texts(["a", "with"])
    terms = TextTinyBERT(encoder, student, rows)(texts)
    ours, theirs = read(student, texts), read(encoder, texts)
    torch.testing.assert_close(ours.features, student.encode_texts(texts))
    lengths = ours.tokens.sum(1).tolist()
    assert lengths[0] == ours.tokens.shape[1] > lengths[1]
    squares = (ours.taps.scores[1] - theirs.taps.scores[2]).square().mean(1)
    seen = [squares[b, i, j] for b in range(2) for i in range(lengths[b]) for j in range(i + 1)]
    assert terms["attention"].item() == pytest.approx((sum(seen) / len(seen)).item(), rel=1e-9)
    assert all(abs(term.item()) < 1e-9 for term in TextTinyBERT(encoder, shallow(encoder, 2), rows)(texts).values())


@pytest.mark.slow
def test_minilm_itself():
    """The real tower, where its package is installed: recording changes nothing, and six layers of six are the teacher."""
    try:
        encoder = sentences.load()
    except ValueError as missing:
        pytest.skip(str(missing))
    texts = ["Compute the integral of a function.", "a bird with a yellow bill"]
    with torch.no_grad():
        found = read(encoder, texts)
        assert torch.equal(found.features, encoder.text_features(texts)) and len(found.taps.hidden) == 7
        terms = TextTinyBERT(encoder, shallow(encoder, 6), found.features)(texts)
        assert all(abs(term.item()) < 1e-5 for term in terms.values())
        dropped = TextTinyBERT(encoder, shallow(encoder, 3), found.features)(texts)
    assert dropped["hidden"] > 0.01 and dropped["attention"] > 0.01 and dropped["embedding"] == 0
