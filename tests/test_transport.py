"""Class sizes: transport against POT and a closed form, estimated sizes against a planted mixture, anchors against loops."""

import math
import warnings

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from golden import close
from gta import loop
from gta.attributes import Bank
from gta.labels import answer, unlike_the_list
from gta.settings import SIZES
from gta.transduct import from_texts, transduct
from gta.transport import estimated_sizes, sinkhorn
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for

seeds = st.integers(0, 10**6)


def drawn(n, classes, seed, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    return spread * torch.randn(n, classes, generator=generator, dtype=torch.float64), sizes / sizes.sum()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 30), classes=st.integers(1, 6), seed=seeds)
def test_full_strength_is_the_plan_of_pot(n, classes, seed):
    logits, sizes = drawn(n, classes, seed)
    z, potential = sinkhorn(logits, sizes, tolerance=1e-12)
    rows = torch.full((n,), 1 / n, dtype=torch.float64)
    plan = ot.bregman.sinkhorn_log(rows, sizes, -logits, reg=1.0, numItermax=10_000, stopThr=1e-13)
    close(z, plan * n, atol=1e-7)
    close(z.sum(1), torch.ones(n), atol=1e-12)  # both marginals
    close(z.mean(0), sizes, atol=1e-9)
    close(z, (logits + potential).softmax(1), atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(4, 20), classes=st.integers(2, 5), strength=st.floats(0.1, 0.9), seed=seeds)
def test_part_strength_is_the_relaxed_plan_of_pot(n, classes, strength, seed):
    logits, sizes = drawn(n, classes, seed)
    z, _ = sinkhorn(logits, sizes, strength, tolerance=1e-12)
    rows = torch.full((n,), 1 / n, dtype=torch.float64)
    rho = strength / (1 - strength)
    given = {"reg": 1.0, "reg_m": (math.inf, rho), "reg_type": "entropy", "numItermax": 20_000, "stopThr": 1e-12}
    with warnings.catch_warnings():  # it tells that `reg_type` sets the reference plan
        warnings.simplefilter("ignore")
        plan = ot.unbalanced.sinkhorn_unbalanced(rows, sizes, -logits, method="sinkhorn_stabilized", **given)
    close(z, plan * n, atol=1e-5)


def test_strength_leads_from_the_softmax_to_the_sizes():
    logits, sizes = drawn(200, 4, 0)
    free, potential = sinkhorn(logits, sizes, 0.0)
    assert torch.equal(free, logits.softmax(1)) and not potential.any()
    off = [float((sinkhorn(logits, sizes, strength, tolerance=1e-9)[0].mean(0) - sizes).abs().sum()) for strength in (0.0, 0.5, 0.9, 1.0)]
    assert off == sorted(off, reverse=True) and off[0] > 0.1 and off[-1] < 1e-4


def test_two_images_and_two_classes_by_hand():
    """Both images prefer class 0, by 1 and by 3; equal sizes move the one that prefers it less: z of class 0 is s(-1) and s(1)."""
    z, potential = sinkhorn(torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64), torch.tensor([0.5, 0.5]), tolerance=1e-12)
    assert z[:, 0].tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert float(potential[0] - potential[1]) == pytest.approx(-2)


def test_without_convergence_it_warns_and_says_by_how_much():
    logits, sizes = 200 * torch.eye(5, dtype=torch.float64)[:, [0, 0, 1, 2, 3]], torch.full((5,), 0.2)
    with pytest.warns(RuntimeWarning, match=r"did not converge in 3 iterations: a class is off its size by"):
        sinkhorn(logits, sizes, iterations=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sinkhorn(logits, sizes, iterations=3, warn=False)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([0.5, 0.5], "a share for each class"),
        ([0.5, 0.5, 0.0], r"sizes\[2\] is 0, and the sum is 1"),
        ([1.0, 2.0, 3.0], "and the sum is 6"),
    ],
)
def test_sizes_that_cannot_be_right_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(torch.zeros(4, 3), torch.tensor(sizes))


