"""Calibration against loops from the equations, cases by hand, and temperatures that were planted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gta.data import tasks
from gta.scores import calibration, results, temperatures
from gta.scores.calibration import (
    brier,
    ece,
    ece_if_calibrated,
    fitted_temperature,
    log_of,
    matched_temperature,
    neighbour_temperature,
    nll,
    reliability,
    with_temperature,
)
from gta.scores.rows import read_table, write_table
from gta.worlds.settings import settings_for
from small import row


def looped_ece(confidence, correct, bins):
    """Equation 3 of Guo et al., bin by bin: I_m = ((m - 1) / bins, m / bins], and 0 in the first."""
    error = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / bins < c <= m / bins or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - mean)
    return error


def answers(images, classes, seed=0, scale=3.0):
    """Logits (N, M), and labels that were drawn from their softmax: as calibrated as can be."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(images, classes))
    z = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return logits, (z.cumsum(1) < rng.random((images, 1))).sum(1).clip(max=classes - 1)


def test_four_images_by_hand():
    """Two bins: 0.3 and 0.5, wrong and right, in the first (an edge is below); 0.9 and 0.7, both right, in the second."""
    confidence, correct = np.array([0.3, 0.5, 0.9, 0.7]), np.array([False, True, True, True])
    assert ece(confidence, correct, bins=2) == pytest.approx(0.5 * abs(0.5 - 0.4) + 0.5 * abs(1 - 0.8))
    frame = reliability(confidence, correct, bins=2)
    assert frame[["count", "confidence", "accuracy"]].values == pytest.approx(np.array([[2, 0.4, 0.5], [2, 0.8, 1.0]]))


def test_the_brier_score_of_four_images_by_hand():
    """Right and sure 0; half sure of two 0.25 + 0.25; wrong and sure 2; (0.2, 0.3, 0.5) for the second: 0.04 + 0.49 + 0.25."""
    z = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [0.2, 0.3, 0.5]])
    assert brier(z, np.array([0, 0, 1, 1])) == pytest.approx((0 + 0.5 + 2 + 0.78) / 4)
    assert z.tolist()[0] == [1, 0, 0], "the argument is never changed"


shares = st.one_of(st.floats(0, 1), st.integers(0, 30).map(lambda k: k / 30))  # also on the edges of bins


@given(st.lists(st.tuples(shares, st.booleans()), min_size=1, max_size=40), st.sampled_from([1, 2, 10, 15]))
def test_the_error_is_that_of_the_equation(images, bins):
    confidence, correct = map(np.array, zip(*images, strict=True))
    near = np.abs(confidence * bins - np.round(confidence * bins)) < 1e-8
    if (near & (confidence * bins != np.round(confidence * bins))).any():
        return  # rounding decides the bin
    edges = np.round(confidence * bins) / bins
    assert ece(confidence, correct, bins) == pytest.approx(looped_ece(np.where(near, edges, confidence), correct, bins), abs=1e-9)


def test_an_edge_is_met_whatever_rounding_says():
    """0.7 * 10 is 7.000000000000001, and 3 * 0.1 is above 0.3."""
    for confidence in (0.7, 3 * 0.1):
        assert reliability(np.array([confidence]), np.array([True]), 10)["count"].to_numpy().nonzero()[0] == round(confidence * 10) - 1


def test_brier_and_likelihood_are_loops(rng):
    logits, labels = rng.normal(size=(50, 4)) * 5, rng.integers(0, 4, 50)
    squares, losses = 0.0, 0.0
    for of_image, label in zip(logits, labels, strict=True):
        exps = [math.exp(value) for value in of_image]
        z = [value / sum(exps) for value in exps]
        squares += sum((z[j] - (j == label)) ** 2 for j in range(4))
        losses -= math.log(z[label])
    assert brier(with_temperature(logits, 1), labels) == pytest.approx(squares / 50)
    assert nll(logits, labels) == pytest.approx(losses / 50)


def test_calibrated_answers_have_an_error_that_vanishes_with_their_number():
    """Each of the 15 bins misses by at most 4 standard deviations, so that the sum is below 4 sum_b sqrt(n_b / 4) / N <= 2 sqrt(15 / N)."""
    for images in (1_000, 100_000):
        logits, labels = answers(images, 5)
        confidence, right = with_temperature(logits, 1).max(1), logits.argmax(1) == labels
        assert ece(confidence, right) < 2 * math.sqrt(15 / images)
        sure = np.minimum(confidence + 0.2, 1)
        assert ece(sure, right) == pytest.approx(float((sure - confidence).mean()), abs=2 * math.sqrt(15 / images))


