"""Batches and streams against the distributions that they are said to have, closed forms, and draws written out by hand."""

from hashlib import sha256

import numpy as np
import pytest
from scipy.stats import beta, binom, chisquare, hypergeom, kstest

from gta.data import batches, chance, parts, tasks

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))  # 20 classes of 3 images, in no order
MANY = np.random.default_rng(1).permutation(np.repeat(np.arange(6), [100, 120, 140, 160, 180, 200]))


def hashed(text):
    return sha256(text.encode()).digest()


def test_an_order_is_a_permutation_that_its_name_and_its_seed_draw():
    assert sorted(chance.order("a", 0, 50)) == list(range(50))
    assert chance.order("a", 3, 4).tolist() == sorted(range(4), key=lambda i: hashed(f"a 3 {i}"))
    drawn = {tuple(chance.order(what, seed, 50)) for what in "ab" for seed in (0, 1)}
    assert len(drawn) == 4


def test_uniform_numbers_are_uniform_and_independent_of_each_other():
    u = chance.uniform("u", 0, 4000)
    assert u.min() > 0 and u.max() < 1 and kstest(u, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.04
    assert u[7] == (int(hashed("u 0 7").hex()[:13], 16) + 0.5) / 2**52  # 13 hexadecimal digits are 52 bits


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.1])
def test_a_share_of_a_dirichlet_draw_has_a_beta_distribution(gamma):
    shares = np.array([chance.dirichlet("d", seed, gamma, 5) for seed in range(1000)])
    assert np.allclose(shares.sum(1), 1) and shares.min() >= 0
    for share in shares.T[[0, 4]]:
        assert kstest(share, beta(gamma, 4 * gamma).cdf).pvalue > 0.005
    covariance = -1 / (25 * (5 * gamma + 1))  # of two shares: -a b / (s^2 (s + 1)) with a = b = gamma and s = 5 gamma
    assert np.cov(shares.T)[0, 1] == pytest.approx(covariance, abs=0.006)


def test_where_gamma_is_a_thousandth_one_slot_has_nearly_everything_and_any_may_be_it():
    shares = np.array([chance.dirichlet("d", seed, 0.001, 4) for seed in range(1000)])
    assert np.allclose(shares.sum(1), 1)
    half = beta(0.001, 0.003).sf(0.5)
    assert abs((shares[:, 2] > 0.5).sum() - 1000 * half) < 4 * binom(1000, half).std()
    assert (shares.max(1) > 0.999).mean() > 0.98


@pytest.mark.parametrize("kind", ["verylow", "low"])
def test_the_number_of_classes_is_uniform_in_its_range_and_so_are_the_classes(kind):
    """A batch of all images of its classes shows which they are."""
    low, high = batches.RANGES[kind]
    drawn = [np.unique(LABELS[batches.effective(kind, 60, 0, number, LABELS)]) for number in range(600)]
    counts = np.bincount([len(present) for present in drawn])
    assert counts[:low].sum() == 0 and len(counts) == high + 1
    assert chisquare(counts[low:]).pvalue > 0.01
    often = np.bincount(np.concatenate(drawn), minlength=20)
    assert chisquare(often).pvalue > 0.01
    together = sum({3, 11} <= set(present) for present in drawn)  # without replacement: K (K - 1) / (20 * 19) of the batches
    expected = np.mean([k * (k - 1) / 380 for k in range(low, high + 1)])
    assert abs(together - 600 * expected) < 4 * binom(600, expected).std()


def test_a_range_is_cut_to_the_classes_that_there_are():
    few = MANY % 3
    found = [len(np.unique(few[rows])) for rows in batches.draw("low", 900, 200, 0, few)]
    assert set(found) == {2, 3}
    assert abs(found.count(2) - 200 / 9) < 4 * binom(200, 1 / 9).std()  # 3 to 10 are all cut to 3
    with pytest.raises(ValueError, match="#high-64x2: high takes 25 to 50 classes, and there are 3"):
        batches.draw("high", 64, 2, 0, few)


def test_images_are_drawn_without_replacement_and_are_the_whole_pool_where_it_is_small():
    for number in range(30):
        rows = batches.effective("verylow", 64, 2, number, LABELS)
        present = np.unique(LABELS[rows])
        assert sorted(rows) == np.flatnonzero(np.isin(LABELS, present)).tolist()  # 3 to 12 images
        assert len(np.unique(batches.effective("medium", 64, 2, number, MANY))) == 64


def test_images_come_from_the_pool_alike_so_that_classes_are_not_balanced():
    """Two of 20 classes, 2 of their 6 images: both from the first class in 3 of 15 batches, as the hypergeometric distribution says."""
    two = [
        rows for number in range(2000) if len(rows := batches.effective("low", 6, 0, number, LABELS)) == 6 and len(set(LABELS[rows])) == 2
    ]
    ahead = [int((LABELS[rows[:2]] == min(LABELS[rows])).sum()) for rows in two]
    assert len(two) > 150
    assert chisquare(np.bincount(ahead, minlength=3), len(two) * hypergeom(6, 3, 2).pmf([0, 1, 2])).pvalue > 0.01
    images = np.bincount(np.concatenate([batches.effective("low", 5, 1, number, LABELS) for number in range(600)]), minlength=60)
    assert chisquare(images).pvalue > 0.01