def test_estimated_sizes_are_those_of_a_planted_mixture():
    """A prior for equal shares, of images whose true shares are 0.7, 0.2 and 0.1: counting its answers is off, the estimate is not."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    labels = torch.multinomial(truth, 20_000, replacement=True, generator=generator)
    seen = torch.randn(20_000, 3, generator=generator, dtype=torch.float64) + 1.2 * torch.eye(3, dtype=torch.float64)[labels]
    prior = (1.2 * seen).softmax(1)  # the exact posterior of these Gaussians under equal shares
    assert (estimated_sizes(prior) - truth).abs().max() < 0.015
    assert (prior.mean(0) - truth).abs().max() > 0.1


@settings(max_examples=6, deadline=None)
@given(n=st.integers(5, 12), classes=st.integers(2, 4), alpha=st.floats(0.2, 5), seed=seeds)
def test_anchors_are_the_equations_as_loops(n, classes, alpha, seed):
    x, prior, texts, _ = reference.world(n, classes, 5, seed, shots=classes)
    found = transduct(x, prior, anchors=texts, anchoring=alpha, rounds=3, inner=2)
    z, mu, sigma = reference.anchored(x, prior, reference.knn_graph(x), texts, alpha, rounds=3, inner=2)
    close(found.assignments, z, atol=1e-9)
    close(found.prototypes, mu, atol=1e-9)
    close(found.variance, sigma, atol=1e-10)


def test_an_anchor_of_many_images_stays_and_of_none_goes():
    x, prior, texts, _ = reference.world(40, 3, 8, 0, shots=3)
    close(transduct(x, prior, anchors=texts, anchoring=1e9).prototypes, texts, atol=1e-6)
    gone = transduct(x, prior, anchors=texts, anchoring=0.0)
    assert (gone.prototypes * texts).sum(1).max() < 0.999


def test_given_sizes_hold_in_the_answer_and_zero_balance_changes_nothing():
    x, prior, *_ = reference.world(60, 3, 8, 1)
    sizes = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    held = transduct(x, prior, sizes=sizes)
    close(held.assignments.mean(0), sizes, atol=1e-3)
    close(held.assignments, held.logits.softmax(1), atol=1e-9)
    free, plain = transduct(x, prior, sizes=sizes, balance=0.0), transduct(x, prior)
    assert torch.equal(free.assignments, plain.assignments)
    between = transduct(x, prior, sizes=sizes, balance=0.7).assignments.mean(0)
    assert (between - sizes).abs().sum() < (plain.assignments.mean(0) - sizes).abs().sum()


def test_sizes_unlike_the_list_are_told():
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 20)
    even = torch.nn.functional.one_hot(labels, 3).double()
    assert unlike_the_list(even) == ""
    assert unlike_the_list(torch.nn.functional.one_hot(labels, 4).double()) == "1 of 4 classes have no image"
    most = torch.nn.functional.one_hot(torch.tensor([0] * 90 + [1] * 10), 3).double()
    assert unlike_the_list(most) == "1 of 3 classes have no image and one class has 90 of 100 images"
    few = torch.nn.functional.one_hot(torch.arange(6), 40).double()  # fewer images than classes: nothing to wonder at
    assert unlike_the_list(few) == "" and answer(few).tolist() == list(range(6))


@pytest.mark.parametrize("how", SIZES)
def test_the_loop_holds_sizes_as_its_settings_say(encoder, glyphs, monkeypatch, how):
    given = []

    def seen(features, prior, **options):
        given.append((prior, options))
        return transduct(features, prior, **options)

    monkeypatch.setattr(from_texts, "transduct", seen)
    bank = Bank.from_template(DIGITS, "a picture of the digit {}")
    loop.run(encoder, glyphs[0], DIGITS, settings_for("embedded", iterations=1, **SIZES[how]), attributes=bank, progress=False)
    (prior, options), texts = given[0], [encoder.encode_texts(of_class) for of_class in bank.texts]
    wanted = {"estimated": estimated_sizes(prior), "equal": torch.full((10,), 0.1, dtype=prior.dtype)}.get(how)
    assert (options["sizes"] is None) == (wanted is None) and (wanted is None or torch.equal(options["sizes"], wanted))
    assert (options["anchors"] is None) == (how != "anchored")
    if how == "anchored":
        close(options["anchors"], torch.cat(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors": torch.eye(4)[:2]}, "anchors has 2 rows and prior 3 columns; give one text feature for each class"),
        ({"sizes": torch.full((3,), 1 / 3), "balance": 1.5}, "balance is 1.5; 0 leaves the sizes of classes free, and 1 holds them"),
    ],
)
def test_what_cannot_hold_sizes_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        transduct(torch.eye(4), torch.full((4, 3), 1 / 3), **options)
