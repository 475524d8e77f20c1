"""Step 2, transduct: the labels of all images at once, from image-image and image-text similarity.

The model is a Gaussian mixture with one shared diagonal covariance, a Laplacian on the k-nearest-neighbour graph, and a text
prior (GTA-CLIP, arXiv 2501.06031; TransCLIP, arXiv 2406.01837). The updates are the released ones. They minimise

    J(z, mu, sigma) = - (1/50) sum_i z_i . log p_i  -  (1/6) sum_ij w_ij z_i . z_j  +  sum_i z_i . (log z_i - lam log prior_i)
                      - (gamma N / S) sum_s z_s . log p_s          over support images, whose z_s is fixed one-hot

by updating z, then mu, then sigma; p_i are the densities of image i under each class. The z steps never raise J while no
eigenvalue of W + W^T is below -12. The other steps may raise it, but only because mu has unit norm: by up to 1e-4 an image in
a round in our tests.

Three options, each of which leaves the updates as they are where it is not given:
- view: features of a second encoder. Given the class the two are taken as independent, so p is the product of two Gaussians: one
  Gaussian on both features side by side, whose mu has unit norm in each. (Two models' densities also share z in arXiv 2506.13723.)
- anchors, the texts of the classes: each class is held to its text by alpha KL( N(t_j, Sigma') || N(mu_j, Sigma) ), Sigma' the variance
  of the images around the texts under the prior (StatA, arXiv 2501.03729, with the one Sigma that all classes share here). That is the
  likelihood of alpha images more a class, at t_j with variance Sigma', and so is one more term of the sums below.
- sizes: z takes a wanted share of the images for each class, more or less strictly (`gta.transport`).

Cost: f^2 / sigma is the same for all classes and cancels in z; sigma needs only Z^T F and the variance of F. So a round is
two (N, d) x (d, M) products and some passes over (N, M). Three such matrices are held beside `prior`. All is measured from the
mean image, so float32 keeps z within 2e-5 of float64. Of equally confident images the lower index comes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gta.affinity import both_ways, graph_of, nearest
from gta.checks import class_numbers, distributions, not_negative, unit_rows
from gta.labels import answer
from gta.transduct.mixture import FLOOR, TEMPERATURE, class_sums, confident_sums, support_of, unit_means, within_variance
from gta.transport import sinkhorn

LAPLACIAN = 1 / 6  # weight of the graph: 1 / (2 * 3 neighbours)
GAMMAS = (0.002, 0.01, 0.02, 0.2)
ROUNDS, INNER = 10, 5  # outer rounds, and updates of z in each
SWEEPS = 10  # of Sinkhorn in each update of z but the last, which goes on to the end


@dataclass(frozen=True)
class Transduction:
    """assignments (N, M), rows sum to 1; logits (N, M): assignments = softmax(logits), which tell images apart whose z is 1 to the
    last digit; prototypes (M, d), unit rows; variance (d,); objective: J after each round; of a second view (d2,) also those."""

    assignments: Tensor
    logits: Tensor
    prototypes: Tensor
    variance: Tensor
    objective: list[float]
    view_prototypes: Tensor | None = None
    view_variance: Tensor | None = None


@torch.no_grad()
def text_prior(features: Tensor, text_features: Sequence[Tensor], logit_scale: float = 100.0) -> Tensor:
    """softmax_j( logit_scale * mean_k f_i . t_jk ), the zero-shot prediction of CLIP from lists of texts.

    features: (N, d) unit rows; text_features: M tensors (n_j, d), unit rows, n_j >= 1; any float dtype.
    Returns (N, M), rows sum to 1, in float32 or, for float64 features, in float64. Raises ValueError naming argument and row.
    """
    x = unit_rows("features", features)
    counts = torch.tensor([len(texts) for texts in text_features])
    if len(counts) == 0 or (counts == 0).any():
        missing = int(counts.argmin()) if len(counts) else 0
        raise ValueError(f"text_features[{missing}] is missing or empty; give each class at least one text")
    try:
        texts = unit_rows("text_features", torch.cat(list(text_features)), like=x)
    except (ValueError, RuntimeError):
        for j, of_class in enumerate(text_features):  # once more, to name the class
            unit_rows(f"text_features[{j}]", of_class, like=x)
        raise
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts).to(x.device)
    # Classes with the same texts, in any order, tie exactly: texts are summed in the order of their values, equal means multiplied once.
    order = (owner * len(texts) + texts.unique(dim=0, return_inverse=True)[1]).argsort()
    means = x.new_zeros(len(counts), x.shape[1]).index_add_(0, owner, texts[order]) / counts.to(x)[:, None]
    distinct, of_class = means.unique(dim=0, return_inverse=True)
    return (x @ (logit_scale * distinct).T)[:, of_class].softmax(1)


def class_features(text_features: Sequence[Tensor]) -> Tensor:
    """The mean text of each class, (M, d), set to unit norm. text_features: M tensors (n_j, d)."""
    return torch.nn.functional.normalize(torch.stack([texts.mean(0) for texts in text_features]), dim=1)


@torch.no_grad()
def transduct(
    features: Tensor,
    prior: Tensor,
    *,
    support_features: Tensor | None = None,
    support_labels: Tensor | None = None,
    view: Tensor | None = None,
    support_view: Tensor | None = None,
    lam: float | None = None,
    gamma: float = 0.01,
    neighbors: int = 3,
    affinity: Tensor | None = None,
    anchors: Tensor | None = None,
    anchoring: float = 1.0,
    sizes: Tensor | None = None,
    balance: float = 1.0,
    start: Transduction | None = None,
    rounds: int = ROUNDS,
    inner: int = INNER,
) -> Transduction:
    """Infer z for all images jointly: `rounds` of (`inner` Jacobi updates of z, then mu, then sigma), then a last set of z.

    features: (N, d) unit rows, any float dtype and device; computed in float32 or, for float64 input, in float64.
    prior: (N, M) from `text_prior` or any other method's predictions; never changed. An exact 0 rules a class out.
    support_features, support_labels: (S, d) unit rows and (S,) integers in 0..M-1, the few-shot setting, in which gamma
    weighs the support images. lam: weight of the prior; by default 1, and 0.5 with support.
    view, support_view: (N, d2) and (S, d2) unit rows of a second encoder.
    affinity: a ready sparse graph, (N, N) or (N + S, N) with query rows first, in place of `knn_graph` of the features or, if
    its neighbours agree more (`gta.affinity.smoother`), of the view.
    anchors: (M, d) unit rows, a text feature a class, each as strong as `anchoring` images; in a view, which reads no text, a class is
    held to its first prototype. sizes: (M,) shares of the classes, which hold exactly where `balance` is 1, and less the nearer it is
    to 0; the objective is without that term.
    start: an earlier result to go on from, in place of the prior and the prototypes made from it.
    A class without images or shots keeps the prototype it had, at first that of the mean image.
    Raises ValueError for what cannot be right; it names the argument, the row and the mend.
    """
    x = unit_rows("features", features)
    prior = distributions(prior, x)
    support, labels = support_of(x, prior.shape[1], support_features, support_labels)
    lam = (0.5 if len(support) else 1.0) if lam is None else lam
    not_negative(lam=lam, gamma=gamma, anchoring=anchoring, rounds=rounds, inner=inner)
    texts = None if anchors is None else _anchors(anchors, x, prior)
    views = [(x, support)] if view is None else [(x, support), _second(x, support, view, support_view)]
    if affinity is None:
        affinity = graph_of(views, prior, neighbors)
    widths = [of_query.shape[1] for of_query, _ in views]
    if view is not None:
        x, support = (torch.cat(both, 1) for both in zip(*views, strict=True))
    graph, pull = both_ways(affinity, x, labels, prior.shape[1])

    # A query image weighs 1 / N in mu and sigma, a support image `weight`, an anchor `held`.
    weight, held = TEMPERATURE * gamma / max(1, len(support)), 0.0 if texts is None else anchoring / len(x)
    total = 1 + weight * len(support) + held * prior.shape[1]
    spread, centre = torch.var_mean(x, 0, correction=0)
    shots, shot_sums = class_sums(support, labels, prior.shape[1])
    if start is None:
        z, mu = prior, _first_prototypes(x, prior, shots, shot_sums, widths)
        variance = torch.cat([centre.new_full((width,), 1 / width) for width in widths])
    else:
        z, mu = start.assignments.to(x), _both(start.prototypes, start.view_prototypes, x)
        variance = _both(start.variance, start.view_variance, x)
    fixed, fixed_sums = weight * shots, weight * shot_sums
    if texts is not None:  # a second encoder reads none: there a class is held to its first prototype
        texts = torch.cat([texts, mu[:, widths[0] :]], 1)
        around = within_variance(spread, centre, prior.mean(0), prior.T @ x / len(x), texts).clamp_min(FLOOR)
        mu, variance = (texts, around) if start is None else (mu, variance)
        spread = spread + held * ((texts - centre).square().sum(0) + len(mu) * around)
        fixed, fixed_sums = fixed + held, fixed_sums + held * texts
    spread = (spread + weight * (support - centre).square().sum(0)) / total
    z = z.clone(memory_format=torch.contiguous_format)
    unary, logits, objective = torch.empty_like(z), torch.empty_like(z), []
    potential = z.new_zeros(z.shape[1])
    for step in range(rounds + 1):
        # lam log prior + log p / 50, without what all classes share; then z of all images at once, from the z before.
        slope = (mu - centre) / (TEMPERATURE * variance)
        torch.addmm(-(slope * (mu + centre) / 2).sum(1), x, slope.T, out=unary)
        unary += torch.special.xlogy(lam, prior, out=logits)
        unary += LAPLACIAN * pull
        for update in range(inner):
            torch.addmm(unary, graph, z, alpha=LAPLACIAN, out=logits)
            if sizes is None:
                torch.softmax(logits, 1, out=z)
            else:
                last = step == rounds and update == inner - 1
                z, potential = sinkhorn(logits, sizes, balance, start=potential, warn=last, **({} if last else {"iterations": SWEEPS}))
                logits += potential
        if step == rounds:
            logits = logits if inner else z.log()
            break
        counts, sums = z.mean(0) + fixed, z.T @ x / len(x) + fixed_sums
        mu = unit_means(sums, counts, mu, widths)
        # variance: the mean of (f - mu)^2 over images and classes, weighted by z, from the sums alone; J (`objective`) follows.
        residual = within_variance(spread, centre, counts, sums, mu, total)
        variance = residual.clamp_min(FLOOR)
        gauss = len(x) * total / (2 * TEMPERATURE) * float((residual / variance + variance.log()).sum())
        objective.append(gauss + _label_terms(z, prior, lam, graph, pull, logits))
    (mu, *of_view), (variance, *variances) = mu.split(widths, 1), variance.split(widths)
    return Transduction(z, logits.double(), mu, variance, objective, *of_view, *variances)


@torch.no_grad()
def posterior(
    features: Tensor,
    prior: Tensor,
    prototypes: Tensor,
    variance: Tensor,
    lam: float = 1.0,
    *,
    view: Tensor | None = None,
    view_prototypes: Tensor | None = None,
    view_variance: Tensor | None = None,
) -> Tensor:
    """z of images that `transduct` did not see, each alone: softmax( lam log prior + log p / 50 ).

    features: (N, d) unit rows; prior: (N, M) from `text_prior`; prototypes (M, d) and variance (d,) as `transduct` gave them; view:
    (N, d2) unit rows of the second encoder, with its prototypes and variance, if it had one.
    It is the z step without neighbours. Returns (N, M), rows sum to 1.
    """
    x = unit_rows("features", features)
    prior = distributions(prior, x)
    mu, variance = _both(prototypes, view_prototypes, x), _both(variance, view_variance, x)
    if (view is None) != (view_prototypes is None):
        raise ValueError("view and view_prototypes go together: one of them is missing")
    if view is not None:
        x = torch.cat([x, unit_rows("view", view).to(x)], 1)
    slope, centre = mu / variance, mu.mean(0)
    log_p = (x - centre) @ slope.T - ((mu / 2 - centre) * slope).sum(1)
    return (torch.special.xlogy(lam, prior) + log_p / TEMPERATURE).softmax(1)


@torch.no_grad()
def select_gamma(
    features: Tensor,
    prior: Tensor,
    support_features: Tensor,
    support_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    gammas: Sequence[float] = GAMMAS,
    neighbors: int = 3,
    affinity: Tensor | None = None,
    **options,
) -> tuple[float, Transduction]:
    """The gamma whose z is right for most validation images, each judged by its nearest query image; the first of equals.

    val_features, val_labels: (V, d) unit rows and (V,) integers in 0..M-1; the other arguments are those of `transduct`.
    Every gamma starts anew. Returns that gamma and its result.
    """
    if len(gammas) == 0:
        raise ValueError("gammas is empty; give at least one to choose from")
    judge = nearest_query_judge(features, val_features, val_labels, prior.shape[1])
    if affinity is None:
        x = unit_rows("features", features)
        views = [(x, x[:0] if support_features is None else unit_rows("support_features", support_features, like=x))]
        if options.get("view") is not None:
            views.append(_second(*views[0], options["view"], options.get("support_view")))
        affinity = graph_of(views, prior.to(x), neighbors)
    options |= {"support_features": support_features, "support_labels": support_labels, "affinity": affinity}
    most, chosen, best = -1, gammas[0], None
    for gamma in gammas:
        result = transduct(features, prior, gamma=gamma, **options)
        right = judge(answer(result.assignments))
        if right > most:
            most, chosen, best = right, gamma, result
    assert best is not None
    return chosen, best


def nearest_query_judge(features: Tensor, val_features: Tensor, val_labels: Tensor, classes: int) -> Callable[[Tensor], int]:
    """A function that counts for how many validation images labels (N,) are right; the nearest query image judges each.

    features: (N, d), val_features: (V, d), unit rows; val_labels: (V,) integers in 0..classes-1.
    """
    x = unit_rows("features", features)
    rows = nearest(unit_rows("val_features", val_features, like=x), x, 1)[1][:, 0]
    truth = class_numbers("val_labels", val_labels, len(rows), classes).to(x.device)
    return lambda labels: int((labels[rows] == truth).sum())


def _first_prototypes(x: Tensor, prior: Tensor, shots: Tensor, shot_sums: Tensor, widths: Sequence[int]) -> Tensor:
    """The mean of a class's support images; without any, of its 8 most confident images, weighted by the prior; else of all images."""
    mean_image = unit_means(x.sum(0, keepdim=True), x.new_full((1,), len(x)), x[:1], widths)
    confident = unit_means(*confident_sums(x, prior), mean_image, widths)
    return unit_means(shot_sums, shots, confident, widths)


