"""The solver against the equations as loops, the authors' own answers, and what must hold of any answer."""

import subprocess
import sys
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gta.transduct
import reference
from golden import GOLDEN, MORE_GOLDEN, close, golden, sparse
from gta.affinity import knn_graph
from gta.files import ROOT
from gta.labels import TIE, answer, likeliest, log_odds, tied
from gta.transduct import GAMMAS, Transduction, select_gamma, text_prior, transduct

RISE = 1e-4  # J an image a round, that gta.transduct says it may rise by
seeds = st.integers(0, 10**6)


def zero_shot_cases():
    names = sorted({file.stem for folder in (GOLDEN, MORE_GOLDEN) for file in folder.glob("*_n*_k*.npz")})
    arrays = {name: golden(name) for name in names}
    return [(name, run) for name in names for run in ("single", "attr", "initproto") if f"{run}_z64" in arrays[name]]


def texts_of(case, run):
    if run == "attr":
        return case["attr_features"].split(case["attr_counts"].tolist())
    return case["clip_prototypes" if run == "single" else "initial_prototypes"].T[:, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "run"), zero_shot_cases())
def test_zero_shot_answers_of_the_released_solver(name, run, dtype):
    case = golden(name)
    x = case["query_features"].to(dtype)
    prior = text_prior(x, texts_of(case, run))
    close(prior, case[f"{run}_y_hat"])
    close(transduct(x, prior, rounds=0).assignments, case[f"{run}_z_after_first_update"])
    first = transduct(x, prior, rounds=1)
    close(first.prototypes, case[f"{run}_mu_iter1"])
    close(first.variance, case[f"{run}_sigma_iter1"], rtol=5e-5, atol=0)
    result = transduct(x, prior)
    close(result.assignments, case[f"{run}_z64"])
    close(result.prototypes, case[f"{run}_mu"])
    close(result.variance, case[f"{run}_sigma"], rtol=5e-5, atol=0)
    assert torch.equal(result.assignments.argmax(1), case[f"{run}_pred"])
    assert_hardly_rises(result.objective, len(x))


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_few_shot_answers_of_the_released_solver_once_its_graph_is_aligned(shots):
    case = golden("fs_n300_k10_d48")
    s = {key.removeprefix(f"s{shots}_"): value for key, value in case.items() if key.startswith(f"s{shots}_")}
    x, support = case["query_features"], s["support_features"]
    prior = text_prior(x, texts_of(case, "single"))
    row = torch.where(s["W_rows"] < len(support), s["W_rows"] + len(x), s["W_rows"] - len(support))  # query rows first
    graph = sparse(row, s["W_cols"], s["W_vals"], (len(x) + len(support), len(x)))
    for gamma, expected in zip(GAMMAS, s["z_aligned_per_gamma"], strict=True):
        few = {"support_features": support, "support_labels": s["support_labels"], "gamma": gamma}
        result = transduct(x, prior, **few, affinity=graph)
        close(result.assignments, expected, atol=1e-5)
        assert_hardly_rises(result.objective, len(x))
        own = transduct(x, prior, **few).assignments  # every shot pulls its nearest image too, which that graph leaves out
        assert (own - expected).abs().max() > 1e-3


def assert_hardly_rises(objective, images):
    assert len(objective) == 10
    assert max(np.diff(objective)) <= RISE * images


@settings(max_examples=8, deadline=None)
@given(n=st.integers(4, 12), classes=st.integers(1, 4), shots=st.integers(0, 6), gamma=st.sampled_from([0.0, 0.01, 0.2]), seed=seeds)
def test_is_the_equations_as_loops(n, classes, shots, gamma, seed):
    """Shots are drawn, so classes may lack them; with fewer than 8 images all are the confident ones."""
    x, prior, support, labels = reference.world(n, classes, 5, seed, shots=shots)
    few = {"support_features": support, "support_labels": labels, "gamma": gamma} if shots else {}
    result = transduct(x, prior, lam=0.7, rounds=3, inner=2, **few)
    graph = reference.knn_graph(x, support)
    z, mu, sigma, objective = reference.transduct(x, prior, graph, labels.tolist(), support, lam=0.7, gamma=gamma, rounds=3, inner=2)
    close(result.assignments, z, atol=1e-9)
    close(result.prototypes, mu, atol=1e-9)
    close(result.variance, sigma, atol=1e-10)
    assert result.objective == pytest.approx(objective, rel=1e-9, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=5), seed=seeds)
