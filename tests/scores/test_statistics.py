"""McNemar and Holm against their definitions, and which rows are compared with which."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.scores import statistics
from small import row


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_sum_of_the_binomial_tail(pairs):
    first, second = np.array(pairs).T
    better, worse, p = statistics.mcnemar(first, second)
    n = better + worse
    assert (better, worse) == (sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
    tail = sum(comb(n, k) for k in range(max(better, worse), n + 1)) / 2**n
    assert p == pytest.approx(min(1, 2 * tail))


def test_holm_by_hand():
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 and 0.5 * 1, none below the one before."""
    assert statistics.holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_values_and_bonferroni_and_keeps_their_order(p):
    adjusted = statistics.holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def rows_and_right(seed=0):
    images = {"CLIP": [1, 0, 0, 0], "TransCLIP": [1, 1, 0, 0], "GTA-CLIP": [0, 1, 1, 1]}
    rows = [row(run_id=f"{method}{seed}", method=method, seed=seed, baseline="CLIP") for method in images]
    return rows, {f"{method}{seed}": np.array(right, dtype=bool) for method, right in images.items()}


def test_rows_are_compared_with_their_baseline_and_with_the_reference_of_their_own_seed():
    first, right = rows_and_right(0)
    second, other = rows_and_right(1)
    frame = statistics.paired([*first, *second], right | other, [("GTA-CLIP", ""), ("GTA-CLIP-FS", "")])
    pairs = [(line.seed, line.method, line.reference, line.better, line.worse) for line in frame.itertuples()]
    expected = [("TransCLIP", "CLIP", 1, 0), ("GTA-CLIP", "CLIP", 3, 1), ("CLIP", "GTA-CLIP", 1, 3), ("TransCLIP", "GTA-CLIP", 1, 2)]
    assert pairs == [(seed, *line) for seed in (0, 1) for line in expected]
    assert frame.difference.tolist()[:2] == [25, 50]


def test_a_baseline_that_is_not_there_is_an_error():
    rows, right = rows_and_right()
    with pytest.raises(ValueError, match="no row 'CLIP' to compare with"):
        statistics.paired(rows[1:], right)


def test_nothing_is_told_apart_that_one_seed_denies():
    assert statistics.verdict([1, 2], [0.01, 0.04]) == "better"
    assert statistics.verdict([-1, -2], [0.01, 0.04]) == "worse"
    assert statistics.verdict([1, 2], [0.01, 0.06]) == statistics.verdict([1, -2], [0.01, 0.01]) == statistics.verdict([], []) == ""