def test_what_to_expect_of_calibrated_answers_is_what_simulation_gives(rng):
    confidence = with_temperature(answers(1_400, 10, scale=2)[0], 1).max(1)
    drawn = [ece(confidence, rng.random(1_400) < confidence) for _ in range(400)]
    assert ece_if_calibrated(confidence) == pytest.approx(np.mean(drawn), rel=0.03)
    assert ece_if_calibrated(np.ones(7)) == 0


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (3, 7), (90, 100)])
def test_the_interval_is_that_of_scipy(right, count):
    theirs = binomtest(right, count).proportion_ci(method="wilson")
    assert calibration.wilson(right / count, count) == pytest.approx((theirs.low, theirs.high))


def test_an_empty_bin_has_no_accuracy():
    frame = reliability(np.array([0.1, 0.2]), np.array([True, False]), bins=4)
    assert frame["count"].tolist() == [2, 0, 0, 0] and frame[1:].drop(columns="count").isna().all(axis=None)


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    """Labels drawn from softmax(l): the T of T l is `planted`, by the likelihood and by the accuracy as mean confidence."""
    logits, labels = answers(20_000, 6)
    assert fitted_temperature(planted * logits, labels) == pytest.approx(planted, rel=0.03)
    accuracy = float((logits.argmax(1) == labels).mean())
    assert matched_temperature(planted * logits, accuracy) == pytest.approx(planted, rel=0.03)


def test_the_fitted_temperature_is_the_best_of_a_grid(rng):
    logits, labels = 4 * rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    grid = np.geomspace(*calibration.TEMPERATURES, 2_000)
    best = min(grid, key=lambda temperature: nll(logits / temperature, labels))
    assert fitted_temperature(logits, labels) == pytest.approx(best, rel=0.01)


def test_images_that_are_all_right_say_no_temperature_and_images_without_information_the_largest():
    logits = np.eye(3)
    assert fitted_temperature(logits, np.arange(3)) == calibration.TEMPERATURES[0]
    assert fitted_temperature(logits, (np.arange(3) + 1) % 3) == pytest.approx(calibration.TEMPERATURES[1], rel=0.01)


@given(st.integers(0, 50), st.floats(0.05, 20))
def test_a_temperature_changes_no_answer_and_the_confidence_of_all_alike(seed, temperature):
    logits = 5 * np.random.default_rng(seed).normal(size=(20, 4))
    z, plain = with_temperature(logits, temperature), with_temperature(logits, 1)
    assert (z.argmax(1) == plain.argmax(1)).all() and z.sum(1) == pytest.approx(np.ones(20))
    assert ((z.max(1) <= plain.max(1) + 1e-12) if temperature >= 1 else (z.max(1) >= plain.max(1) - 1e-12)).all()


def test_neighbours_that_agree_in_three_of_four_images_make_answers_three_quarters_sure():
    """Two classes with margins a: sigma(a / T) = 3 / 4, so T = a / log 3. Image 3 alone disagrees with its neighbour."""
    a = 4.0
    logits = np.array([[a, 0], [a, 0], [a, 0], [0, a]])
    assert neighbour_temperature(logits, np.array([1, 2, 0, 0])) == pytest.approx(a / math.log(3))
    assert neighbour_temperature(logits, np.array([1, 2, 0, 3])) == calibration.TEMPERATURES[0], "no T is sure enough"
    assert neighbour_temperature(logits, np.array([3, 3, 3, 0])) == calibration.TEMPERATURES[1], "and none doubts enough"


