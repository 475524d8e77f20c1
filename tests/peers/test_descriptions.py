"""LabelDesc: against softmax regression in numpy float64, worked by hand, its limits and controls; and the stage before the loop."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.loop import run
from gta.peers import descriptions
from gta.peers.texts import clip_logits
from gta.transduct import text_prior
from gta.worlds.settings import settings_for
from reference import unit
from toy_texts import Words

BANK = Bank.from_template(["wren", "kite", "owl"], "a {}", "a {name} with {attribute}")
BANK = BANK.add(0, ["a tail", "a bill"], source="static").add(1, ["a fork"], source="static").add(2, ["big eyes"], source="static")


def drawn(count, classes, d, seed=0):
    """Unit texts, their classes (each at least once, unequally often) and unit rows to begin with, float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.zeros(count - classes, dtype=torch.long)])
    texts = unit(torch.randn(count, d, generator=generator, dtype=torch.float64))
    return texts, labels, unit(torch.randn(classes, d, generator=generator, dtype=torch.float64))


def softmax_regression(texts, labels, rows, scale, rate, steps):
    """Adam (betas 0.9 and 0.999, eps 1e-8) on the mean over classes of the mean cross-entropy of their texts; its gradient by hand."""
    rows, first, second = rows.copy(), np.zeros_like(rows), np.zeros_like(rows)
    for step in range(1, steps + 1):
        gradient = np.zeros_like(rows)
        for text, label in zip(texts, labels, strict=True):
            logits = np.array([scale * sum(a * b for a, b in zip(text, row, strict=True)) for row in rows])
            p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            for j in range(len(rows)):
                gradient[j] += scale * (p[j] - (j == label)) * text / ((labels == label).sum() * len(rows))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rows -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return rows


def test_a_head_is_softmax_regression():
    texts, labels, start = drawn(9, 4, 6)
    trained = descriptions.train_head(texts, labels, start, 7.0, rate=0.02, passes=15)
    expected = softmax_regression(texts.numpy(), labels.numpy(), start.numpy(), 7.0, 0.02, 15)
    np.testing.assert_allclose(trained.numpy(), expected, atol=1e-9)
    assert np.abs(expected - start.numpy()).max() > 0.1


def test_one_step_worked_by_hand():
    """Texts (1, 0) of the first class and (0, 1) of the second, rows of zeros: both classes have p = 1/2. The gradient of the first row is
    1/2 (1/2 - 1) (1, 0) + 1/2 (1/2) (0, 1) = (-1/4, 1/4), and Adam's first step is the rate against its sign. So an image (0.6, 0.8) has
    logits 10 (0.06 - 0.08) = -0.2 and 0.2."""
    texts, labels = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    rows = descriptions.train_head(texts, labels, torch.zeros(2, 2, dtype=torch.float64), 1.0, rate=0.1, passes=1)
    torch.testing.assert_close(rows, torch.tensor([[0.1, -0.1], [-0.1, 0.1]], dtype=torch.float64), atol=1e-7, rtol=0)
    logits = clip_logits(torch.tensor([[0.6, 0.8]], dtype=torch.float64), rows, 10.0)
    torch.testing.assert_close(logits, torch.tensor([[-0.2, 0.2]], dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_class_counts_the_same_however_many_texts_it_has():
    texts, labels, start = drawn(6, 3, 5)
    twice = torch.cat([texts, texts[labels == 0]]), torch.cat([labels, labels[labels == 0]])
    once, more = (descriptions.train_head(*of, start, 5.0, rate=0.05, passes=4) for of in ((texts, labels), twice))
    torch.testing.assert_close(once, more, atol=1e-10, rtol=0)
    assert descriptions.shares(torch.tensor([0, 0, 0, 1])).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_steps_see_some_texts_at_a_time_and_a_seed_repeats_them():
    texts, labels, start = drawn(9, 4, 6)
    a, b, c = (descriptions.train_head(texts, labels, start, 7.0, rate=1e-3, passes=3, seed=seed, batch=4) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    noisy = [descriptions.train_head(texts, labels, start, 7.0, rate=1e-3, passes=3, variance=0.016, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])


# The gap


def test_the_gap_is_the_mean_image_minus_the_mean_text_of_classes():
    """Class 0 has texts (1, 0) and (0, 1), class 1 has (-1, 0): the means are (1/2, 1/2) and (-1, 0), their mean (-1/4, 1/4)."""
    texts, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1])
    apart = descriptions.gap(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), texts, labels)
    assert apart.tolist() == pytest.approx([0.75, 0.25])


@pytest.fixture
def words():
    told = descriptions.described(BANK, "both")
    return Words.of(*(text for of_class in told for text in of_class), "a wren kite owl")


