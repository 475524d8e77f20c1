"""StatA against its equations as loops in float64, worked by hand, and in its limits."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gta.peers import fusion
from gta.peers.anchored import stata
from reference import knn_graph, sigmoid, unit, world


@pytest.fixture(scope="module")
def setting():
    """40 images, priors and texts of 6 classes in 12 dimensions, float64; no image is of the last class at first."""
    x, prior, _, _ = world(40, 6, 12, seed=3)
    prior = prior * torch.tensor([1, 1, 1, 1, 1, 0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    texts = unit(prior.T @ x + 4 * torch.randn(6, 12, generator=generator, dtype=torch.float64))
    return x, prior / prior.sum(1, keepdim=True), texts


def stata_by_loops(x, prior, texts, alpha, neighbors, rounds, inner, hard):
    """Every image, class and dimension by itself; z after each round."""
    (n, m), d, graph, z = prior.shape, x.shape[1], knn_graph(x, neighbors=neighbors), prior
    anchor = sum(prior[i, k] * (x[i] - texts[k]) ** 2 for i in range(n) for k in range(m)) / n
    mu, sigma, after = list(texts), [anchor] * m, []
    for step in range(rounds + 1):
        for _ in range(inner):
            new = torch.zeros_like(z)
            for i in range(n):
                pull = sum((graph[i, j] + graph[j, i]) * z[j] for j in range(n))
                for k in range(m):
                    log_p = -sum(float((x[i, a] - mu[k][a]) ** 2 / sigma[k][a]) for a in range(d)) / 2
                    new[i, k] = prior[i, k] * math.exp((log_p + 50 / (2 * 3) * float(pull[k])) / 50)
            z = new / new.sum(1, keepdim=True)
        after.append(z)
        if step == rounds:
            return after
        for k in range(m):
            count = sum(int(z[i].argmax()) == k for i in range(n)) if hard else float(z[:, k].sum())
            beta = count / (alpha + count)
            mean = sum(z[i, k] * x[i] for i in range(n)) / z[:, k].sum()
            mu[k] = unit(beta * unit(mean) + (1 - beta) * texts[k])
            own = sum(z[i, k] * (x[i] - mu[k]) ** 2 for i in range(n)) / z[:, k].sum()
            sigma[k] = beta * own + (1 - beta) * (anchor + (mu[k] - texts[k]) ** 2)


@pytest.mark.parametrize(("alpha", "neighbors", "inner", "hard"), [(1.0, 3, 5, True), (4.0, 2, 2, False)])
def test_stata_against_loops(setting, alpha, neighbors, inner, hard):
    x, prior, texts = setting
    options = {"alpha": alpha, "neighbors": neighbors, "inner": inner, "hard": hard}
    after = stata_by_loops(x, prior, texts, rounds=2, **options)
    counts = torch.bincount(after[0].argmax(1), minlength=6)
    assert counts.min() == 0 and (counts > 0).sum() > 3  # the loops cover a class without images
    for rounds, expected in enumerate(after):
        assert torch.allclose(stata(x, prior, texts, rounds=rounds, **options), expected, atol=1e-11)
    single = stata(x.float(), prior.float(), texts.float(), rounds=2, **options)
    assert single.dtype == torch.float64 and torch.allclose(single, after[-1], atol=1e-5)


# Images (1, 0) and (-1, 0), which no edge joins, texts (3/5, 4/5) and (-3/5, 4/5), the prior 3/4 for an image's own text.
# S' = (3/4 (2/5)^2 + 1/4 (8/5)^2, (4/5)^2) = (19/25, 16/25).
IMAGES = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
TEXTS = torch.tensor([[0.6, 0.8], [-0.6, 0.8]], dtype=torch.float64)
PRIOR = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
AT_ANCHORS = sigmoid(math.log(3) + (1.6**2 - 0.4**2) / 0.76 / 100)  # the second dimension is the same for both texts


def test_heavy_anchors_give_the_posterior_of_the_texts():
    assert float(stata(IMAGES, PRIOR, TEXTS, alpha=1e30)[0, 0]) == pytest.approx(AT_ANCHORS, abs=1e-12)
    assert float(stata(IMAGES, PRIOR, TEXTS, rounds=0)[0, 0]) == pytest.approx(AT_ANCHORS, abs=1e-12)


def test_a_round_of_stata_worked_by_hand():
    """Each class has one image, so with alpha = 1 beta is 1/2. The means of the images are (1, 0) and (-1, 0), and mu of the first class is
    the unit of (1 + 3/5, 4/5) / 2, (a, b) = (2, 1) / sqrt(5). With z of the anchors its own variance in the first dimension is
    z (1 - a)^2 + (1 - z) (1 + a)^2, S = that / 2 + (19/25 + (a - 3/5)^2) / 2, and the log odds log 3 + ((1 + a)^2 - (1 - a)^2) / (100 S).
    """
    a, z = 2 / 5**0.5, AT_ANCHORS
    s = (z * (1 - a) ** 2 + (1 - z) * (1 + a) ** 2) / 2 + (0.76 + (a - 0.6) ** 2) / 2
    expected = sigmoid(math.log(3) + 4 * a / s / 100)
    found = stata(IMAGES, PRIOR, TEXTS, rounds=1)
    assert torch.allclose(found, torch.tensor([[expected, 1 - expected], [1 - expected, expected]]).double(), atol=1e-12)


def test_classes_that_are_not_there_get_no_image():
    """30 images of 2 of 8 classes, a text a class beside its centre: StatA's own setting."""
    generator = torch.Generator().manual_seed(1)
    centres, labels = torch.eye(8, 16, dtype=torch.float64), torch.arange(30) % 2
    noise = torch.randn(30, 16, generator=generator, dtype=torch.float64)
    x, texts = unit(centres[labels] + 0.15 * noise), unit(centres + 0.05)
    assert torch.equal(stata(x, (4 * x @ texts.T).softmax(1), texts).argmax(1), labels)