def test_the_rule_of_neighbours_holds_where_errors_are_scattered_and_fails_where_neighbours_err_alike(rng):
    """Pairs of neighbours of one class. Of scattered errors one image of a pair at most is wrong, and 2 (1 - accuracy) of the images
    disagree: here the neighbour is another image's, right itself."""
    labels = np.repeat(rng.integers(0, 10, 2_000), 2)
    wrong = np.zeros(4_000, dtype=bool)
    wrong[::2] = rng.random(2_000) < 0.4  # a fifth of all, each beside a right one
    said = np.where(wrong, (labels + 1) % 10, labels)
    right_one = np.arange(4_000) | 1  # which all take for their neighbour
    logits = np.full((4_000, 10), 0.0)
    logits[np.arange(4_000), said] = 9.0
    confidence = with_temperature(logits, neighbour_temperature(logits, right_one)).max(1).mean()
    assert confidence == pytest.approx((said == labels).mean(), abs=1e-6)
    alike = np.where(np.repeat(wrong[::2], 2), (labels + 1) % 10, labels)  # both of a pair
    logits = np.full((4_000, 10), 0.0)
    logits[np.arange(4_000), alike] = 9.0
    assert neighbour_temperature(logits, np.arange(4_000) ^ 1) == calibration.TEMPERATURES[0]
    assert (alike == labels).mean() < 0.65


def test_the_logarithm_of_a_z_without_digits_is_the_largest_that_it_can_be():
    z = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    logits = log_of(z.numpy())
    assert logits[0, 1] == pytest.approx(math.log(1.1754944e-38)) and np.isfinite(nll(logits, np.array([1, 0])))
    assert with_temperature(logits, 1) == pytest.approx(z.numpy(), abs=1e-7)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ece(np.array([0.5, 1.5]), np.array([True, True])), r"confidence\[1\] is 1\.5; give the largest entry of z"),
        (lambda: ece(np.array([np.nan]), np.array([True])), r"confidence\[0\] is nan"),
        (lambda: ece(np.array([0.5]), np.array([True, False])), r"confidence \(1,\) and correct \(2,\)"),
        (lambda: ece(np.array([]), np.array([])), "at least one"),
        (lambda: ece(np.array([0.5]), np.array([True]), bins=0), "bins is 0"),
        (lambda: brier(np.eye(2), np.array([0, 2])), r"labels\[1\] is 2, and there are 2 classes"),
        (lambda: brier(np.eye(2), np.array([0, -1])), r"labels\[1\] is -1"),
        (lambda: nll(np.eye(2), np.array([0])), r"labels has shape \(1,\), for scores of shape \(2, 2\)"),
        (lambda: with_temperature(np.eye(2), 0), "temperature is 0; it divides the logits"),
        (lambda: neighbour_temperature(np.eye(2), np.array([0])), r"neighbours has shape \(1,\), expected \(2,\)"),
    ],
)
def test_what_cannot_be_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


TRUTH = torch.nn.functional.one_hot(torch.from_numpy(tasks.query_labels("digits")), 10).double()


def measured(encoder, z):
    outcomes = {("CLIP", ""): (z, 1.0, ("CLIP", ""))}
    (found,), _ = results.measure("t", tasks.load("digits"), "embedded", encoder, settings_for("embedded"), outcomes, outcomes, "hash")
    return found


def test_every_row_says_how_calibrated_it_is_and_how_large_its_classes_are(encoder):
    """z is 0.7 for the label, 0.3 for the next class: right and 70 % sure, 0.3 too little; 2 * 0.3^2."""
    sure = measured(encoder, TRUTH)
    assert (sure.ece, sure.brier, sure.empty) == (0, 0, 0)
    assert sure.largest == pytest.approx(100 * np.bincount(tasks.query_labels("digits")).max() / len(TRUTH), abs=1e-4)
    half = measured(encoder, 0.7 * TRUTH + 0.3 * TRUTH.roll(1, dims=1))
    assert (half.ece, half.brier) == pytest.approx((30, 0.18))
    one = measured(encoder, torch.nn.functional.one_hot(torch.zeros(len(TRUTH), dtype=torch.long), 10).double())
    assert (one.empty, one.largest) == (9, 100)
    assert one.ece == pytest.approx(100 - one.accuracy) and one.brier == pytest.approx(2 * one.ece / 100, abs=1e-4)


def test_what_is_no_distribution_has_no_calibration(encoder):
    found = measured(encoder, 5 * TRUTH)
    assert (found.ece, found.brier, found.accuracy, found.empty) == (None, None, 100, 0)


