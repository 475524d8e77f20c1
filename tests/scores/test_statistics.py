"""McNemar and Holm against their definitions, and which rows are compared with which."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

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


def drawn(method, counts, baseline="CLIP", seed=0, images=100):
    """Rows of a method, {draw: its right images, the first so many}, and who is right."""
    rows = [row(run_id=f"{method} {seed} {draw}", method=method, seed=seed, draw=draw, baseline=baseline) for draw in counts]
    return rows, {of.run_id: np.arange(images) < counts[of.draw] for of in rows}


def compared(*methods, references=()):
    rows, right = [row for of, _ in methods for row in of], {k: v for _, of in methods for k, v in of.items()}
    frame = statistics.paired(rows, right, references)
    return [(line.draw, line.method, line.reference, line.difference) for line in frame.itertuples()]


def test_what_draws_nothing_stands_beside_every_draw_of_the_others():
    clip, plain, adapted = drawn("CLIP", {0: 50}), drawn("TransCLIP", {0: 60}), drawn("GTA-CLIP", {0: 70, 1: 72, 2: 65})
    assert compared(clip, plain, adapted) == [
        (0, "TransCLIP", "CLIP", 10),
        (0, "GTA-CLIP", "CLIP", 20),
        (1, "GTA-CLIP", "CLIP", 22),
        (2, "GTA-CLIP", "CLIP", 15),
    ], "a comparison of two methods that draw nothing is made once"
    assert compared(clip, plain, adapted, references=[("GTA-CLIP", "")])[4:] == [
        (draw, method, "GTA-CLIP", count - ours)
        for draw, ours in enumerate((70, 72, 65))
        for method, count in (("CLIP", 50), ("TransCLIP", 60))
    ]


def test_two_methods_that_draw_are_compared_draw_by_draw():
    whole, part = drawn("GTA-CLIP", {0: 70, 1: 72}, "GTA-CLIP"), drawn("Part", {0: 69, 1: 74}, "GTA-CLIP")
    assert compared(whole, part) == [(0, "Part", "GTA-CLIP", -1), (1, "Part", "GTA-CLIP", 2)]


def test_p_values_are_corrected_within_a_draw():
    clip, other = drawn("CLIP", {0: 50}), drawn("TransCLIP", {0: 56})
    adapted = drawn("GTA-CLIP", {0: 58, 1: 58})
    rows, right = [*clip[0], *other[0], *adapted[0]], clip[1] | other[1] | adapted[1]
    frame = statistics.paired(rows, right)
    first, second = (frame[frame.draw == draw] for draw in (0, 1))
    assert first.p_holm.tolist() == pytest.approx(statistics.holm(first.p.tolist())) and len(first) == 2
    assert second.p_holm.tolist() == second.p.tolist() and len(second) == 1


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy's, of values that are nearly equal
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_the_interval_is_that_of_scipys_t_test(differences):
    theirs = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert statistics.t_interval(differences) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)


def test_over_encoders_by_hand():
    """Means over draws 1, 3 and 5: 3 +- 4.3027 * 2 / sqrt(3). Variances between draws 2 and 8; the third encoder has one draw."""
    difference, seed = pd.Series([0.0, 2, 1, 5, 5]), pd.Series([0, 0, 1, 1, 2])
    for order in (range(5), [4, 2, 0, 3, 1]):
        said = statistics.over_encoders(difference[list(order)], seed[list(order)])
        half = 4.30265 * 2 / 3**0.5
        assert [said["mean"], said.mean_low, said.mean_high] == pytest.approx([3, 3 - half, 3 + half], rel=1e-5)
        assert said.spread == pytest.approx(5**0.5) and (said.verdict, said.encoders, said.draws) == ("", 3, 2)


def test_nothing_is_told_apart_that_the_interval_over_encoders_denies():
    assert [statistics.verdict(*interval) for interval in ((0.1, 2), (-2, -0.1), (-0.1, 2), (0, 2))] == ["better", "worse", "", ""]

    def said(*differences):
        return statistics.over_encoders(pd.Series(differences), pd.Series(range(len(differences)))).verdict

    assert (said(1, 1.1), said(-1, -1.1), said(1, 2), said(1, 1.2, 0.9, 1.1, 0.8)) == ("better", "worse", "", "better")
    assert said(3, 1, 2, 2, -1) == ""
    alone = statistics.over_encoders(pd.Series([5.0, 5.1, 5.2]), pd.Series([0, 0, 0]))
    assert (alone.verdict, alone.mean_low, alone.mean_high) == ("", -np.inf, np.inf), "many draws of one encoder tell nothing of another"


def test_the_interval_over_encoders_holds_the_truth_and_one_that_ignores_encoders_does_not():
    """2,000 experiments of 5 encoders with 5 draws each: a true gain of 0.5, 1.0 between encoders, 0.8 between draws of one.

    A bootstrap of all 25 differences, each as if it were independent, as a bootstrap over images takes its images, knows of no encoder.
    """
    rng, truth, experiments = np.random.default_rng(0), 0.5, 2000
    encoders = rng.normal(truth, 1.0, (experiments, 5, 1))
    differences = (encoders + rng.normal(0, 0.8, (experiments, 5, 5))).reshape(experiments, 25)
    seed = pd.Series(np.repeat(range(5), 5))
    said = [statistics.over_encoders(pd.Series(of), seed) for of in differences]
    covered = np.mean([of.mean_low <= truth <= of.mean_high for of in said])
    assert 0.92 <= covered <= 0.98
    resampled = np.stack([of[rng.integers(25, size=(400, 25))].mean(1) for of in differences])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
    assert np.mean((low <= truth) & (truth <= high)) < 0.75
    wrong = {name: np.mean([of.verdict == name for of in said]) for name in ("better", "worse")}
    assert wrong["worse"] < 0.01 < wrong["better"], "a gain of half of what lies between encoders is seldom told, and never as a loss"