def test_the_order_of_images_does_not_matter(setting):
    x, prior, texts = setting
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    assert torch.allclose(stata(x[order], prior[order], texts), stata(x, prior, texts)[order], atol=1e-10)


@pytest.mark.parametrize("hard", [True, False])
def test_a_class_that_the_prior_rules_out_stays_out(setting, hard):
    x, prior, texts = setting
    prior = prior.clone()
    prior[:, 2] = 0
    prior = prior / prior.sum(1, keepdim=True)
    z = stata(x, prior, texts, hard=hard, alpha=0.0)
    assert z.isfinite().all() and (z[:, 2] == 0).all() and torch.allclose(z.sum(1), torch.ones(40).double())


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.entries = max([self.entries, *(t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))])
        return out


@pytest.mark.parametrize("method", [stata, lambda x, prior, texts: fusion.fusion([x, x[:, :50]], prior)])
def test_nothing_is_as_large_as_images_times_classes_times_dimensions(method):
    x = unit(torch.randn(200, 300, generator=torch.Generator().manual_seed(0)))
    x[:, :50] = unit(x[:, :50]) * 0.99
    x[:, 50:] = unit(x[:, 50:]) * (1 - 0.99**2) ** 0.5
    prior = (x @ x[:150].T).softmax(1)
    with Largest() as largest:
        method(x, prior, x[:150])
    assert 200 * 300 <= largest.entries <= 8 * 200 * 300 < 200 * 150 * 300


def test_what_cannot_be_right_is_named(setting):
    x, prior, texts = setting
    with pytest.raises(ValueError, match="prior has 6 columns and classes has 5 rows"):
        stata(x, prior, texts[:5])
    with pytest.raises(ValueError, match=r"classes\[0\] has norm 2"):
        stata(x, prior, 2 * texts)
    with pytest.raises(ValueError, match="alpha is -1"):
        stata(x, prior, texts, alpha=-1)
