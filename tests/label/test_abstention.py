"""The threshold of a review: exact bounds against sums of binomials, the order of tests by hand, and the promise on many draws."""

import json
import subprocess
import sys
from math import ceil, comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.label.abstention import at_least, at_most, curve, needed, set_bound, set_rank, share_of_sets, shares_to_test, threshold


def tail(k, n, p):
    """P(Binomial(n, p) <= k)."""
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bounds_are_where_the_binomial_tails_are_a_tenth(case):
    k, n = case
    low, high = at_least(k, n), at_most(k, n)
    assert high == 1 if k == n else tail(k, n, high) == pytest.approx(0.1, abs=1e-9)
    assert low == 0 if k == 0 else 1 - tail(k - 1, n, low) == pytest.approx(0.1, abs=1e-9)
    assert low <= k / n <= high


def test_bounds_in_closed_form():
    assert at_most(0, 22) == pytest.approx(1 - 0.1 ** (1 / 22)) and at_least(22, 22) == pytest.approx(0.1 ** (1 / 22))
    assert at_most(0, 0) == 1 and at_least(0, 0) == 0


@given(st.floats(0.01, 0.9))
def test_so_many_without_a_wrong_one_show_a_risk_and_one_fewer_do_not(risk):
    n = needed(risk)
    assert (1 - risk) ** n <= 0.1 + 1e-9 and (n == 1 or (1 - risk) ** (n - 1) > 0.1 - 1e-9)
    assert at_most(0, n) <= risk + 1e-9


def test_a_tenth_needs_22_images_and_half_a_tenth_45():
    assert (needed(0.1), needed(0.05), needed(0.2), needed(0.9)) == (22, 45, 11, 1)
    assert shares_to_test(21, 0.1) == [] and shares_to_test(22, 0.1)[-1] == 1


@pytest.mark.parametrize(("n", "risk"), [(35, 0.1), (50, 0.2), (100, 0.05), (22, 0.1)])
def test_the_strictest_threshold_accepts_half_of_all_and_as_many_as_needed_nine_times_in_ten(n, risk):
    first, *more = shares_to_test(n, risk)
    enough = 1 - tail(needed(risk) - 1, n, first)
    assert (first == 0.5 and enough >= 0.9) or (first > 0.5 and enough == pytest.approx(0.9, abs=1e-9))
    assert more == sorted(more) and more[-1] == 1 and all(b - a < 0.0501 for a, b in zip([first, *more], more, strict=False))


@st.composite
def reviews(draw):
    scores = np.array(draw(st.lists(st.sampled_from([0.1, 0.25, 0.4, 0.8, 0.99, 1.0]), min_size=1, max_size=40)))
    reviewed = np.array(draw(st.permutations(range(len(scores))))[: draw(st.integers(1, len(scores)))])
    wrong = np.array(draw(st.lists(st.booleans(), min_size=len(reviewed), max_size=len(reviewed))))
    return scores, reviewed, wrong