def test_text_prior_is_the_softmax_of_mean_cosines(counts, seed):
    x = reference.world(3, 2, 6, seed)[0]
    texts = [reference.world(count, 2, 6, seed + 1 + j)[0] for j, count in enumerate(counts)]
    for i, row in enumerate(text_prior(x, texts, logit_scale=20.0)):
        weights = [np.exp(20 * np.mean([float((x[i] * text).sum()) for text in of_class])) for of_class in texts]
        assert row.tolist() == pytest.approx([weight / sum(weights) for weight in weights])


@settings(max_examples=20, deadline=None)
@given(n=st.integers(5, 40), classes=st.integers(1, 6), shots=st.integers(0, 8), seed=seeds)
def test_order_of_images_and_classes_is_of_no_account_and_inputs_stay(n, classes, shots, seed):
    x, prior, support, labels = reference.world(n, classes, 8, seed, shots=shots)
    generator = torch.Generator().manual_seed(seed)
    images, order = torch.randperm(n, generator=generator), torch.randperm(classes, generator=generator)
    before = [tensor.clone() for tensor in (x, prior, support, labels)]
    few = {"support_features": support, "support_labels": labels} if shots else {}
    plain = transduct(x, prior, **few)
    assert all(map(torch.equal, before, (x, prior, support, labels)))
    close(plain.assignments.sum(1), torch.ones(n), atol=1e-12)
    few = {"support_features": support, "support_labels": order.argsort()[labels]} if shots else {}
    permuted = transduct(x[images], prior[images][:, order], **few)
    close(permuted.assignments, plain.assignments[images][:, order], atol=1e-8)
    close(permuted.prototypes, plain.prototypes[order], atol=1e-8)
    assert permuted.objective == pytest.approx(plain.objective, rel=1e-9, abs=1e-8)


def test_float32_keeps_to_float64():
    x, prior, *_ = reference.world(1500, 60, 256, dtype=torch.float32)
    single, double = transduct(x, prior), transduct(x.double(), prior.double())
    assert single.assignments.dtype == torch.float32
    assert double.assignments.dtype == torch.float64
    close(single.assignments, double.assignments)
    assert single.objective == pytest.approx(double.objective, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, prior, support, labels = reference.world(30, 4, 16, dtype=torch.float32, shots=6)
    texts = [text[None].to(dtype) for text in support[:4]]
    assert torch.equal(text_prior(x.to(dtype), texts), text_prior(x.to(dtype).float(), [text.float() for text in texts]))
    mixed = transduct(x.to(dtype), prior.double(), support_features=support.to(dtype), support_labels=labels.short())
    single = transduct(x.to(dtype).float(), prior, support_features=support.to(dtype).float(), support_labels=labels)
    assert torch.equal(mixed.assignments, single.assignments)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(4, 25), classes=st.integers(2, 5), shots=st.integers(0, 6), seed=seeds)
def test_objective_never_rises_with_free_prototypes_and_a_semidefinite_graph(n, classes, shots, seed):
    x, prior, support, labels = reference.world(n, classes, 6, seed, shots=shots)
    graph = knn_graph(x, support if shots else None).to_dense()
    graph[:n] += torch.diag(graph[:n].sum(1) / 2 + graph[:n].sum(0) / 2)  # diagonally dominant: W + W^T has no negative eigenvalue
    few = {"support_features": support, "support_labels": labels} if shots else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gta.transduct.solver, "unit_means", lambda sums, counts, *_: sums / counts.clamp_min(1e-300)[:, None])
        objective = transduct(x, prior, affinity=graph, inner=1, rounds=15, **few).objective
    assert max(np.diff(objective)) <= 1e-9 * n


@settings(max_examples=25, deadline=None)
@given(n=st.integers(4, 30), classes=st.integers(2, 5), seed=seeds)
def test_label_updates_never_raise_the_objective_on_the_default_graph(n, classes, seed):
    """As long as no eigenvalue of W + W^T is below -12: here none is."""
    x, prior, *_ = reference.world(n, classes, 6, seed)
    graph = knn_graph(x).to_dense()
    assert torch.linalg.eigvalsh(graph + graph.T)[0] >= -12
    start = transduct(x, prior, rounds=1)
    log_p = -0.5 * ((x[:, None] - start.prototypes) ** 2 / start.variance).sum(2)

    def objective(z):
        return -(z * log_p).sum() / 50 - (z * (graph @ z)).sum() / 6 + torch.xlogy(z, z).sum() - (z * prior.log()).sum()

    values = [float(objective(transduct(x, prior, start=start, rounds=0, inner=inner).assignments)) for inner in range(6)]
    assert max(np.diff(values)) <= 1e-10 * n


