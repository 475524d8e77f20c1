import random

import pytest
import torch
from safetensors.torch import load_file

from gta import encoders
from gta.workshop import lessons, pretrain
from gta.worlds import digits
from gta.worlds.glyphs import FACTS, HELD_OUT, NAMES, STYLES, render


def draw(style, seed=0, **options):
    return render(torch.arange(len(NAMES)), style, torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("style", STYLES)
def test_glyphs_are_seeded_small_and_not_blank(style):
    images = draw(style)
    assert (images.dtype, images.shape) == (torch.uint8, (34, 3, 8, 8))
    assert torch.equal(images, draw(style)) and not torch.equal(images, draw(style, seed=1))
    assert (images.amax((1, 2, 3)) > 150).all() and (images.amin((1, 2, 3)) < 60).all()


def test_a_hand_keeps_its_habits():
    """Two images of a character in one hand are nearer than in two hands."""
    characters = torch.full((300,), NAMES.index("two"))

    def mean_image(hand, seed):
        return render(characters, "hand", torch.Generator().manual_seed(seed), hand=hand).float().mean(0)

    same = (mean_image(0, 1) - mean_image(0, 2)).abs().mean()
    assert same * 2 < (mean_image(0, 1) - mean_image(1, 2)).abs().mean()


def test_held_out_fonts_are_never_trained_on():
    assert not set(HELD_OUT) & set(STYLES["train"].fonts)


def test_captions_are_true_and_positives_are_what_is_true():
    rng = random.Random(0)
    for _ in range(200):
        name = rng.choice(NAMES)
        text, said, facts = lessons.glyph_caption(name, rng)
        assert (said is None or said == name) and facts <= set(FACTS[name])
        assert all(fact in text for fact in facts)
    images, captions, positives = lessons.glyph_batch(64, "train", random.Random(1), torch.Generator().manual_seed(1))
    assert encoders.load("embedded", device="cpu").tokenizer(captions).shape == (64, 32)
    assert images.shape == (64, 3, 8, 8) and positives.diagonal().all() and not positives.all()


@pytest.mark.slow
def test_pretraining_learns_and_writes_what_the_loader_reads(tmp_path):
    pretrain.pretrain(lessons.LESSONS["glyphs"], seed=0, steps=150, folder=tmp_path)
    curve = [line.split(",") for line in (tmp_path / "seed0.curve.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert [step for step, *_ in curve] == ["50", "100", "150"]
    assert float(curve[-1][1]) < float(curve[0][1]) - 0.5
    encoder = encoders.load(str(tmp_path), seed=0, device="cpu")
    committed = load_file(digits.ENCODERS / "seed0.safetensors")
    assert {k: v.shape for k, v in load_file(tmp_path / "seed0.safetensors").items()} == {k: v.shape for k, v in committed.items()}
    assert (tmp_path / "tokenizer.json").read_bytes() == (digits.ENCODERS / "tokenizer.json").read_bytes()
    assert encoder.encode_texts(["a picture of the digit one"]).shape == (1, 128)
