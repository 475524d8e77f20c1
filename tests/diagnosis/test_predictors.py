"""The predicted loss: honest folds, the mean of three models, and each baseline against sums by hand."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsRegressor

from gta.diagnosis import baselines, measure, predictors
from gta.diagnosis.predictors import FOLDS, NEIGHBOURS, described, folds, models, out_of_fold, predicted


def failing(rng, n=150, d=6):
    """Images of which those on one side fail, with some noise."""
    features = rng.standard_normal((n, d))
    return features, (features[:, 0] + 0.5 * rng.standard_normal(n)) > 0.5


def test_each_image_is_predicted_once_and_never_by_its_group(rng):
    wrong, groups = rng.random(120) < 0.3, rng.integers(0, 40, 120)
    parts = folds(wrong, groups, 0)
    assert len(parts) == FOLDS
    assert sorted(np.concatenate([rest for _, rest in parts]).tolist()) == list(range(120))
    for learn, rest in parts:
        assert not set(groups[learn]) & set(groups[rest])
        assert abs(wrong[rest].mean() - wrong.mean()) < 0.15


def test_too_few_wrong_images_are_refused_in_words():
    with pytest.raises(ValueError, match="9 of 50 labelled images are wrong: at least 10 wrong ones and 10 right ones are needed"):
        folds(np.arange(50) < 9, np.arange(50), 0)


def test_copies_of_an_image_in_one_group_give_nothing_away(rng, monkeypatch):
    """Losses are pure chance, and each image is there eight times: a fold that held some copies out would know them from the others."""
    monkeypatch.setattr(predictors, "models", lambda *_: {"k-NN": KNeighborsRegressor(3)})
    features, wrong = np.tile(rng.standard_normal((20, 4)), (8, 1)), np.tile(rng.permutation(20) < 8, 8)
    parts = {"honest": folds(wrong, np.tile(np.arange(20), 8), 0), "leaky": folds(wrong, np.arange(160), 0)}
    found = {name: roc_auc_score(wrong, out_of_fold(features, wrong.astype(float), part, 0)["k-NN"]) for name, part in parts.items()}
    assert found["leaky"] > 0.99 and found["honest"] < 0.8


def test_the_prediction_of_a_fold_does_not_change_with_its_own_losses(rng):
    features, wrong = failing(rng)
    parts = folds(wrong, np.arange(150), 0)
    loss = wrong.astype(float)
    other = loss.copy()
    other[parts[0][1]] = 1 - other[parts[0][1]]
    one, two = (out_of_fold(features, of, parts, 0)["ensemble"][parts[0][1]] for of in (loss, other))
    np.testing.assert_array_equal(one, two)


def test_the_ensemble_is_the_mean_and_the_neighbours_are_those_of_a_plain_search(rng):
    features, wrong = failing(rng)
    parts = folds(wrong, np.arange(150), 0)
    found = out_of_fold(features, wrong.astype(float), parts, 0)
    np.testing.assert_allclose(found["ensemble"], (found["ridge"] + found["trees"] + found["k-NN"]) / 3)
    learn, rest = parts[2]
    for i in rest[:10]:
        near = sorted(learn, key=lambda j, i=i: ((features[i] - features[j]) ** 2).sum())[:NEIGHBOURS]
        assert found["k-NN"][i] == pytest.approx(wrong[near].mean())
    assert all(roc_auc_score(wrong, score) > 0.8 for score in found.values())


def test_new_images_get_a_loss_within_its_interval(rng):
    features, wrong = failing(rng)
    others = rng.standard_normal((12, 6))
    found = predicted(features, wrong.astype(float), others, 0)
    fitted = [model.fit(features, wrong.astype(float)).predict(others) for model in models(150, 6, 0).values()]
    np.testing.assert_allclose(found.loss, np.clip(np.mean(fitted, 0), 0, 1))
    assert (found.low <= found.loss).all() and (found.loss <= found.high).all() and (found.high > found.low).any()


def test_what_the_models_see():
    """Two images at distance 2: with their mean taken away each has a squared length of 1; then the answer, then the doubt."""
    seen = described(np.array([[3.0, 0], [1.0, 0]]), np.array([1, 0]), 2, np.array([0.2, 0.6]))
    np.testing.assert_allclose(seen, [[1, 0, 0, 1, -0.35], [-1, 0, 1, 0, 0.35]])
    assert described(np.eye(2), np.array([0, 0]), 1, None).shape == (2, 3)


def test_margin_by_hand():
    np.testing.assert_allclose(baselines.margin(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])), [0.8, 0.3])


def test_the_mixture_of_two_clusters_knows_which_one_fails(rng, monkeypatch):
    monkeypatch.setattr(baselines, "COMPONENTS", 2)
    wrong = np.arange(200) < 100
    features = rng.standard_normal((200, 3)) + 8 * wrong[:, None]
    mixture = baselines.Mixture(features, wrong, 0)
    assert sorted(mixture.rate.round(2)) == [0.0, 1.0] and sorted(mixture.weight.round(2)) == [0.5, 0.5]
    assert mixture.loss(features)[wrong].min() > 0.95 and mixture.loss(features)[~wrong].max() < 0.05
    scores = np.stack([features[:, 0], -features[:, 0]], 1)
    assert mixture.slices(features, wrong, scores, ["high", "low"]) == ["high", "low"], "the failing one first"


def test_each_step_of_the_mixture_is_that_of_a_plain_loop_and_raises_the_likelihood(rng, monkeypatch):
    monkeypatch.setattr(baselines, "COMPONENTS", 3)
    features, wrong = failing(rng, 80, 3)
    seen = []
    maximise = baselines.Mixture._maximise

    def recorded(self, x, fails, z):
        maximise(self, x, fails, z)
        seen.append([x, z, *(of.copy() for of in (self.weight, self.mean, self.variance, self.rate))])

    monkeypatch.setattr(baselines.Mixture, "_maximise", recorded)
    baselines.Mixture(features, wrong, 0)
    likelihoods = []
    for (x, _, weight, mean, variance, rate), after in zip(seen, [*seen[1:], None], strict=True):
        joint = np.zeros((80, 3))
        for i in range(80):
            for s in range(3):
                fits = multivariate_normal(mean[s], np.diag(variance[s])).pdf(x[i])
                joint[i, s] = weight[s] * fits * (rate[s] if wrong[i] else 1 - rate[s]) ** baselines.GAMMA
        likelihoods.append(np.log(joint.sum(1)).sum())
        if after is not None:
            np.testing.assert_allclose(after[1], joint / joint.sum(1, keepdims=True), atol=1e-6)
        if len(likelihoods) == 8:
            break
    assert (np.diff(likelihoods) > -1e-3).all()


def test_the_svm_of_a_class_finds_the_side_that_fails(rng):
    """In class 0 images with a large first coordinate fail, in class 1 hardly any does."""
    features, classes = rng.standard_normal((200, 3)), np.arange(200) % 2
    wrong = (classes == 0) & (features[:, 0] > 0)
    wrong[1] = True
    svms = baselines.class_svms(features, classes, wrong)
    assert list(svms) == [0], "class 1 has one wrong image, too few"
    scores = baselines.svm_loss(svms, np.array([0.5, 0.01]), features, classes)
    assert roc_auc_score(wrong[classes == 0], scores[classes == 0]) > 0.98
    np.testing.assert_array_equal(scores[classes == 1], 0.01)
    texts = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]])
    assert baselines.svm_slices(svms, texts, ["right", "left", "up"])[0] == "right"
    assert baselines.ridge_slices(features, wrong.astype(float), texts, ["right", "left", "up"])[0] == "right"
    assert baselines.svm_slices({}, texts, ["right", "left", "up"]) == ["right", "left", "up"]


def test_class_rates_by_hand():
    rates = measure.class_rates(np.array([0, 0, 0, 1]), np.array([1.0, 1, 0, 0]), 3)
    np.testing.assert_allclose(rates, [2.5 / 4, 0.5 / 2, 0.5])


def test_every_score_is_measured_and_the_null_knows_nothing(rng):
    features, wrong = failing(rng)
    z = rng.dirichlet(np.ones(4), 150)
    planted = features[:, 0] > 1
    lines = {line["method"]: line for line in measure.of_images(measure.scores(features, z, wrong, 0), wrong, planted)}
    assert lines[measure.ALONE]["auroc"] > 0.8 and abs(lines[measure.NULL]["auroc"] - 0.5) < 0.25
    assert lines["1 - confidence"]["auroc"] == pytest.approx(
        np.mean([(a > b) + (a == b) / 2 for a in (1 - z.max(1))[wrong] for b in (1 - z.max(1))[~wrong]])
    )
    top = np.argsort(-(1 - z.max(1)), kind="stable")[:15]
    assert lines["1 - confidence"]["precision"] == wrong[top].mean() and lines["1 - confidence"]["harmed"] == planted[top].mean()