@settings(max_examples=20, deadline=None)
@given(n=st.integers(20, 60), classes=st.integers(2, 6), seed=seeds)
def test_objective_hardly_rises_by_default(n, classes, seed):
    x, prior, *_ = reference.world(n, classes, 24, seed)
    assert_hardly_rises(transduct(x, prior).objective, n)


def test_one_class_and_one_image():
    x, prior, *_ = reference.world(5, 3, 4, dtype=torch.float32)
    assert torch.equal(transduct(x, torch.ones(5, 1)).assignments, torch.ones(5, 1))
    alone = transduct(x[:1], prior[:1])  # no neighbour, and every prototype is the image itself: the text alone decides
    close(alone.assignments, prior[:1], atol=1e-6)
    close(alone.prototypes, x[:1].expand(3, -1), atol=1e-6)


def test_equal_images_keep_the_text_and_one_answer():
    x, prior, *_ = reference.world(1, 3, 6, dtype=torch.float32)
    result = transduct(x.expand(20, -1), prior.expand(20, -1))
    assert (result.assignments.argmax(1) == prior[0].argmax()).all()
    close(result.prototypes, x.expand(3, -1), atol=1e-6)
    assert np.isfinite(result.objective).all()


def test_of_equally_confident_images_the_first_make_the_prototype():
    x, *_ = reference.world(30, 2, 6)
    prior = torch.full((30, 2), 0.5, dtype=torch.float64)
    prior[4] = torch.tensor([0.9, 0.1])
    result = transduct(x, prior, rounds=0, inner=0)
    first = prior[[4, 0, 1, 2, 3, 5, 6, 7], 0] @ x[[4, 0, 1, 2, 3, 5, 6, 7]]
    close(result.prototypes[0], first / first.norm(), atol=1e-12)
    close(result.prototypes[1], x[[0, 1, 2, 3, 5, 6, 7, 8]].mean(0) / x[[0, 1, 2, 3, 5, 6, 7, 8]].mean(0).norm(), atol=1e-12)


@pytest.mark.parametrize("lam", [None, 0.0])
def test_a_prior_of_zeros_and_ones(lam):
    """A zero rules a class out, unless the prior has no weight."""
    x, prior, *_ = reference.world(40, 4, 8, dtype=torch.float32)
    hard = torch.nn.functional.one_hot(prior[:, :3].argmax(1), 4).float()  # nothing speaks for the last class
    result = transduct(x, hard, lam=lam)
    assert all(tensor.isfinite().all() for tensor in (result.assignments, result.prototypes, result.variance))
    assert np.isfinite(result.objective).all()
    close(result.prototypes.norm(dim=1), torch.ones(4), atol=1e-6)
    assert torch.equal(result.assignments, hard) == (lam is None)


def test_a_class_opposite_to_all_images_changes_nothing_for_the_others():
    x, _, texts, _ = reference.world(40, 3, 8, dtype=torch.float32, shots=3)
    opposite = -x.mean(0, keepdim=True) / x.mean(0).norm()
    with_it = transduct(x, text_prior(x, [*texts[:, None], opposite]))
    without = transduct(x, text_prior(x, texts[:, None]))
    assert torch.equal(with_it.assignments[:, 3], torch.zeros(40))
    close(with_it.assignments[:, :3], without.assignments, atol=1e-6)
    assert np.isfinite(with_it.objective).all()


def test_an_image_opposite_to_all_texts():
    x, _, texts, _ = reference.world(40, 3, 8, dtype=torch.float32, shots=3)
    x[7] = -texts.mean(0) / texts.mean(0).norm()
    result = transduct(x, text_prior(x, texts[:, None]))
    assert result.assignments.isfinite().all()
    close(result.assignments.sum(1), torch.ones(40), atol=1e-6)


