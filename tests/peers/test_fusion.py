"""OTFusion against its steps as loops in float64, worked by hand, and in its limits."""

import math

import pytest
import torch

from gta.peers.fusion import fusion
from reference import sigmoid, unit, world


@pytest.fixture(scope="module")
def setting():
    """40 images of 4 classes: features in 12 dimensions, a second, noisier view in 7, priors."""
    x, prior, _, _ = world(40, 4, 12, seed=4)
    generator = torch.Generator().manual_seed(6)
    view = unit(x[:, :7] + 0.4 * torch.randn(40, 7, generator=generator, dtype=torch.float64))
    return x, view, prior


def sinkhorn_by_scaling(gain, eps, iterations):
    """Rows to 1 and columns to N / M in turn, rows once more at the end."""
    plan = ((gain - gain.amax(1, keepdim=True)) / eps).exp()
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan * (len(plan) / plan.shape[1] / plan.sum(0))
    return plan / plan.sum(1, keepdim=True)


def fusion_by_loops(views, prior, eps, rounds, iterations):
    """Every image, class and dimension by itself. Returns z and the weights of each round."""
    (n, m), z, weights, used = prior.shape, prior, [1 / len(views)] * len(views), []
    means, variances = [], [torch.full((x.shape[1],), 1 / x.shape[1], dtype=x.dtype) for x in views]
    for x in views:
        confident = [sorted(range(n), key=lambda i: -float(prior[i, k]))[:8] for k in range(m)]
        means.append([unit(sum(prior[i, k] * x[i] for i in confident[k]) / 8) for k in range(m)])
    for _ in range(rounds):
        posteriors = []
        for x, mu, variance in zip(views, means, variances, strict=True):
            log_p = torch.zeros_like(prior)
            for i, k in ((i, k) for i in range(n) for k in range(m)):
                log_p[i, k] = -sum(float((x[i, a] - mu[k][a]) ** 2 / variance[a]) for a in range(x.shape[1])) / 2
            posteriors.append((log_p / 50).softmax(1))
        gain = prior + sum(weight * posterior for weight, posterior in zip(weights, posteriors, strict=True))
        z = sinkhorn_by_scaling(gain, eps, iterations)
        used.append(weights)
        agreed = [max(sum(int(p[i].argmax()) == int(z[i].argmax()) for i in range(n)), 1e-8) for p in posteriors]
        weights = [count / sum(agreed) for count in agreed]
        for v, x in enumerate(views):
            means[v] = [unit(sum(z[i, k] * x[i] for i in range(n)) / z[:, k].sum()) for k in range(m)]
            variances[v] = sum(z[i, k] * (x[i] - means[v][k]) ** 2 for i in range(n) for k in range(m)) / z.sum()
    return z, used


@pytest.mark.parametrize("eps", [0.01, 0.1])
@pytest.mark.parametrize("count", [1, 2])
def test_fusion_against_loops(setting, eps, count):
    *views, prior = setting
    expected, weights = fusion_by_loops(views[:count], prior, eps, rounds=3, iterations=4)
    if count == 2:
        assert weights[0] == [0.5, 0.5] and abs(weights[2][0] - weights[2][1]) > 0.01  # the views agree unequally with the plan
    z = fusion(views[:count], prior, eps=eps, rounds=3, iterations=4)
    assert z.dtype == torch.float64 and torch.allclose(z, expected, atol=1e-9)


