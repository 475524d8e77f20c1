"""A second encoder in the mixture, the graph and the loop: against loops, and what must hold of any answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from golden import close
from gta import encoders, loop
from gta.affinity import SAMPLE, _drawn, agreement, knn_graph, smoother
from gta.attributes import Bank
from gta.encoders.images import as_images
from gta.generate import confused_pairs
from gta.transduct import posterior, text_prior, transduct
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for

seeds = st.integers(0, 10**6)


def two_views(n, classes, seed, shots=0):
    x, prior, support, labels = reference.world(n, classes, 5, seed, shots=shots)
    turn = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    view = torch.cat([x, support]) @ turn
    view = view / view.norm(dim=1, keepdim=True)
    return x, prior, support, labels, view[:n], view[n:]


@settings(max_examples=8, deadline=None)
@given(n=st.integers(4, 12), classes=st.integers(1, 4), shots=st.integers(0, 5), seed=seeds)
def test_a_view_is_one_more_gaussian_as_loops(n, classes, shots, seed):
    x, prior, support, labels, view, of_support = two_views(n, classes, seed, shots)
    graph = reference.knn_graph(x, support)
    few = {"support_features": support, "support_labels": labels, "support_view": of_support, "gamma": 0.2} if shots else {}
    found = transduct(x, prior, view=view, affinity=graph, lam=0.7, rounds=3, inner=2, **few)
    both = [torch.cat(rows) for rows in zip(x, view, strict=True)], [torch.cat(rows) for rows in zip(support, of_support, strict=True)]
    given = {"lam": 0.7, "gamma": 0.2 * bool(shots), "rounds": 3, "inner": 2, "first": 5}
    z, mu, sigma, objective = reference.transduct(both[0], prior, graph, labels.tolist(), both[1], **given)
    close(found.assignments, z, atol=1e-9)
    close(torch.cat([found.prototypes, found.view_prototypes], 1), mu, atol=1e-9)
    close(torch.cat([found.variance, found.view_variance]), sigma, atol=1e-10)
    assert found.objective == pytest.approx(objective, rel=1e-9, abs=1e-9)


def test_the_same_view_twice_counts_twice_and_a_constant_one_not_at_all():
    """Equal features make each Gaussian twice as sharp, which is one view at half the temperature; a constant view tells nothing."""
    x, prior, *_ = reference.world(50, 4, 8, 3)
    graph = knn_graph(x)
    twice, once = transduct(x, prior, view=x, affinity=graph), transduct(x, prior, affinity=graph)
    close(twice.prototypes, twice.view_prototypes, atol=1e-12)
    constant = torch.eye(6, dtype=torch.float64)[:1].expand(50, 6)
    close(transduct(x, prior, view=constant, affinity=graph).assignments, once.assignments, atol=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gta.transduct.solver.TEMPERATURE", 25.0)
        close(transduct(x, prior, affinity=graph).assignments, twice.assignments, atol=1e-9)


def test_the_graph_is_that_of_the_view_whose_neighbours_agree_more():
    x, prior, support, labels, *_ = two_views(60, 3, 5, shots=4)
    noise = torch.nn.functional.normalize(torch.randn(64, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1)
    graph = reference.knn_graph(x)
    together = [float((prior[i] * prior[k]).sum()) for i in range(60) for k in graph[i].nonzero()[:, 0]]
    assert agreement(x, prior, torch.arange(60)) == pytest.approx(sum(together) / 180, rel=1e-9)
    first, second = (x, support), (noise[:60], noise[60:])
    assert smoother(first, second, prior) is first and smoother(second, first, prior) is first
    assert smoother(first, (x.clone(), support), prior) is first  # of equals the first
    free = transduct(x, prior, view=noise[:60]).assignments
    assert torch.equal(free, transduct(x, prior, view=noise[:60], affinity=knn_graph(x)).assignments)
    given = {"support_features": noise[60:], "support_labels": labels, "view": x, "support_view": support}
    free = transduct(noise[:60], prior, **given).assignments
    assert torch.equal(free, transduct(noise[:60], prior, **given, affinity=knn_graph(x, support)).assignments)


def test_a_large_data_set_is_compared_by_images_that_their_content_draws():
    x, prior, *_ = reference.world(SAMPLE + 500, 3, 4, dtype=torch.float32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    drawn, again = _drawn(x), _drawn(x[order])
    assert len(drawn) == SAMPLE and torch.equal(order[again].sort().values, drawn)  # the same images
    assert agreement(x, prior, drawn) == pytest.approx(float((prior[:, None] * prior[_near(x)]).sum(2).mean()), rel=0.02)  # of all images


def _near(x):
    return (x @ x.T).fill_diagonal_(-2).topk(3, 1).indices


def test_new_images_are_labelled_with_both_views():
    x, prior, *_, view, _ = two_views(40, 3, 2)
    found = transduct(x, prior, view=view, affinity=torch.zeros(40, 40).to_sparse())
    given = {"view": view, "view_prototypes": found.view_prototypes, "view_variance": found.view_variance}
    close(posterior(x, prior, found.prototypes, found.variance, **given), found.assignments, atol=1e-9)
    assert (posterior(x, prior, found.prototypes, found.variance) - found.assignments).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": slice(0, 5)}, r"view has 5 rows and features has 12; a view holds the same images in the same order"),
        ({"support_view": None}, r"support_view has 0 rows for 4 support images; encode them with the view too"),
        ({"view": 3.0}, r"view\[0\] has norm"),
    ],
)
def test_a_view_that_cannot_be_right_is_refused(change, message):
    x, prior, support, labels, view, of_support = two_views(12, 3, 0, shots=4)
    given = {"view": view, "support_view": of_support}
    for name, how in change.items():
        given[name] = None if how is None else given[name][how] if isinstance(how, slice) else given[name] * how
    with pytest.raises(ValueError, match=message):
        transduct(x, prior, support_features=support, support_labels=labels, **given)


def test_the_loop_takes_a_view_in_every_transduction_and_keeps_it_as_it_is(encoder, glyphs, tmp_path):
    images, _ = glyphs
    other, bank = encoders.load("embedded", seed=1, device="cpu"), Bank.from_template(DIGITS, "a picture of the digit {}")
    view = other.encode_images(as_images(images, other, False).pixels)
    before = view.clone()
    options = {"settings": settings_for("embedded", iterations=2), "attributes": bank, "progress": False, "checkpoints": tmp_path}
    two, one = loop.run(encoder, images, DIGITS, **options, view=view), loop.run(encoder, images, DIGITS, **options)
    assert two.view_prototypes.shape == (10, view.shape[1]) and one.view_prototypes is None
    assert (two.assignments - one.assignments).abs().max() > 1e-3  # and the checkpoints of one are not those of the other
    assert torch.equal(view, before)
    x = encoder.encode_images(as_images(images, encoder, False).pixels)
    prior = text_prior(x, [encoder.encode_texts(of_class) for of_class in bank.texts], encoder.logit_scale)
    assert torch.equal(two.calls[0, 0].long(), transduct(x, prior, view=view).assignments.argmax(1))
    with pytest.raises(ValueError, match="view has 5 rows for 60 images"):
        loop.run(encoder, images, DIGITS, **options, view=view[:5])


def test_pairs_are_counted_on_z_as_sharp_as_that_of_one_view(encoder, glyphs, guide_llm, monkeypatch):
    """The same features as both views make the logits of one view, but for the prior, twice: their half is what the margin is meant for."""
    images, _ = glyphs
    counted = []

    def counting(z, margin):
        counted.append(z)
        return confused_pairs(z, margin)

    monkeypatch.setattr(loop, "confused_pairs", counting)
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    view = encoder.encode_images(as_images(images, encoder, False).pixels)
    options = {"settings": settings_for("embedded", iterations=1), "attributes": bank, "llm": guide_llm, "progress": False}
    loop.run(encoder, images, DIGITS, **options, view=view)
    texts = [encoder.encode_texts(of_class) for of_class in bank.texts]
    first = transduct(view, text_prior(view, texts, encoder.logit_scale), view=view)
    close(counted[0], (first.logits / 2).softmax(1), atol=1e-9)
    assert counted[0].amax(1).mean() < first.assignments.amax(1).mean()
