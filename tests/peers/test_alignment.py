"""GPUA against its equations as loops in float64, worked by hand, and where the map is known."""

import math

import numpy as np
import pytest
import torch

from gta.peers import alignment
from gta.peers.alignment import gpua, hubness_loss, isometry
from reference import unit, world

STEPS = 4


def rotation(d, seed=0):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


@pytest.fixture(scope="module")
def setting():
    """24 images: CLIP's features in 5 dimensions, a view in 7, priors and texts of 6 classes, float64."""
    x, prior, _, _ = world(24, 6, 5, seed=2)
    generator = torch.Generator().manual_seed(7)
    view = unit(x @ torch.randn(5, 7, generator=generator, dtype=torch.float64))
    texts = unit(prior.T @ x + torch.randn(6, 5, generator=generator, dtype=torch.float64))
    return x, view, prior, texts


def correspondences_by_loops(x, z, prior, y, weight, eps, rounds, iterations):
    (n, m), p = prior.shape, prior.clone()
    for _ in range(rounds):
        centroids = [sum(p[i, k] * z[i] for i in range(n)) / sum(p[i, k] for i in range(n)) for k in range(m)]
        r = torch.zeros_like(p)
        for i, k in ((i, k) for i in range(n) for k in range(m)):
            r[i, k] = (1 - weight) * (z[i] * centroids[k]).sum() + weight * (x[i] * y[k]).sum()
        p = ((r - r.amax(1, keepdim=True)) / eps).exp()
        for _ in range(iterations):
            p = p / p.sum(1, keepdim=True)
            p = p * (n / m / p.sum(0))
        p = p / p.sum(1, keepdim=True)
    return p


def loss_by_loops(w, z, labels, y, k, s):
    """Equation 16 and its gradient in W, an image and a neighbour at a time."""
    n, u, loss, gradient = len(z), z @ w, 0.0, torch.zeros_like(w)
    distance = torch.tensor([[math.dist(a.tolist(), b.tolist()) for b in y] for a in u])
    near = [sorted(range(len(y)), key=lambda c: float(distance[i, c]))[:k] for i in range(n)]
    share = [sum(c in of_image for of_image in near) / n for c in range(len(y))]
    for i in range(n):
        own = int(labels[i])
        for c in near[i]:
            term = float(distance[i, own]) + (1 - float((y[own] * y[c]).sum())) / s + share[c] - float(distance[i, c])
            if term > 0:
                loss += term / (n * k)
                slope = (u[i] - y[own]) / distance[i, own] - (u[i] - y[c]) / distance[i, c]
                gradient += torch.outer(z[i], slope) / (n * k)
    return loss, gradient


