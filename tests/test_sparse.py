"""The sparse solver: equal to the dense one where nothing is left out, to a loop where something is, and within its formula of bytes."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from gta.adapt import confident_images
from gta.affinity import largest
from gta.generate import confused_pairs
from gta.labels import SparseZ, answer, likeliest, share_of, tied, unlike_the_list
from gta.transduct import INNER, LAPLACIAN, select_gamma, sparse, text_prior, transduct

SCALE = 8.0


def world(n, classes, d=12, seed=0, shots=0):
    """Features of query and support images, labels of the support, and texts, some classes with two."""
    generator = torch.Generator().manual_seed(seed)
    x, _, support, labels = reference.world(n, classes, d, seed, shots=shots)
    centres = reference.unit(torch.randn(classes, d, generator=generator, dtype=torch.float64))
    texts = [reference.unit(centre + 0.2 * torch.randn(1 + j % 2, d, generator=generator).double()) for j, centre in enumerate(centres)]
    return x, support, labels, texts


def few(support, labels):
    return {"support_features": support, "support_labels": labels} if len(labels) else {}


@settings(deadline=None, max_examples=15)
@given(n=st.integers(2, 40), classes=st.integers(1, 9), shots=st.sampled_from([0, 5]), block=st.integers(1, 200), seed=st.integers(0, 9))
def test_with_every_entry_held_it_is_the_dense_solver(n, classes, shots, block, seed):
    x, support, labels, texts = world(n, classes, 12, seed, shots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "BLOCK", block)
        found = sparse.transduct(x, texts, SCALE, **few(support, labels))
    dense = transduct(x, text_prior(x, texts, SCALE), **few(support, labels))
    torch.testing.assert_close(found.z[:], dense.assignments, atol=1e-11, rtol=0)
    torch.testing.assert_close(found.prototypes, dense.prototypes, atol=1e-11, rtol=0)
    torch.testing.assert_close(found.variance, dense.variance, atol=0, rtol=1e-9)
    torch.testing.assert_close(torch.tensor(found.objective), torch.tensor(dense.objective), atol=1e-8, rtol=1e-9)
    assert answer(found.z).tolist() == answer(dense.assignments).tolist() and not found.z.rest.any()


def by_loop(x, texts, graph, keep, rounds):
    """The sparse updates, an image after the other. `graph` is dense W + W^T. Returns classes, z and rest of each image."""
    text = torch.stack([SCALE * of.mean(0) for of in texts])
    n, m = len(x), len(texts)
    prior = (x @ text.T).softmax(1)
    z, held = torch.zeros(n, m, dtype=x.dtype), [sorted(sorted(range(m), key=lambda j: (-row[j], j))[:keep]) for row in prior.tolist()]
    for i in range(n):
        z[i, held[i]] = prior[i, held[i]]
    mu, sigma = [], torch.full_like(x[0], 1 / x.shape[1])
    for j in range(m):
        confident = sorted(range(n), key=lambda i: (-float(prior[i, j]), i))[:8]
        mu.append(reference.unit(sum(prior[i, j] * x[i] for i in confident)))
    for step in range(rounds + 1):
        unary = torch.stack([row @ text.T + torch.stack([-((row - of) ** 2 / sigma).sum() / 100 for of in mu]) for row in x])
        logits = unary + LAPLACIAN * graph @ z
        held = [sorted(sorted(range(m), key=lambda j: (-row[j], j))[:keep]) for row in logits.tolist()]
        left = [[j for j in range(m) if j not in of] for of in held]
        others = [logits[i, left[i]].exp().sum() for i in range(n)]
        for _ in range(INNER):
            logits, after, rest = unary + LAPLACIAN * graph @ z, torch.zeros_like(z), []
            for i in range(n):
                total = logits[i, held[i]].exp().sum() + others[i]
                after[i, held[i]] = logits[i, held[i]].exp() / total
                rest.append(float(others[i] / total))
            z = after
        if step < rounds:
            centre = x.mean(0)
            mu = [reference.unit(z[:, j] @ x) if z[:, j].sum() > 1e-12 else mu[j] for j in range(m)]
            of_classes = sum(z[i, j] * (x[i] - mu[j]) ** 2 for i in range(n) for j in held[i])
            sigma = (of_classes + sum(rest[i] * (x[i] - centre) ** 2 for i in range(n))) / n  # the rest as if it lay at the mean image
    return held, z, torch.tensor(rest, dtype=x.dtype)


@pytest.mark.parametrize(("keep", "rounds"), [(2, 0), (2, 3), (4, 2)])
def test_with_some_entries_held_it_is_the_loop(keep, rounds):
    x, _, _, texts = world(14, 6, seed=keep)
    graph = reference.knn_graph(x)
    held, z, rest = by_loop(x, texts, graph + graph.T, keep, rounds)
    found = sparse.transduct(x, texts, SCALE, keep=keep, rounds=rounds)
    assert found.z.classes.tolist() == held
    torch.testing.assert_close(found.z[:], z, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.z.rest, rest, atol=1e-9, rtol=0)
    assert rest.max() > 1e-3, "this test tells nothing if nothing is left out"


def test_pairs_confident_images_and_likeliest_classes_are_those_of_the_whole_z():
    x, _, _, texts = world(60, 7, seed=3)
    found, dense = sparse.transduct(x, texts, SCALE), transduct(x, text_prior(x, texts, SCALE))
    z = found.z
    assert confused_pairs(z, 0.5) == confused_pairs(dense.assignments, 0.5) != []
    chosen, expected = confident_images(z, 3), confident_images(dense.logits, 3)
    assert chosen.images.tolist() == expected.images.tolist() and torch.equal(chosen.classes, expected.classes)
    assert torch.equal(likeliest(z, 3), likeliest(dense.assignments, 3)) and torch.equal(tied(z), tied(dense.assignments))
    assert unlike_the_list(z) == unlike_the_list(dense.assignments)
    torch.testing.assert_close(share_of(z, likeliest(z, 2)), dense.assignments.gather(1, likeliest(z, 2)), atol=1e-11, rtol=0)


def test_of_a_few_entries_the_confident_images_hold_their_class():
    x, _, _, texts = world(60, 7, seed=3)
    z = sparse.transduct(x, texts, SCALE, keep=3).z
    chosen = confident_images(z, 5)
    for row, classes in zip(chosen.images.tolist(), chosen.classes, strict=True):
        assert set(classes.nonzero()[:, 0].tolist()) <= set(z.classes[row].tolist())
    assert (share_of(z, torch.arange(7).expand(60, -1)) == z[:]).all(), "what is not held is 0"


def test_equal_images_are_chosen_by_their_key_from_a_sparse_z_too():
    z = SparseZ(
        torch.tensor([[0, 1]] * 5), torch.tensor([[0.9, 0.1], *[[0.7, 0.3]] * 3, [0.1, 0.9]], dtype=torch.float64), torch.zeros(5), 3
    )
    for key in (lambda row: bytes([row]), lambda row: bytes([9 - row])):
        mine, theirs = confident_images(z, 2, key), confident_images(z[:][:, :2].log(), 2, key)
        assert mine.images.tolist() == theirs.images.tolist()
        assert torch.equal(mine.classes[:, :2], theirs.classes) and not mine.classes[:, 2].any()


@pytest.mark.parametrize("rows", [2, [0, 3], slice(1, 3), torch.tensor([True, False, False, True])])
def test_rows_are_those_of_the_whole_tensor(rows):
    generator = torch.Generator().manual_seed(0)
    whole = torch.rand(4, 6, generator=generator)
    z = SparseZ(torch.arange(6).expand(4, -1), whole, torch.zeros(4), 6)
    assert torch.equal(z[rows], whole[rows]) and z.shape == whole.shape
    assert all(torch.equal(a, b) for a, b in zip(z, whole, strict=True))
    with pytest.raises(TypeError, match="by rows alone"):
        z[:, 0]


def test_without_rounds_it_is_the_prior():
    x, _, _, texts = world(20, 6, seed=1)
    prior, found = text_prior(x, texts, SCALE), sparse.transduct(x, texts, SCALE, keep=2, rounds=0, inner=0).z
    assert torch.equal(found.classes.long(), largest(prior, 2).sort(1).values)
    torch.testing.assert_close(found.values, prior.gather(1, found.classes.long()))
    torch.testing.assert_close(found.rest, 1 - found.values.sum(1))


def test_gamma_is_chosen_as_by_the_dense_solver():
    x, support, labels, texts = world(50, 4, seed=5, shots=16)
    judged = (support[:8], labels[:8], support[8:], labels[8:])
    gamma, found = sparse.select_gamma(x, texts, *judged, gammas=(0.002, 0.2, 2.0), logit_scale=SCALE)
    expected, dense = select_gamma(x, text_prior(x, texts, SCALE), *judged, gammas=(0.002, 0.2, 2.0))
    assert gamma == expected
    torch.testing.assert_close(found.z[:], dense.assignments, atol=1e-11, rtol=0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 50))
def test_the_largest_entries_are_found_in_groups_too(seed):
    """Of equal values the lower index, however many there are."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(20, 16 * 4 * 3 + seed, generator=generator).mul(1 + seed % 3).round()
    assert sparse._largest(values, 3).sort(1).values.tolist() == largest(values, 3).sort(1).values.tolist()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process can be set back on Linux alone")