def _label_terms(z: Tensor, prior: Tensor, lam: float, graph: Tensor, pull: Tensor, scratch: Tensor) -> float:
    """The terms of J that hold z alone; sums over classes in the working dtype, over images in float64."""
    pulled = (z[pull.indices()[0], pull.indices()[1]] * pull.values()).sum()
    per_image = -LAPLACIAN / 2 * torch.addmm(scratch.zero_(), graph, z, out=scratch).mul_(z).sum(1)
    per_image -= torch.special.entr(z, out=scratch).sum(1)
    if lam:
        per_image -= lam * torch.special.xlogy(z, prior, out=scratch).sum(1)
    return float(per_image.double().sum() - LAPLACIAN * pulled)


def _anchors(anchors: Tensor, x: Tensor, prior: Tensor) -> Tensor:
    """A text feature for each class, (M, d)."""
    if len(anchors) != prior.shape[1]:
        raise ValueError(f"anchors has {len(anchors)} rows and prior {prior.shape[1]} columns; give one text feature for each class")
    return unit_rows("anchors", anchors, like=x)


def _second(x: Tensor, support: Tensor, view: Tensor, support_view: Tensor | None) -> tuple[Tensor, Tensor]:
    """The second encoder's features of query and support images, in the dtype and on the device of x."""
    view = unit_rows("view", view).to(x)
    if len(view) != len(x):
        raise ValueError(f"view has {len(view)} rows and features has {len(x)}; a view holds the same images in the same order")
    of_support = view[:0] if support_view is None else unit_rows("support_view", support_view, like=view)
    if len(of_support) != len(support):
        raise ValueError(f"support_view has {len(of_support)} rows for {len(support)} support images; encode them with the view too")
    return view, of_support


def _both(of_features: Tensor, of_view: Tensor | None, x: Tensor) -> Tensor:
    """Prototypes or variances of the features and, if there is one, of the view, side by side."""
    return of_features.to(x) if of_view is None else torch.cat([of_features, of_view], -1).to(x)
