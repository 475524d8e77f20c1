"""Slices against sums by hand, naive loops from the equations, and what must hold of chance."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta

from gta.diagnosis import slices
from gta.diagnosis.slices import SHARES, beyond, both_ways, candidates, directions, find, rate_interval, statistics


def naive_z(member, loss, strata):
    """Z of one slice, summed over strata with plain floats."""
    above = variance = 0.0
    for stratum in set(strata):
        of = [float(x) for x, s in zip(loss, strata, strict=True) if s == stratum]
        inside = [float(x) for x, m, s in zip(loss, member, strata, strict=True) if s == stratum and m]
        n, k, mean = len(of), len(inside), sum(of) / len(of)
        above += sum(inside) - k * mean
        variance += k * (n - k) / max(n - 1, 1) * sum((x - mean) ** 2 for x in of) / n
    return above / math.sqrt(variance) if variance > 1e-12 else 0.0


def test_z_by_hand():
    """Ten images of which four fail; three of the four in the slice are among them. Expected 4 x 0.4 = 1.6; the hypergeometric variance
    is 4 x 6 / 9 x 0.24 = 0.64; Z = (3 - 1.6) / 0.8 = 1.75."""
    loss = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0.0])[:, None]
    member = np.arange(10)[None] < 4
    assert statistics(member, loss, np.zeros(10, int)).item() == pytest.approx(1.75)


def test_z_of_strata_is_that_of_a_plain_loop(rng):
    loss, strata = rng.random((30, 4)).round(1), rng.integers(0, 3, 30)
    members = rng.random((7, 30)) < 0.4
    expected = [[naive_z(member, loss[:, b], strata.tolist()) for b in range(4)] for member in members]
    np.testing.assert_allclose(statistics(members, loss, strata), expected, atol=1e-10)


def test_z_has_mean_0_and_variance_1_over_all_permutations():
    loss, member = np.array([0, 0, 0.5, 1, 1.0]), np.array([[True, True, False, False, False]])
    every = np.array(list(itertools.permutations(loss))).T
    z = statistics(member, every, np.zeros(5, int))
    assert z.mean() == pytest.approx(0, abs=1e-12) and z.var() == pytest.approx(1)


def test_what_cannot_vary_has_no_z():
    assert statistics(np.ones((1, 4), bool), np.eye(4), np.zeros(4, int)).tolist() == [[0, 0, 0, 0]]
    assert statistics(np.array([[True, False]]), np.ones((2, 3)), np.zeros(2, int)).tolist() == [[0, 0, 0]]


def test_scores_by_hand():
    """Means are (2, 1) of images and (0, 1) of texts: (-1, 1) . (1, 0) = -1, and so on."""
    features, texts = np.array([[1.0, 2], [3, 0]]), np.array([[1.0, 1], [-1, 1]])
    np.testing.assert_allclose(directions(features, texts), [[-1, 1], [1, -1]])


def test_what_all_share_says_nothing(rng):
    features, texts, said = rng.standard_normal((20, 6)), rng.standard_normal((5, 6)), rng.standard_normal((20, 6))
    np.testing.assert_allclose(both_ways(features + 3, texts - 7, said + 2), both_ways(features, texts, said), atol=1e-9)


def test_what_a_label_says_is_taken_away_as_far_as_it_fits_all_images_best(rng):
    """The factor is that of least squares; where all labels are one, and where they are the images themselves, it is plain."""
    features, said = rng.standard_normal((20, 6)), rng.standard_normal((20, 6))
    image, label = features - features.mean(0), said - said.mean(0)
    best = minimize(lambda c: ((image - c * label) ** 2).sum(), 0.0, tol=1e-12).x.item()
    np.testing.assert_allclose(beyond(features, said), image - best * label, atol=1e-6)
    np.testing.assert_allclose(beyond(features, np.ones((20, 6))), image)
    np.testing.assert_allclose(beyond(features, 3 * features + 1), 0, atol=1e-12)


def test_a_feature_that_no_label_tells_is_found_in_the_second_way(rng):
    """Four labels; those of class 3 say what text 0 says, and show it. Images of class 2 show it too, which their label does not say, and
    fail: by likeness classes 2 and 3 are one slice, and only beyond the labels class 2 is one of its own."""
    said = np.eye(6)[[1, 2, 3, 0]][np.repeat(np.arange(4), 30)]
    features = said + 0.2 * rng.standard_normal((120, 6))
    features[60:90, 0] += 1
    texts, loss = np.eye(6)[[0, 4, 5]], (np.repeat(np.arange(4), 30) == 2).astype(float)
    found = find(both_ways(features, texts, said), ["x", "y", "z"] * 2, loss, 3, 0)
    assert found[0].text == "x" and found[0].column == 3 and found[0].rate > 0.8
    assert find(directions(features, texts), ["x", "y", "z"], loss, 1, 0)[0].rate < 0.65
    assert sorted(one.text for one in found) == ["x", "y", "z"], "a text is told once, not once in each way"
    assert all(one.text not in one.others for one in found)


def test_a_slice_is_the_images_with_the_largest_scores():
    scores = np.array([[0.1, 5], [0.9, 5], [0.5, 5], [0.7, 6]] * 5)
    members = candidates(scores)
    assert members.shape == (2 * len(SHARES), 20) and members.sum(1).tolist() == [1, 2, 4, 6] * 2
    assert np.flatnonzero(members[2]).tolist() == [1, 5, 9, 13], "the four first of five with 0.9"
    assert np.flatnonzero(members[4]).tolist() == [3]


def world(rng, failing, n=400):
    """Images that show two of six texts each; those that show `failing` fail nine times in ten, others once in ten."""
    shown = np.stack([rng.permutation(6)[:2] for _ in range(n)])
    scores = np.zeros((n, 6)) + 0.01 * rng.random((n, 6))
    np.put_along_axis(scores, shown, 1.0, 1)
    scores += 0.01 * rng.random((n, 6))
    fails = np.isin(shown, failing).any(1)
    return scores, (rng.random(n) < np.where(fails, 0.9, 0.1)).astype(float), fails


def test_two_causes_are_found_one_after_the_other_and_then_nothing(rng):
    scores, loss, _ = world(rng, [2, 4])
    first, second, third = find(scores, list("abcdef"), loss, 3, 0)
    assert {first.text, second.text} == {"c", "e"} and first.p == second.p == 1 / 1000
    assert third.p > 0.05
    assert first.low <= first.rate <= first.high and first.rest < first.low
    assert first.rate == pytest.approx(loss[first.members].mean())
    j = "abcdef".index(first.text)
    assert (np.diff(scores[first.members, j]) <= 0).all(), "the most typical first"


def test_a_second_name_of_the_same_images_is_told_with_the_first(rng):
    scores, loss, _ = world(rng, [2])
    scores = np.hstack([scores, scores[:, [2]] + 1e-6 * rng.random((400, 1))])
    first, second = find(scores, list("abcdefg"), loss, 2, 0)
    assert {first.text, *first.others} >= {"c", "g"} and second.text not in ("c", "g")


def test_chance_is_called_chance_in_nineteen_of_twenty_cases(rng, monkeypatch):
    """Under the null p is at most 0.05 in one of twenty cases: of 100, more than 12 would be seen once in a thousand."""
    monkeypatch.setattr(slices, "PERMUTATIONS", 99)
    features, texts = rng.standard_normal((60, 8)), rng.standard_normal((10, 8))
    scores = directions(features, texts)
    p = [find(scores, list("abcdefghij"), (rng.random(60) < 0.3).astype(float), 1, seed)[0].p for seed in range(100)]
    assert sum(one <= 0.05 for one in p) <= 12 and min(p) >= 1 / 100
    assert 0.3 < np.mean(p) < 0.7


def test_p_is_the_share_of_permutations_with_a_larger_maximum(monkeypatch):
    """Four images, one fails, slices of one image: the maximum Z is that of the failing image if it is in a slice. Of two texts the
    slices of one image are images 0 and 1, so a shuffled failure falls into one of them half of the time."""
    monkeypatch.setattr(slices, "SHARES", (0.25,))
    scores = np.array([[1, 0], [0, 1], [0.0, 0], [0, 0]])
    (found,) = find(scores, ["a", "b"], np.array([1.0, 0, 0, 0]), 1, 0)
    assert found.text == "a" and found.members.tolist() == [0] and found.p == pytest.approx(0.5, abs=0.06)


def test_the_interval_is_that_of_clopper_and_pearson_for_all_slices_together():
    """Its ends are quantiles of beta distributions: with k of n, of B(k, n - k + 1) and B(k + 1, n - k)."""
    loss, tail = np.array([1.0] * 7 + [0.0] * 13), 0.05 / 40 / 2
    assert rate_interval(loss, 40) == pytest.approx((beta.ppf(tail, 7, 14), beta.ppf(1 - tail, 8, 13)))
    assert rate_interval(loss, 1)[0] > rate_interval(loss, 40)[0]
    assert all(math.isnan(end) for end in rate_interval(np.array([0.5, 1.0]), 3))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"scores \(3, 2\) are not of 3 images and 1 columns"):
        find(np.zeros((3, 2)), ["a"], np.zeros(3), 1, 0)