def test_memory_stays_within_the_formula(monkeypatch):
    n, m, d, keep = 6000, 2000, 32, 16
    monkeypatch.setattr(sparse, "BLOCK", 2**18)
    x = torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)), dim=1)
    ring = torch.stack([torch.arange(n), torch.arange(n).roll(1)])
    graph = torch.sparse_coo_tensor(ring, torch.full((n,), 0.5), (n, n), check_invariants=True)
    texts = x[:m, None].clone()

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = peak()
    sparse.transduct(x, texts, 20.0, keep=keep, affinity=graph, rounds=1)
    rise = peak() - before
    assert rise < sparse.bytes_of(n, m, d, keep) + 2**23, "more than the formula and 8 MB of the allocator's own"
    assert sparse.bytes_of(n, m, d, keep) < 4 * n * m / 2, "not even half of one (N, M) matrix"


@pytest.mark.parametrize(
    ("wrong", "told"), [({"keep": 0}, "keep is 0"), ({"inner": 0}, "inner is 0 and rounds is 10"), ({"lam": -1.0}, "lam")]
)
def test_what_cannot_be_right_is_named(wrong, told):
    x, _, _, texts = world(5, 3)
    with pytest.raises(ValueError, match=told):
        sparse.transduct(x, texts, **wrong)
    with pytest.raises(ValueError, match=r"text_features\[1\]"):
        sparse.transduct(x, [texts[0], 2 * texts[1]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shots", [0, 20])
def test_a_gpu_gives_the_same(shots):
    x, support, labels, texts = world(500, 60, 32, seed=1, shots=shots)
    on_cpu = sparse.transduct(x, texts, SCALE, keep=16, **few(support, labels))
    on_gpu = sparse.transduct(x.cuda(), [of.cuda() for of in texts], SCALE, keep=16, **few(support.cuda(), labels))
    assert torch.equal(on_gpu.z.classes.cpu(), on_cpu.z.classes)
    torch.testing.assert_close(on_gpu.z.values.cpu(), on_cpu.z.values, atol=1e-9, rtol=0)
    assert on_gpu.objective == pytest.approx(on_cpu.objective)
    mine, theirs = confident_images(on_gpu.z.cpu(), 8), confident_images(on_cpu.z, 8)
    assert torch.equal(mine.classes, theirs.classes)
    assert confused_pairs(on_gpu.z, 0.5) == confused_pairs(on_cpu.z, 0.5)