def test_a_batch_by_hand():
    labels, what = np.array([2, 0, 1, 0, 2, 1]), "verylow 2 5"
    count = 1 + int((int(hashed(f"{what} count 9 0").hex()[:13], 16) + 0.5) / 2**52 * 4)
    classes = sorted(range(3), key=lambda i: hashed(f"{what} class 9 {i}"))[:count]
    images = sorted(range(6), key=lambda i: hashed(f"{what} image 9 {i}"))
    expected = [i for i in images if labels[i] in classes][:2]
    assert batches.effective("verylow", 2, 9, 5, labels).tolist() == expected


@pytest.mark.parametrize("gamma", [0, 0.001, 0.1, 10])
def test_a_stream_brings_every_image_once(gamma):
    assert sorted(batches.stream(gamma, 0, MANY)) == list(range(len(MANY)))
    assert batches.stream(gamma, 0, MANY).tolist() == batches.stream(gamma, 0, MANY).tolist() != batches.stream(gamma, 1, MANY).tolist()


def test_where_gamma_is_0_one_class_comes_after_the_other():
    labels = MANY[batches.stream(0, 3, MANY)]
    assert (np.diff(labels) != 0).sum() == 5
    turns = {tuple(dict.fromkeys(MANY[batches.stream(0, seed, MANY)].tolist())) for seed in range(20)}
    assert len(turns) == 20


def test_the_smaller_gamma_the_fewer_classes_are_in_a_batch():
    def classes(strength):
        return np.mean([len(np.unique(MANY[rows])) for seed in range(8) for rows in batches.draw("stream", strength, 7, seed, MANY)])

    found = [classes(strength) for strength in (10_000, 1000, 100, 10, 0)]
    assert found == sorted(found, reverse=True) and found[0] > 5.5 and found[-1] < 2.5


def test_the_slots_of_a_stream_have_the_shares_that_were_drawn():
    """A loop over classes and slots: where a class is in a slot, it has the images between the floors of its cumulative shares."""
    slots, expected = 6, []  # 900 images are 7 batches of 128; there are 6 classes
    pieces = [[] for _ in range(slots)]
    shuffled = chance.order("stream image", 4, len(MANY))
    for label in range(6):
        own, begun = [i for i in shuffled if MANY[i] == label], 0
        shares = chance.dirichlet(f"stream share {label}", 4, 0.3, slots)
        for slot in range(slots):
            end = len(own) if slot == slots - 1 else int(np.floor(shares[: slot + 1].sum() * len(own)))
            pieces[slot] += own[begun:end]
            begun = end
    for piece in pieces:
        expected.append(sorted(piece))
    stream = batches.stream(0.3, 4, MANY)
    cuts = np.cumsum([len(piece) for piece in pieces])[:-1]
    found = np.split(stream, cuts)
    assert [sorted(slot) for slot in found] == expected
    longest = max(found, key=len)
    assert (np.diff(MANY[longest]) != 0).mean() > 0.3  # within a slot in random order


def test_more_batches_are_the_same_ones_and_more():
    for kind, strength in (("low", 64), ("stream", 100)):
        two, five = (batches.draw(kind, strength, many, 0, MANY) for many in (2, 5))
        assert len(five) == 5 and all((a == b).all() for a, b in zip(two, five[:2], strict=True))
    assert {len(rows) for rows in batches.draw("stream", 100, 7, 0, MANY)} == {128}


@pytest.mark.parametrize(
    ("kind", "strength", "many", "said"),
    [
        ("stream", 100, 8, "900 images are 7 batches of 128"),
        ("stream", 100, 0, "takes at least one batch"),
        ("low", 64, 0, "takes at least one batch"),
        ("low", 0, 3, "of at least one image"),
    ],
)
def test_batches_that_the_dataset_cannot_give_are_refused(kind, strength, many, said):
    with pytest.raises(ValueError, match=rf"#{kind}-{strength}x{many}: .*{said}"):
        batches.draw(kind, strength, many, 0, MANY)


def test_a_part_of_batches_is_a_task_of_all_names_whose_batches_have_their_sizes():
    whole, part = tasks.load("digits"), tasks.load("digits#verylow-64x3-1")
    labels, truth = tasks.query_labels("digits"), tasks.query_labels(part.source)
    rows = batches.draw("verylow", 64, 3, 1, labels)
    assert part.batches == (64, 64, 64) and part.class_names == whole.class_names and whole.batches == ()
    assert part.image_ids == tuple(whole.image_ids[i] for i in np.concatenate(rows))
    assert (truth == labels[np.concatenate(rows)]).all()
    assert (part.images[70] == whole.images[rows[1][6]]).all()
    assert tasks.load("digits#stream-10x2-0").batches == (128, 128)


@pytest.mark.parametrize("name", ["digits#low-64-0", "digits#small-64x2-0", "digits#lower-64x2-0", "digits#stream-0.1x2-0"])
def test_a_part_of_batches_names_how_many_and_no_other_part_does(name):
    assert parts.split(name) == (name, "")
