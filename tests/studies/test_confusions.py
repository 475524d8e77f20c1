"""Pairs of classes against a classifier's confusions, on matrices small enough to rank by hand."""

import numpy as np
import pandas as pd
import pytest

from gta.charts.confusions import overlaps
from gta.studies.confusions import compare, ranked

COUNTS = np.array([[9, 2, 0, 0], [1, 9, 0, 0], [0, 0, 9, 3], [0, 0, 1, 9]])  # {2, 3} 4 errors, {0, 1} 3, no other
MASS = np.zeros((4, 4))
MASS[1, 3], MASS[0, 2] = 0.2, 0.4


def test_pairs_rank_by_errors_either_way_then_by_probability():
    assert ranked(COUNTS, MASS) == [(2, 3), (0, 1), (0, 2), (1, 3), (0, 3), (1, 2)]


def test_each_pair_of_a_method_has_its_place_among_those_of_the_classifier():
    frame = compare([(0, 1, 7), (0, 3, 5)], COUNTS, MASS, ("ant", "bee", "cat", "dog"))
    assert frame.to_dict("records") == [
        {"rank": 1, "first": "ant", "second": "bee", "images": 7, "place": 2, "errors": 3, "of": 6},
        {"rank": 2, "first": "ant", "second": "dog", "images": 5, "place": 5, "errors": 0, "of": 6},
    ]


def test_no_more_than_ten_pairs_are_looked_at():
    pairs = [(a, b, 1) for a in range(6) for b in range(a + 1, 6)]
    assert len(compare(pairs, np.zeros((6, 6)), np.zeros((6, 6)), tuple("abcdef"))) == 10


def test_overlap_counts_the_ten_first_places_and_the_first_tenth_beside_what_chance_would_give():
    places = [1, 10, 11, 20, 21, 99]  # of 200 pairs: the first tenth is 20 of them
    setting = {"dataset": "aviary:0", "backbone": "b", "seed": 0, "method": "GTA-CLIP"}
    (line,) = overlaps(pd.DataFrame([{**setting, "place": place, "of": 200} for place in places])).to_dict("records")
    assert (line["pairs"], line["in the first ten"], line["in the first tenth"]) == (6, 2, 4)
    draws = np.array([np.random.default_rng(seed).permutation(200)[:6] for seed in range(20_000)])
    assert line["first ten by chance"] == pytest.approx((draws < 10).sum(1).mean(), abs=0.02)
    assert line["first tenth by chance"] == pytest.approx((draws < 20).sum(1).mean(), abs=0.02)
    assert line["p"] == pytest.approx(((draws < 20).sum(1) >= 4).mean(), abs=0.002)