@given(reviews(), st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_the_curve_counts_what_each_threshold_accepts(case, shares):
    scores, reviewed, wrong = case
    points = list(curve(scores, reviewed, wrong, sorted(shares)))
    for point, share in zip(points, sorted(shares), strict=False):
        accepted = [s >= point.threshold for s in scores]
        assert point.share == pytest.approx(sum(accepted) / len(scores))
        stricter = [s for s in scores if s > point.threshold]
        seen = [bool(w) for i, w in zip(reviewed, wrong, strict=True) if scores[i] >= point.threshold]
        assert (point.reviewed, point.wrong) == (len(seen), sum(seen))
        assert (point.low, point.high) == (at_least(sum(seen), len(seen)), at_most(sum(seen), len(seen)))
        if len(points) == len(shares):
            assert point.share >= share - 1e-9 and len(stricter) < share * len(scores) + 1e-6
    assert len({point.threshold for point in points}) == len(points)


@given(reviews(), st.sampled_from([0.1, 0.3, 0.6]))
def test_the_chosen_threshold_is_the_last_before_the_first_that_fails(case, risk):
    scores, reviewed, wrong = case
    chosen, order = None, sorted(scores, reverse=True)
    for share in shares_to_test(len(reviewed), risk):
        t = order[max(ceil(share * len(order) - 1e-9), 1) - 1]
        seen = [w for i, w in zip(reviewed, wrong, strict=True) if scores[i] >= t]
        if tail(sum(seen), len(seen), risk) > 0.1 + 1e-12:  # P(as few wrong | the risk is just what is wanted) is no rarity
            break
        chosen = t
    found = threshold(scores, reviewed, wrong, risk)
    assert (None if found is None else found.threshold) == chosen


def test_an_example_by_hand():
    """100 images, confidence falling from 1.00 to 0.01; every second is reviewed, and those of a confidence under 0.4 are wrong."""
    scores = np.arange(100, 0, -1) / 100
    reviewed = np.arange(0, 100, 2)
    found = threshold(scores, reviewed, scores[reviewed] < 0.4, 0.1)
    # n accepted of which k are wrong: k = 0 needs 22, k = 1 38, k = 2 52; 31 reviewed have a confidence of 0.4 or more, none wrong, and
    # with the next ones, at 0.38 and 0.36, there are 32 with 1 wrong, which show no tenth
    assert found.wrong == 0 and 27 <= found.reviewed <= 31 and 0.4 <= found.threshold <= 0.47
    assert threshold(scores, reviewed, np.ones(50, bool), 0.1) is None


@pytest.mark.parametrize("flat", [True, False])
def test_the_risk_is_kept_in_nine_of_ten_draws_and_by_luck_alone_it_is_not(flat):
    """On a made-up population. Flat: no threshold keeps the risk, and every acceptance is a failure; else the risk falls with the score."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.uniform(size=3000))
    wrong = rng.uniform(size=3000) < (0.25 if flat else 0.6 * (1 - scores))
    failures, lucky, accepted = 0, 0, 0
    for _ in range(300):
        seen = rng.choice(3000, 40, replace=False)
        found = threshold(scores, seen, wrong[seen], 0.2)
        if found is not None:
            accepted += 1
            failures += wrong[scores >= found.threshold].mean() > 0.2
        fit = [s for s in scores[seen] if wrong[seen][scores[seen] >= s].mean() <= 0.2]
        lucky += bool(fit) and wrong[scores >= min(fit)].mean() > 0.2
    assert failures <= 30 + 3 * (300 * 0.1 * 0.9) ** 0.5, "more than nine in ten, up to three standard deviations"
    assert lucky > 60, "the same draws fool who takes the lowest threshold that looks well"
    assert flat or accepted > 20


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=60), st.sampled_from([0.05, 0.1, 0.2, 0.5]))
def test_the_bound_of_sets_holds_so_many_reviewed_images(z, risk):
    n, bound = len(z), set_bound(np.array(z), risk)
    if bound is None:
        assert n < (n + 1) * (1 - risk)
        return
    held = sum(of >= bound for of in z)
    assert held >= (n + 1) * (1 - risk) - 1e-6 and bound in z
    assert sum(of > bound for of in z) < (n + 1) * (1 - risk) - 1e-6, "a higher bound would hold too few"


def test_sets_need_nine_images_for_a_tenth_and_an_image_of_no_class_is_in_none():
    assert (set_rank(8, 0.1), set_rank(9, 0.1), set_rank(19, 0.1), set_rank(50, 0.1)) == (None, 9, 18, 46)
    assert set_bound(np.array([0.9] * 8 + [0.0]), 0.1) is None and set_bound(np.array([0.9] * 18 + [0.0]), 0.1) == 0.9
    assert share_of_sets(9, 0.1) == pytest.approx(0.1 ** (1 / 9)), "Beta(9, 1) has the distribution function x^9"


def test_sets_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    z = rng.dirichlet(np.full(6, 0.4), 4000)
    truth = np.array([rng.choice(6, p=row**0.5 / (row**0.5).sum()) for row in z])  # z is too sure
    held = []
    for _ in range(400):
        seen = rng.choice(4000, 30, replace=False)
        bound = set_bound(z[seen, truth[seen]], 0.2)
        held.append((z[np.arange(4000), truth] >= bound).mean())
    k = set_rank(30, 0.2)
    assert np.mean(held) == pytest.approx(k / 31, abs=3 * np.std(held) / 20), "the mean of Beta(k, n + 1 - k)"
    assert (np.array(held) >= share_of_sets(30, 0.2)).mean() == pytest.approx(0.9, abs=0.05)


CREPES = """
import json, sys, numpy as np
from crepes import ConformalClassifier
from crepes.extras import hinge
z, labels, new, confidence = (np.array(of) for of in json.load(sys.stdin))
fitted = ConformalClassifier().fit(hinge(z, np.arange(z.shape[1]), labels.astype(int)))
print(json.dumps(fitted.predict_set(hinge(new), confidence=float(confidence), smoothing=False).tolist()))
"""


@pytest.mark.slow
def test_sets_are_those_of_crepes(tmp_path):
    """crepes, in a folder of its own. It needs numpy, pandas and scipy, which are here. Where (n + 1) risk is whole the two differ: there
    crepes keeps a class whose p-value is the risk itself, which Vovk's sets leave out."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), "crepes==0.9.1"]
    subprocess.run(install, check=True)
    rng = np.random.default_rng(0)
    for n, risk in ((20, 0.1), (35, 0.2), (50, 0.05)):
        z, new = rng.dirichlet(np.full(5, 0.5), n), rng.dirichlet(np.full(5, 0.5), 200)
        labels = rng.integers(0, 5, n)
        given_ = json.dumps([z.tolist(), labels.tolist(), new.tolist(), 1 - risk])
        of_crepes = {"env": {"PYTHONPATH": str(tmp_path)}, "check": True, "capture_output": True, "encoding": "utf-8"}
        done = subprocess.run([sys.executable, "-c", CREPES], input=given_, **of_crepes)
        bound = set_bound(z[np.arange(n), labels], risk)
        assert np.array_equal(new >= bound, np.array(json.loads(done.stdout)) == 1)