def test_images_that_do_not_count_are_in_no_error_but_in_the_sizes(encoder, monkeypatch):
    """Of three images the last has no name: the others are right and wrong, both 80 % sure."""
    monkeypatch.setattr(tasks, "query_labels", lambda name: np.array([0, 1, -1]))
    z = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.1, 0.9]])
    found = measured(encoder, z)
    assert (found.ece, found.brier) == pytest.approx((30, (0.08 + 1.28) / 2), abs=1e-4)
    assert (found.n_total, found.empty) == (2, 0) and found.largest == pytest.approx(200 / 3, abs=1e-4)


def test_a_table_without_these_columns_is_read_and_can_stand_beside_one_that_has_them(tmp_path):
    file, new = tmp_path / "t.csv", row(run_id="b", ece=12.3456, brier=0.25, empty=3, largest=40.5)
    write_table(file, [row(), new])
    assert read_table(file) == [row(), new]
    lines = file.read_text(encoding="utf-8").splitlines()
    assert ",12.3456,0.25,3,40.5," in lines[2] and ",,,,," in lines[1]
    names = lines[0].split(",")
    kept = [i for i, name in enumerate(names) if name not in ("ece", "brier", "empty", "largest")]
    old = tmp_path / "old.csv"
    old.write_text("".join(",".join(line.split(",")[i] for i in kept) + "\n" for line in lines[:2]), encoding="utf-8")
    assert read_table(old) == [row()] and row().ece is None


@pytest.fixture
def digits(monkeypatch):
    """Logits of 400 images of five classes, twice as sure as is right, in place of those of the digits."""
    logits, labels = answers(400, 5, scale=2)
    monkeypatch.setattr(tasks, "query_labels", lambda name: labels)
    return 2 * logits, labels


def test_each_rule_has_its_line_and_the_labels_it_saw_take_no_part(digits):
    logits, labels = digits
    frame = temperatures.compared("digits", logits, {"as it is": 1.0, "twice": 2.0}, seed=3).set_index("rule")
    assert frame.labelled.to_dict() == {"as it is": 0, "twice": 0, "20 labels": 20, "50 labels": 50}
    right = logits.argmax(1) == labels
    for rule, temperature in (("as it is", 1.0), ("twice", 2.0)):
        z, line = with_temperature(logits, temperature), frame.loc[rule]
        assert (line.ece, line.brier, line.nll) == pytest.approx(
            (100 * ece(z.max(1), right), brier(z, labels), nll(logits / temperature, labels))
        )
        assert (line.draws, line.temperature, line.ece_spread) == (1, temperature, 0)
    found = []
    for draw in range(temperatures.DRAWS):
        order = np.random.default_rng([3, draw]).permutation(400)
        temperature = fitted_temperature(logits[order[:50]], labels[order[:50]])
        found.append([temperature, 100 * ece(with_temperature(logits[order[50:]], temperature).max(1), right[order[50:]])])
    line, found = frame.loc["50 labels"], np.array(found)
    assert (line.temperature, line.ece, line.draws) == pytest.approx((*found.mean(0), 20))
    assert (line.temperature_spread, line.ece_spread) == pytest.approx(tuple(found.std(0, ddof=1)))
    assert line.temperature == pytest.approx(2, abs=0.5) and line.ece < frame.ece["as it is"]
    assert frame.temperature_spread["50 labels"] < frame.temperature_spread["20 labels"]


def test_too_few_images_are_asked_for_no_labels(digits, monkeypatch):
    logits, labels = digits
    monkeypatch.setattr(tasks, "query_labels", lambda name: np.where(np.arange(400) < 60, labels, -1))
    frame = temperatures.compared("digits", logits, {"as it is": 1.0}, seed=0)
    assert frame.rule.tolist() == ["as it is", "20 labels"], "60 images count: 50 would be most of them"
    assert frame.nll[0] == pytest.approx(nll(logits[:60], labels[:60]))


def test_the_diagram_has_the_bins_with_images(digits):
    logits, labels = digits
    frame = temperatures.diagram("digits", logits, {"as it is": 1.0, "twice": 2.0})
    for rule, part in frame.groupby("rule"):
        assert part["count"].sum() == 400 and (part["count"] > 0).all()
        assert float((part["count"] * part.accuracy).sum()) == pytest.approx(float((logits.argmax(1) == labels).sum()))
        gaps = part["count"] * (part.accuracy - part.confidence).abs()
        z = with_temperature(logits, {"as it is": 1.0, "twice": 2.0}[rule])
        assert gaps.sum() / 400 == pytest.approx(ece(z.max(1), logits.argmax(1) == labels))
