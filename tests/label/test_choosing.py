"""Which images are asked about: each way against a loop from its source, and what holds for all."""

import numpy as np
import pytest
import torch

from gta.label.choosing import CANDIDATES, STRATEGIES, choose


def drawn(seed, images=60, width=5):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return rng.uniform(0, 1, images), features, rng.uniform(size=images) < 0.2


def asked(by, count, margins, features, taken, seed=0):
    return choose(by, count, torch.tensor(margins), torch.tensor(features), torch.tensor(taken), seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by", STRATEGIES)
def test_as_many_as_asked_for_none_twice_none_that_is_answered(by, seed):
    margins, features, taken = drawn(seed)
    chosen = asked(by, 7, margins, features, taken, seed)
    assert len(set(chosen)) == 7 and not taken[chosen].any()
    assert asked(by, 7, margins, features, taken, seed) == chosen
    left = (~taken).nonzero()[0]
    assert asked(by, 60, margins, features, taken) == sorted(left, key=lambda i: margins[i])
    assert asked(by, 3, margins, features, taken | True) == []


@pytest.mark.parametrize("by", STRATEGIES)
def test_images_that_are_all_the_same_can_be_asked_about(by):
    chosen = asked(by, 4, np.full(80, 0.5), np.tile([1.0, 0.0], (80, 1)), np.zeros(80, bool))
    assert len(set(chosen)) == 4


def test_uncertain_is_the_smallest_margin_first():
    margins, features, taken = drawn(1)
    expected = sorted((i for i in range(60) if not taken[i]), key=lambda i: margins[i])[:9]
    assert asked("uncertain", 9, margins, features, taken) == expected


@pytest.mark.parametrize("answered", [True, False])
def test_diverse_is_the_farthest_from_all_that_were_chosen(answered):
    """Algorithm 1 of arXiv 1708.00489, with loops. Of unit rows the farthest has the smallest product."""
    margins, features, taken = drawn(2)
    taken &= answered
    centres = [i for i in range(60) if taken[i]]
    expected = []
    if not centres:
        mean = features.mean(0)
        expected = [min(range(60), key=lambda i: float(((features[i] - mean) ** 2).sum()))]
    while len(expected) < 8:
        distance = {}
        for i in range(60):
            if i not in centres and i not in expected:
                distance[i] = min(float(((features[i] - features[j]) ** 2).sum()) for j in [*centres, *expected])
        expected.append(max(distance, key=distance.get))
    assert asked("diverse", 8, margins, features, taken) == expected


def test_random_asks_about_each_image_as_often():
    margins, features, taken = drawn(3)
    counts = np.zeros(60)
    for seed in range(600):
        counts[asked("random", 6, margins, features, taken, seed)] += 1
    free = ~taken
    expected = 600 * 6 / free.sum()
    assert counts[taken].sum() == 0
    assert ((counts[free] - expected) ** 2 / expected).sum() < 1.6 * free.sum()  # chi-squared of as many degrees, far beyond 99.9 %


def test_both_asks_about_one_image_of_each_kind_that_is_uncertain():
    """Three tight groups among the uncertain: of each the image nearest to its mean, weighted by 1 - margin. What is certain lies between
    them and would be taken by k-means on all."""
    rng = np.random.default_rng(0)
    centres = np.eye(4)[:3]
    groups = [centre + 0.05 * rng.normal(size=(CANDIDATES, 4)) for centre in centres]
    far = np.tile([0.0, 0.0, 0.0, 1.0], (100, 1)) + 0.3 * rng.normal(size=(100, 4))
    features = np.concatenate([*groups, far])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    margins = np.concatenate([rng.uniform(0, 0.5, 3 * CANDIDATES), rng.uniform(0.6, 1, 100)])
    expected = set()
    for group in range(3):
        rows = range(group * CANDIDATES, (group + 1) * CANDIDATES)
        weights = [1 - margins[i] for i in rows]
        mean = sum(w * features[i] for w, i in zip(weights, rows, strict=True)) / sum(weights)
        expected.add(min(rows, key=lambda i: float(((features[i] - mean) ** 2).sum())))
    assert set(asked("both", 3, margins, features, np.zeros(len(features), bool))) == expected