def refined_by_loops(w, z, labels, y):
    """AdamW: decay of the weights by the rate, moments of the gradient, and the rate along a cosine from 5e-4 to 1e-7."""
    first = second = torch.zeros_like(w)
    for t in range(STEPS):
        rate = 1e-7 + (5e-4 - 1e-7) * (1 + math.cos(math.pi * t / STEPS)) / 2
        _, gradient = loss_by_loops(w, z, labels, y, 3, 2.0)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9 ** (t + 1)) / ((second / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
        w = w - rate * 5e-4 * w - rate * step
    return w


@pytest.mark.parametrize(("weight", "eps", "rounds"), [(0.9, 0.05, 3), (0.4, 0.1, 1)])
def test_gpua_against_loops(setting, weight, eps, rounds):
    x, view, prior, y = setting
    options = {"weight": weight, "eps": eps, "rounds": rounds, "iterations": 6}
    p = correspondences_by_loops(x, view, prior, y, **options)
    u, s, vt = np.linalg.svd((view.T @ p @ y).numpy(), full_matrices=False)
    assert s.min() > 1e-3  # more classes than dimensions, so that the map is one
    w = torch.from_numpy(u @ vt)
    for steps, expected in {0: w, STEPS: refined_by_loops(w, view, p.argmax(1), y)}.items():
        cosines = unit(view @ expected) @ y.T
        assert torch.allclose(gpua(x, view, prior, y, 30.0, steps=steps, **options), 30 * cosines, atol=1e-8)
    assert not torch.allclose(30 * cosines, 30 * unit(view @ w) @ y.T, atol=1e-3)


@pytest.mark.parametrize("steps", [0, alignment.STEPS])
@pytest.mark.parametrize(("d", "wide"), [(4, 4), (6, 6), (6, 9)])
def test_a_planted_rotation_is_found(d, wide, steps):
    """Images lie at the texts of 4 classes, equally many at each, and the view is a rotation of them, in as many dimensions or more."""
    texts = unit(torch.eye(4, d).double() + 0.1)
    labels = torch.arange(12) % 4
    x = texts[labels]
    planted = rotation(wide)[:, :d]  # (wide, d), orthonormal columns
    logits = gpua(x, x @ planted.T, (10 * x @ texts.T).softmax(1), texts, 10.0, steps=steps, iterations=1000, rounds=10)
    assert torch.equal(logits.argmax(1), labels)
    if d == 4:  # the classes span all dimensions
        found = isometry((x @ planted.T).T @ torch.eye(4).double()[labels] @ texts)
        assert torch.allclose(found, planted, atol=1e-10)
    if wide == d and not steps:
        assert torch.allclose(logits, 10 * x @ texts.T, atol=1e-7)


def test_the_isometry_worked_by_hand():
    """(0, 2; -3, 0) is the rotation (0, 1; -1, 0) times diag(3, 2). Of (0, 1; 0, 0) only that the first axis goes to the second is settled;
    the second may go to the first or to its opposite, and neither is nearer to the identity. Nothing settles (0, 0; 0, 0)."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    assert torch.allclose(isometry(torch.tensor([[0.0, 2.0], [-3.0, 0.0]]).double()), turn, atol=1e-12)
    half = isometry(torch.tensor([[0.0, 1.0], [0.0, 0.0]]).double())
    assert torch.allclose(half.abs(), turn.abs(), atol=1e-12) and half[0, 1] == pytest.approx(1)
    assert torch.allclose(isometry(torch.zeros(2, 2).double()), torch.eye(2).double(), atol=1e-12)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(5, 5, 5), (8, 5, 5), (5, 8, 5), (6, 6, 2), (8, 5, 2), (5, 8, 2)])
def test_the_isometry_is_the_best_and_of_the_best_the_nearest_to_the_identity(rows, columns, rank):
    generator = torch.Generator().manual_seed(rows + columns)
    a, b = (torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in (rows, columns))
    cross, least = a @ b.T, min(rows, columns)
    w, eye = isometry(cross), torch.eye(rows, columns).double()
    narrow = w if rows >= columns else w.T
    assert torch.allclose(narrow.T @ narrow, torch.eye(least).double(), atol=1e-10)
    assert float((w * cross).sum()) == pytest.approx(float(torch.linalg.svdvals(cross).sum()))  # the bound of von Neumann
    u, _, vt = torch.linalg.svd(cross)
    for seed in range(20):  # others that are as good: any rotations of what is free
        left, right = rotation(rows - rank, seed), rotation(columns - rank, seed + 50)
        other = u[:, :rank] @ vt[:rank] + u[:, rank:] @ left @ torch.eye(rows - rank, columns - rank).double() @ right @ vt[rank:]
        assert float((other * cross).sum()) == pytest.approx(float((w * cross).sum()))
        assert (w - eye).norm() <= (other - eye).norm() + 1e-9


def test_the_loss_worked_by_hand():
    """Texts (1, 0), (0, 1), (-1, 0); an image at (3/5, 4/5) with pseudo-label 0. Its two nearest are text 1, at sqrt(2/5), and text 0, at
    sqrt(4/5), each with h = 1. Terms: sqrt(4/5) + (1 - 0) / 2 + 1 - sqrt(2/5), and 0 + 1. Far out at (0, 9) with label 1 it is nearest to
    text 1, and text 0, at sqrt(82), costs nothing: only h = 1 of its own text is left.
    """
    y, zero = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).double(), torch.tensor([0])
    loss = hubness_loss(torch.tensor([[0.6, 0.8]]).double(), zero, y, neighbors=2)
    assert float(loss) == pytest.approx((0.8**0.5 + 0.5 + 1 - 0.4**0.5 + 1) / 2)
    far = hubness_loss(torch.tensor([[0.3, 9.0]]).double(), torch.tensor([1]), y, neighbors=2, spread=0.5)
    own, other = math.dist((0.3, 9), (0, 1)), math.dist((0.3, 9), (1, 0))
    assert float(far) == pytest.approx((max(0, own + 2 + 1 - other) + 1) / 2)


def test_a_prototype_that_is_near_to_all_costs_more():
    """Two images at the first text, one at the second, each with its two nearest of three: text 1 is near to all, text 0 to two of them."""
    y = unit(torch.tensor([[1.0, 0.1], [0.8, 0.6], [0.0, 1.0]]).double())
    u, labels = y[[0, 0, 2]], torch.tensor([0, 0, 2])
    loss, _ = loss_by_loops(torch.eye(2).double(), u, labels, y, 2, 2.0)
    assert float(hubness_loss(u, labels, y, neighbors=2)) == pytest.approx(loss)


def test_an_image_on_its_prototype_has_a_gradient():
    y = torch.eye(3).double()
    u = y.clone().requires_grad_()
    hubness_loss(u, torch.arange(3), y).backward()
    assert u.grad.isfinite().all()


def test_the_order_of_images_does_not_matter(setting):
    x, view, prior, y = setting
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    logits = gpua(x, view, prior, y, 30.0, steps=20)
    assert torch.allclose(gpua(x[order], view[order], prior[order], y, 30.0, steps=20), logits[order], atol=1e-7)


def test_what_is_taken_and_given(setting):
    x, view, prior, y = setting
    narrow = unit(view[:, :3])
    assert gpua(x.float(), narrow.float(), prior.float(), y.float(), 30.0).shape == (24, 6)  # a view with fewer dimensions than texts
    assert gpua(x, view, prior[:, :2] / prior[:, :2].sum(1, keepdim=True), y[:2], 30.0).isfinite().all()  # fewer classes than neighbours
    with pytest.raises(ValueError, match="view has 23 rows and features has 24"):
        gpua(x, view[1:], prior, y, 30.0)
    with pytest.raises(ValueError, match="classes has 4 columns"):
        gpua(x, view, prior, unit(y[:, :4]), 30.0)