def test_columns_of_zeros_are_no_evidence():
    """There the released arithmetic divides 0 by 0. From a given state, for sigma begins at 1 / d."""
    x, prior, *_ = reference.world(40, 4, 8)
    start = transduct(x, prior, rounds=1)
    padding = torch.nn.functional.pad
    mixture = (padding(start.prototypes, (0, 2)), padding(start.variance, (0, 2), value=1.0))
    wider = Transduction(start.assignments, start.logits, *mixture, [])
    padded = transduct(padding(x, (0, 2)), prior, start=wider, rounds=3).assignments
    close(padded, transduct(x, prior, start=start, rounds=3).assignments, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_changes_nothing_beyond_rounding():
    x, prior, support, labels = reference.world(300, 8, 32, dtype=torch.float32, shots=20)
    few = {"support_features": support, "support_labels": labels}
    close(transduct(x.cuda(), prior, **few).assignments.cpu(), transduct(x, prior, **few).assignments)


def test_layout_and_gradients_of_inputs_are_of_no_account():
    x, prior, *_ = reference.world(40, 4, 8, dtype=torch.float32)
    plain = transduct(x, prior).assignments
    result = transduct(x.T.contiguous().T.requires_grad_(), prior.T.contiguous().T.requires_grad_()).assignments
    close(result, plain, atol=1e-6)
    assert not result.requires_grad


def test_starts_from_an_earlier_result():
    x, prior, *_ = reference.world(40, 4, 8)
    earlier = transduct(x, prior, rounds=2)
    again = transduct(x, prior, start=earlier, rounds=0, inner=0)
    assert torch.equal(again.assignments, earlier.assignments)
    assert again.assignments.data_ptr() != earlier.assignments.data_ptr()
    assert torch.equal(again.prototypes, earlier.prototypes)


def few_shot(seed=0):
    x, prior, support, labels = reference.world(60, 4, 8, seed, dtype=torch.float32, shots=30)
    return x, prior, support[:15], labels[:15], support[15:], labels[15:]


@pytest.mark.parametrize("seed", range(4))
def test_selects_the_first_of_the_best_gammas_by_the_nearest_query_images(seed):
    x, prior, support, labels, val, val_labels = few_shot(seed)
    gammas, right, results = (0.0, 0.002, 0.05, 2.0), [], []
    for gamma in gammas:
        results.append(transduct(x, prior, support_features=support, support_labels=labels, gamma=gamma))
        judge = [max(range(60), key=lambda i: float(image @ x[i])) for image in val]
        predictions = [int(results[-1].assignments[i].argmax()) for i in judge]
        right.append(sum(a == b for a, b in zip(predictions, val_labels.tolist(), strict=True)))
    gamma, result = select_gamma(x, prior, support, labels, val, val_labels, gammas=gammas)
    assert gamma == gammas[right.index(max(right))]
    assert torch.equal(result.assignments, results[right.index(max(right))].assignments)


def test_gamma_selection_names_what_is_wrong():
    x, prior, support, labels, val, val_labels = few_shot()
    with pytest.raises(ValueError, match=r"val_labels\[0\] is 9, outside 0\.\.3"):
        select_gamma(x, prior, support, labels, val, val_labels.index_fill(0, torch.tensor([0]), 9))
    with pytest.raises(ValueError, match=r"val_features\[3\] has norm nan"):
        select_gamma(x, prior, support, labels, val.index_fill(0, torch.tensor([3]), torch.nan), val_labels)
    with pytest.raises(ValueError, match="gammas is empty"):
        select_gamma(x, prior, support, labels, val, val_labels, gammas=())


def at(tensor, row, value):
    return tensor.index_fill(0, torch.tensor([row]), value)


WRONG = {
    r"features\[2\] has norm nan": lambda x, p, s, y: {"features": at(x, 2, torch.nan)},
    r"features\[0\] has norm inf": lambda x, p, s, y: {"features": at(x, 0, torch.inf)},
    r"features\[5\] has norm 0;": lambda x, p, s, y: {"features": at(x, 5, 0)},
    r"features\[0\] has norm 3.*divide each row": lambda x, p, s, y: {"features": 3 * x},
    "features must be a float matrix": lambda x, p, s, y: {"features": x[:0]},
    r"prior has shape \(59, 4\), expected \(60, classes\)": lambda x, p, s, y: {"prior": p[1:]},
    r"prior has shape \(60, 0\)": lambda x, p, s, y: {"prior": p[:, :0]},
    r"prior\[0\] is not a probability distribution.*divide each row": lambda x, p, s, y: {"prior": 2 * p},
    r"prior\[9\] is not a probability distribution": lambda x, p, s, y: {"prior": at(p, 9, torch.nan)},
    r"prior\[8\] is not a probability distribution": lambda x, p, s, y: {"prior": at(p, 8, 0)},
    r"prior\[3\] is not": lambda x, p, s, y: {"prior": torch.where(torch.arange(60)[:, None] == 3, torch.tensor([2.0, -1, 0, 0]), p)},
    r"support_features\[1\] has norm nan": lambda x, p, s, y: {"support_features": at(s, 1, torch.nan)},
    "support_features has 7 columns and features has 8": lambda x, p, s, y: {"support_features": s[:, 1:]},
    r"support_labels\[4\] is 4, outside 0\.\.3": lambda x, p, s, y: {"support_labels": at(y, 4, 4)},
    r"support_labels\[2\] is -1, outside 0\.\.3": lambda x, p, s, y: {"support_labels": at(y, 2, -1)},
    "support_labels must be 15 integers": lambda x, p, s, y: {"support_labels": y[1:]},
    r"support_labels must be 15 integers.*float32": lambda x, p, s, y: {"support_labels": y.float()},
    "go together": lambda x, p, s, y: {"support_labels": None},
    "lam is -1": lambda x, p, s, y: {"lam": -1},
    "gamma is nan": lambda x, p, s, y: {"gamma": float("nan")},
    "neighbors is 0": lambda x, p, s, y: {"neighbors": 0},
    r"affinity has shape \(60, 15\)": lambda x, p, s, y: {"affinity": torch.zeros(60, 15)},
    r"affinity has shape \(15, 15\)": lambda x, p, s, y: {"affinity": torch.zeros(15, 15)},
    "affinity has a weight that is not finite in row 6": lambda x, p, s, y: {"affinity": at(torch.zeros(60, 60), 6, torch.nan)},
}


@pytest.mark.parametrize("message", WRONG)
def test_refuses_what_cannot_be_right(message):
    x, prior, support, labels, *_ = few_shot()
    arguments = {"features": x, "prior": prior, "support_features": support, "support_labels": labels}
    transduct(**arguments)
    with pytest.raises(ValueError, match=message):
        transduct(**(arguments | WRONG[message](x, prior, support, labels)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: [x, x[:0]], r"text_features\[1\] is missing or empty"),
        (lambda x: [], r"text_features\[0\] is missing or empty"),
        (lambda x: [x, at(x, 1, 0)], r"text_features\[1\]\[1\] has norm 0"),
        (lambda x: [x, x[:, 1:]], r"text_features\[1\] has 7 columns and features has 8"),
        (lambda x: [x[:, 1:], x[:, 1:]], r"text_features\[0\] has 7 columns"),
        (lambda x: x, r"text_features\[0\] must be a float matrix"),
    ],
)
def test_text_prior_names_the_class_and_its_row(change, message):
    x, *_ = few_shot()
    with pytest.raises(ValueError, match=message):
        text_prior(x, change(x[:2]))