def test_fusion_worked_by_hand():
    """Images (1, 0) and (0, 1), prior p = 3/4 for the own class. First means (p, 1 - p) and (1 - p, p) over r = sqrt(p^2 + (1 - p)^2),
    first variances 1/2: the log odds of an image's posterior are 2 (2 p - 1) / r / 50. By symmetry the plan is balanced already, so its log
    odds are ((2 P - 1) + (2 p - 1)) / eps. Then means (z, 1 - z) / r and so on, with the variance v of one dimension: the mean of
    (1 - z / r)^2 and (z / r)^2, weighted by z, and of (1 - (1 - z) / r)^2 and ((1 - z) / r)^2, weighted by 1 - z.
    """
    eye, prior = torch.eye(2, dtype=torch.float64), torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
    q, v = 0.75, 0.5
    for rounds in (1, 2, 3):
        r = math.hypot(q, 1 - q)
        posterior = sigmoid((2 * q - 1) / r / v / 50)
        z = sigmoid((2 * posterior - 1 + 0.5) / 0.5)
        assert torch.allclose(fusion([eye], prior, eps=0.5, rounds=rounds), torch.tensor([[z, 1 - z], [1 - z, z]]).double(), atol=1e-12)
        r = math.hypot(z, 1 - z)
        own, other = z / r, (1 - z) / r
        q, v = z, (z * ((1 - own) ** 2 + other**2) + (1 - z) * (own**2 + (1 - other) ** 2)) / 2
    assert torch.equal(fusion([eye], prior, rounds=0), prior)


def test_separated_clusters_give_the_planted_partition():
    """Three clusters of 10; the prior names one image a class surely, and all others slightly wrong, for class 0."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(30) % 3
    x = unit(torch.eye(3, 10).double()[labels] + 0.02 * torch.randn(30, 10, generator=generator, dtype=torch.float64))
    prior = torch.tensor([0.4, 0.3, 0.3]).double().repeat(30, 1)
    prior[:3] = torch.full((3, 3), 0.005).double() + 0.985 * torch.eye(3).double()
    planted = torch.eye(3).double()[labels]
    assert torch.equal(fusion([x], prior).argmax(1), labels)
    assert torch.allclose(fusion([x], prior, iterations=1000), planted, atol=1e-3)


def test_many_iterations_give_classes_of_equal_size(setting):
    x, view, prior = setting
    few, many = (fusion([x, view], prior, iterations=iterations).sum(0) for iterations in (15, 3000))
    assert torch.allclose(many, torch.full((4,), 10.0).double(), atol=1e-3) and (few - 10).abs().max() > (many - 10).abs().max()


def test_a_view_that_agrees_with_nothing_is_bearable(setting):
    """All images in one place: the posterior of that view is the same for all classes, and its answer the first class. Alone, with a third
    of the first class for each of two images, it agrees with none; beside another view it costs little."""
    x, _, prior = setting
    same = torch.eye(1, 5).double()
    two = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.3, 0.5]]).double()
    z = fusion([same.repeat(2, 1)], two, eps=1.0, rounds=3, iterations=100)
    q = sigmoid(0.2) * 2 / 3  # the first class has 1/3 of each image, the others share the rest by their prior
    assert torch.allclose(z, torch.tensor([[1 / 3, q, 2 / 3 - q], [1 / 3, 2 / 3 - q, q]]).double(), atol=1e-5)
    alone, beside = fusion([x], prior, eps=0.1), fusion([x, same.repeat(40, 1)], prior, eps=0.1)
    assert (alone.argmax(1) == beside.argmax(1)).double().mean() > 0.8


def test_neither_the_order_of_images_nor_that_of_views_matters(setting):
    x, view, prior = setting
    z, order = fusion([x, view], prior), torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(fusion([x[order], view[order]], prior[order]), z[order], atol=1e-9)
    assert torch.allclose(fusion([view, x], prior), z, atol=1e-9)


def test_a_class_that_no_image_may_have_and_fewer_than_eight_images(setting):
    x, view, prior = setting
    prior = prior[:5] * torch.tensor([1.0, 1.0, 0.0, 1.0]).double()
    z = fusion([x[:5], view[:5]], prior / prior.sum(1, keepdim=True))
    assert z.isfinite().all() and torch.allclose(z.sum(1), torch.ones(5).double())


def test_what_cannot_be_right_is_named(setting):
    x, view, prior = setting
    with pytest.raises(ValueError, match="features_of_views is empty"):
        fusion([], prior)
    with pytest.raises(ValueError, match=r"features_of_views\[1\] has 39 rows and prior has 40"):
        fusion([x, view[1:]], prior)
    with pytest.raises(ValueError, match=r"features_of_views\[1\]\[0\] has norm 2"):
        fusion([x, 2 * view], prior)