def test_without_training_a_head_is_clip(words):
    told, start = descriptions.described(BANK), words.encode_texts(["a wren", "a kite", "a owl"])
    x = unit(torch.randn(7, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    logits = descriptions.label_desc(words, x, told, start, correction="none", passes=0)
    torch.testing.assert_close(logits, 10.0 * x @ start.T, atol=1e-12, rtol=0)


def test_classes_in_another_order_permute_the_answer(words):
    told, start = descriptions.described(BANK), words.encode_texts(["a wren", "a kite", "a owl"])
    x, order = start + 0.1, [2, 0, 1]
    for correction in ("none", "means"):
        logits = descriptions.label_desc(words, x, told, start, correction=correction, passes=5)
        permuted = descriptions.label_desc(words, x, [told[j] for j in order], start[order], correction=correction, passes=5)
        torch.testing.assert_close(permuted, logits[:, order], atol=1e-9, rtol=0)


def test_subtracting_means_undoes_a_shift_that_hides_the_classes(words):
    """Each image is its class's text, moved towards the text of the first class and so looking like it."""
    told = [["a wren"], ["a kite"], ["a owl"]]
    start = words.encode_texts([of_class[0] for of_class in told])
    x = F.normalize(start + 8 * start[0], dim=1)
    found = {how: descriptions.label_desc(words, x, told, start, correction=how).argmax(1).tolist() for how in ("none", "means")}
    assert found == {"none": [0, 0, 0], "means": [0, 1, 2]}
    labels = torch.arange(3)
    apart = torch.linalg.norm(descriptions.gap(x, start, labels))
    left = descriptions.gap(descriptions.centred(x, x.mean(0)), descriptions.centred(start, start.mean(0)), labels)
    assert torch.linalg.norm(left) < apart / 3


# Descriptions and controls


def test_descriptions_of_each_kind():
    assert descriptions.described(BANK)[0] == ["a wren with a tail", "a wren with a bill"]
    assert descriptions.described(BANK, "terms")[0] == ["wren", "a tail", "a bill"]
    assert descriptions.described(BANK, "both")[1] == ["a kite with a fork", "kite", "a fork"]
    assert descriptions.described(BANK, "one sentence")[0] == ["a wren with a tail"]
    assert descriptions.described(BANK, "templates", ["the {}", "{}!"])[2] == ["the owl", "owl!"]


def test_shuffled_attributes_are_another_classes_under_the_own_name():
    turned, to = descriptions.shuffled(BANK, 3), descriptions.deranged(3, 3)
    for j, name in enumerate(BANK.class_names):
        assert turned.phrases(j) == BANK.phrases(to[j]) and all(name in text for text in turned.texts[j])


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_derangement_leaves_no_class_in_its_place(count):
    to = descriptions.deranged(count, 7)
    assert sorted(to) == list(range(count)) and all(j != of for j, of in enumerate(to))


def test_random_label_words_are_unit_rows_of_a_seed():
    like = torch.zeros(5, 8, dtype=torch.float64)
    a, b, c = (descriptions.random_rows(like, seed) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.allclose(a.norm(dim=1), torch.ones(5).double())


# The text tower


def test_the_upper_half_of_a_text_tower_trains_and_nothing_else(words):
    told = descriptions.described(BANK, "both")
    names = ["a wren", "a kite", "a owl"]
    tuned = descriptions.train_tower(words, told, names, rate=1e-2, passes=20)
    before, after = dict(words.model.named_parameters()), dict(tuned.model.named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"embedding.weight", "layers.2.weight", "layers.3.weight"}
    assert tuned.weights_sha256 != words.weights_sha256

    def loss(encoder):
        texts, labels = descriptions.flat(told)
        logits = 10.0 * encoder.encode_texts(texts) @ encoder.encode_texts(names).T
        return float((descriptions.shares(labels) * F.cross_entropy(logits, labels, reduction="none")).mean())

    assert loss(tuned) < 0.5 * loss(words)


def test_of_clip_images_the_scale_and_the_lower_half_stay(encoder):
    bank = Bank.from_template(["one", "two"], "the digit {}", "the digit {name} with {attribute}").add(
        0, ["a large closed loop"], source="s"
    )
    tuned = descriptions.text_first(encoder, bank)
    before, after = encoder.model.state_dict(), tuned.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any(name.startswith(("visual.", "logit_scale")) for name in changed)
    blocks = {int(name.split("resblocks.")[1].split(".")[0]) for name in before if name.startswith("transformer.resblocks.")}
    low = {name for name in changed if any(f"resblocks.{block}." in name for block in blocks if block < len(blocks) / 2)}
    assert not low and tuned.weights_sha256 != encoder.weights_sha256


# The stage before the loop


def test_without_the_stage_a_run_is_what_it_was_and_with_it_the_first_prior_is_the_trained_towers(encoder, glyphs):
    images, _ = glyphs
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    bank = Bank.from_template(names, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    for j in range(10):
        bank = bank.add(j, ["a large closed loop"] if j in (0, 6, 8, 9) else ["the same left and right half"], source="static")
    settings = settings_for("embedded", iterations=2, generate=False, lr=1e-4, lr_projection=1e-4, confident=3)
    augment = {"augment": lambda image: image, "progress": False}
    plain = run(encoder, images, names, settings, attributes=bank, **augment)
    same = run(encoder, images, names, settings, attributes=bank, text_first=lambda given, _: given, **augment)
    assert torch.equal(plain.assignments, same.assignments) and torch.equal(plain.clip, same.clip)
    first = run(encoder, images, names, settings, attributes=bank, text_first=descriptions.text_first, **augment)
    tuned = descriptions.text_first(encoder, bank)
    x = encoder.encode_images(load_images(images, encoder).pixels)
    prior = text_prior(x, [tuned.encode_texts(of_class) for of_class in bank.texts], tuned.logit_scale)
    torch.testing.assert_close(first.clip, prior, atol=1e-9, rtol=0)
    assert not torch.allclose(first.clip, plain.clip, atol=1e-4)