def test_import_needs_torch_alone():
    code = "import sys, torch; had = set(sys.modules); import gta.transduct; print({m.split('.')[0] for m in set(sys.modules) - had})"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd=ROOT).stdout
    assert eval(new) - sys.stdlib_module_names <= {"gta", "torch"}


@settings(max_examples=20, deadline=None)
@given(n=st.integers(4, 20), classes=st.integers(1, 5), inner=st.sampled_from([0, 1, 5]), rounds=st.integers(0, 2), seed=seeds)
def test_assignments_are_the_softmax_of_the_logits(n, classes, inner, rounds, seed):
    x, prior, *_ = reference.world(n, classes, 6, seed)
    result = transduct(x, prior, inner=inner, rounds=rounds)
    assert result.logits.dtype == torch.float64
    close(result.logits.softmax(1), result.assignments, atol=1e-12)


def log_odds_by_hand(row):
    """log( z_j / (1 - z_j) ) from the definition, with 300 decimal digits, in which no z rounds to 1."""
    with localcontext() as context:
        context.prec = 300
        weights = [Decimal(logit).exp() for logit in row]
        z = [weight / sum(weights) for weight in weights]
        return [float((p / (1 - p)).ln()) for p in z]


@settings(max_examples=30, deadline=None)
@given(m=st.integers(2, 6), spread=st.sampled_from([0.1, 3.0, 40.0]), seed=seeds)
def test_log_odds_are_those_of_the_definition(m, spread, seed):
    logits = spread * torch.randn(4, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.tensor([log_odds_by_hand(row) for row in logits.tolist()], dtype=torch.float64)
    close(log_odds(logits), expected, rtol=1e-12, atol=1e-13)


def test_log_odds_tell_images_apart_whose_z_is_one():
    """Logits 60 and more apart: in float32, and in float64 too, z is 1 to the last digit."""
    logits = torch.tensor([[60.0, 0, -5], [61, 0, -5], [0, 75, 14], [0, 0, 0]])
    z = logits.softmax(1)
    assert z[0, 0] == z[1, 0] == z[2, 1] == logits.double().softmax(1)[2, 1] == 1
    expected = torch.tensor([log_odds_by_hand(row) for row in logits.tolist()], dtype=torch.float64)
    close(log_odds(logits), expected, rtol=1e-6, atol=1e-6)
    close(log_odds(logits.double()), expected, rtol=1e-15, atol=1e-15)


def test_log_odds_of_a_class_that_is_ruled_out_and_of_the_only_class():
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [-torch.inf, 3.0, -torch.inf]])
    assert log_odds(logits)[0].tolist() == pytest.approx([-1, -torch.inf, 1])
    assert log_odds(logits)[1].tolist() == [-torch.inf, torch.inf, -torch.inf]
    assert log_odds(torch.zeros(2, 1)).tolist() == [[torch.inf], [torch.inf]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classes_with_the_same_texts_in_another_order_tie_and_the_first_wins(dtype):
    """Classes 1 and 3 have the same five texts; so do 0 and 4, which are far from all images."""
    x, _, texts, _ = reference.world(60, 3, 16, dtype=dtype, shots=20)
    order, far = torch.tensor([3, 1, 4, 0, 2]), -x[:3]
    of_class = [far, texts[:5], texts[5:9], texts[:5][order], far.flip(0)]
    prior = text_prior(x, of_class)
    assert torch.equal(prior[:, 1], prior[:, 3]) and torch.equal(prior[:, 0], prior[:, 4])
    for z in (prior, transduct(x, prior).assignments):
        close(z[:, 1], z[:, 3], atol=TIE / 2)
        labels = answer(z)
        assert set(labels.tolist()) == {1, 2}, "never the second of two equal classes"
        assert torch.equal(tied(z), labels == 1) and 0 < tied(z).sum() < 60
    alone = text_prior(x, of_class[:3])
    odds = (prior[:, 1] / prior[:, 2], alone[:, 1] / alone[:, 2])
    close(*odds, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=0)  # two equal classes take nothing from one of them


def test_equals_are_those_within_rounding_and_the_first_class_is_the_answer():
    z = torch.tensor([[0.2, 0.4, 0.4], [0.4 - TIE / 2, 0.4, 0.2], [0.4 - 3 * TIE, 0.4, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    assert answer(z).tolist() == [1, 0, 1, 2]
    assert tied(z).tolist() == [True, True, False, False]
    assert likeliest(z, 2).tolist() == [[1, 2], [0, 1], [1, 0], [2, 1]]
    assert likeliest(z, 5).tolist() == [[1, 2, 0], [0, 1, 2], [1, 0, 2], [2, 1, 0]]
    assert answer(torch.ones(3, 1)).tolist() == [0, 0, 0] and not tied(torch.ones(3, 1)).any()


def test_the_runner_up_of_a_sure_image_is_the_larger_of_two_small_ones():
    z = torch.tensor([[8e-10, 1 - 3e-8, 3e-8], [3e-8, 1 - 6e-8, 3e-8 * (1 + 1e-9)], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert likeliest(z, 3).tolist() == [[1, 2, 0], [1, 0, 2], [1, 0, 2]]


@given(n=st.integers(1, 6), m=st.integers(1, 6), count=st.integers(1, 7), seed=seeds)
def test_the_likeliest_are_those_of_a_sorted_list(n, m, count, seed):
    z = torch.randint(4, (n, m), generator=torch.Generator().manual_seed(seed)).double()
    assert likeliest(z, count).tolist() == [sorted(range(m), key=lambda j: (-row[j], j))[:count] for row in z.tolist()]
