"""Step 2, transduct: the labels of all images at once, from image-image and image-text similarity.

The model is a Gaussian mixture with one shared diagonal covariance, a Laplacian on the k-nearest-neighbour graph, and a text
prior (GTA-CLIP, arXiv 2501.06031; TransCLIP, arXiv 2406.01837). The updates are the released ones. They minimise

    J(z, mu, sigma) = - (1/50) sum_i z_i . log p_i  -  (1/6) sum_ij w_ij z_i . z_j  +  sum_i z_i . (log z_i - lam log prior_i)
                      - (gamma N / S) sum_s z_s . log p_s          over support images, whose z_s is fixed one-hot

by updating z, then mu, then sigma; p_i are the densities of image i under each class. The z steps never raise J while no
eigenvalue of W + W^T is below -12. The other steps may raise it, but only because mu has unit norm: by up to 1e-4 an image in
a round in our tests.

Cost: f^2 / sigma is the same for all classes and cancels in z; sigma needs only Z^T F and the variance of F. So a round is
two (N, d) x (d, M) products and some passes over (N, M). Three such matrices are held beside `prior`. All is measured from the
mean image, so float32 keeps z within 2e-5 of float64. Of equally confident images the lower index comes first.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gta.affinity import knn_graph, largest, nearest, unit_rows

TEMPERATURE = 50.0  # divides the Gaussian log-likelihood
LAPLACIAN = 1 / 6  # weight of the graph: 1 / (2 * 3 neighbours)
CONFIDENT = 8  # images that initialise a prototype
GAMMAS = (0.002, 0.01, 0.02, 0.2)
ROUNDS, INNER = 10, 5  # outer rounds, and updates of z in each
TIE = 1e-6  # z that differ by less are equal: two classes with the same texts differ by rounding alone
FLOOR = 1e-10  # of a variance, where images do not differ at all


@dataclass(frozen=True)
class Transduction:
    """assignments (N, M), rows sum to 1; logits (N, M): assignments = softmax(logits), which tell images apart whose z is 1 to the
    last digit; prototypes (M, d), unit rows; variance (d,); objective: J after each round."""

    assignments: Tensor
    logits: Tensor
    prototypes: Tensor
    variance: Tensor
    objective: list[float]


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


@torch.no_grad()
def transduct(
    features: Tensor,
    prior: Tensor,
    *,
    support_features: Tensor | None = None,
    support_labels: Tensor | None = None,
    lam: float | None = None,
    gamma: float = 0.01,
    neighbors: int = 3,
    affinity: Tensor | None = None,
    start: Transduction | None = None,
    rounds: int = ROUNDS,
    inner: int = INNER,
) -> Transduction:
    """Infer z for all images jointly: `rounds` of (`inner` Jacobi updates of z, then mu, then sigma), then a last set of z.

    features: (N, d) unit rows, any float dtype and device; computed in float32 or, for float64 input, in float64.
    prior: (N, M) from `text_prior` or any other method's predictions; never changed. An exact 0 rules a class out.
    support_features, support_labels: (S, d) unit rows and (S,) integers in 0..M-1, the few-shot setting, in which gamma
    weighs the support images. lam: weight of the prior; by default 1, and 0.5 with support.
    affinity: a ready sparse graph, (N, N) or (N + S, N) with query rows first, in place of `knn_graph`.
    start: an earlier result to go on from, in place of the prior and the prototypes made from it.
    A class without images or shots keeps the prototype it had, at first that of the mean image.
    Raises ValueError for what cannot be right; it names the argument, the row and the mend.
    """
    x = unit_rows("features", features)
    prior = _distributions(prior, x)
    support, labels = _support(x, prior.shape[1], support_features, support_labels)
    lam = (0.5 if len(support) else 1.0) if lam is None else lam
    _not_negative(lam=lam, gamma=gamma, rounds=rounds, inner=inner)
    if affinity is None:
        affinity = knn_graph(x, support if len(support) else None, neighbors)
    graph, pull = _graph(affinity, x, labels, prior.shape[1])

    # A query image weighs 1 / N in mu and sigma, a support image `weight`.
    weight = TEMPERATURE * gamma / max(1, len(support))
    total = 1 + weight * len(support)
    spread, centre = torch.var_mean(x, 0, correction=0)
    spread = (spread + weight * (support - centre).square().sum(0)) / total
    shots, shot_sums = _class_sums(support, labels, prior.shape[1])

    if start is None:
        z, mu, variance = prior, _first_prototypes(x, prior, shots, shot_sums), torch.full_like(centre, 1 / len(centre))
    else:
        z, mu, variance = start.assignments.to(x), start.prototypes.to(x), start.variance.to(x)
    z = z.clone(memory_format=torch.contiguous_format)
    unary, logits, objective = torch.empty_like(z), torch.empty_like(z), []
    for step in range(rounds + 1):
        # lam log prior + log p / 50, without what all classes share; then z of all images at once, from the z before.
        slope = (mu - centre) / (TEMPERATURE * variance)
        torch.addmm(-(slope * (mu + centre) / 2).sum(1), x, slope.T, out=unary)
        unary += torch.special.xlogy(lam, prior, out=logits)
        unary += LAPLACIAN * pull
        for _ in range(inner):
            torch.addmm(unary, graph, z, alpha=LAPLACIAN, out=logits)
            torch.softmax(logits, 1, out=z)
        if step == rounds:
            logits = logits if inner else z.log()
            break
        counts, sums = z.mean(0) + weight * shots, z.T @ x / len(x) + weight * shot_sums
        mu = _prototypes(sums, counts, mu)
        # variance: the mean of (f - mu)^2 over images and classes, weighted by z, from the sums alone; J (`objective`) follows.
        from_centre, shift = sums - counts[:, None] * centre, mu - centre
        residual = spread - (shift * (2 * from_centre - counts[:, None] * shift)).sum(0) / total
        variance = residual.clamp_min(FLOOR)
        gauss = len(x) * total / (2 * TEMPERATURE) * float((residual / variance + variance.log()).sum())
        objective.append(gauss + _label_terms(z, prior, lam, graph, pull, logits))
    return Transduction(z, logits.double(), mu, variance, objective)


@torch.no_grad()
def posterior(features: Tensor, prior: Tensor, prototypes: Tensor, variance: Tensor, lam: float = 1.0) -> Tensor:
    """z of images that `transduct` did not see, each alone: softmax( lam log prior + log p / 50 ).

    features: (N, d) unit rows; prior: (N, M) from `text_prior`; prototypes (M, d) and variance (d,) as `transduct` gave them.
    It is the z step without neighbours. Returns (N, M), rows sum to 1.
    """
    x = unit_rows("features", features)
    prior, mu, variance = _distributions(prior, x), prototypes.to(x), variance.to(x)
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
    affinity = knn_graph(features, support_features, neighbors) if affinity is None else affinity
    options |= {"support_features": support_features, "support_labels": support_labels, "affinity": affinity}
    most, chosen, best = -1, gammas[0], None
    for gamma in gammas:
        result = transduct(features, prior, gamma=gamma, **options)
        right = judge(result.assignments)
        if right > most:
            most, chosen, best = right, gamma, result
    assert best is not None
    return chosen, best


def nearest_query_judge(features: Tensor, val_features: Tensor, val_labels: Tensor, classes: int) -> Callable[[Tensor], int]:
    """A function that counts for how many validation images z (N, M) is right; the nearest query image judges each.

    features: (N, d), val_features: (V, d), unit rows; val_labels: (V,) integers in 0..classes-1.
    """
    x = unit_rows("features", features)
    rows = nearest(unit_rows("val_features", val_features, like=x), x, 1)[1][:, 0]
    truth = _labels("val_labels", val_labels, len(rows), classes).to(x.device)
    return lambda z: int((answer(z[rows]) == truth).sum())


def log_odds(logits: Tensor) -> Tensor:
    """log( z / (1 - z) ) of z = softmax(logits), (N, M), exact where z is 1 to the last digit. Confidence is ranked by it."""
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)  # of all but the likeliest class
    log_z = logits - torch.logaddexp(others, logits.gather(1, top))
    return torch.where(torch.arange(logits.shape[1], device=top.device) == top, logits - others, log_z - torch.log1p(-log_z.exp()))


def answer(assignments: Tensor) -> Tensor:
    """The class of each image, (N,): the largest z of (N, M), and of z that are equal up to rounding (`TIE`) the first class."""
    return (assignments >= assignments.amax(1, keepdim=True) - TIE).byte().argmax(1)


def likeliest(assignments: Tensor, count: int) -> Tensor:
    """The classes with the largest z of each image, (N, count) or fewer, the likeliest first: `answer`, then of z that are equal up to
    rounding the first class. Where the first z is nearly 1 all others are small, so their rounding is measured by themselves."""
    chosen = [answer(assignments)[:, None]]
    while len(chosen) < min(count, assignments.shape[1]):
        assignments = assignments.scatter(1, chosen[-1], -torch.inf)
        best = assignments.amax(1, keepdim=True)
        chosen.append((assignments >= best - TIE * best.abs()).byte().argmax(1, keepdim=True))
    return torch.cat(chosen, 1)


def tied(assignments: Tensor) -> Tensor:
    """Which images have two classes that are equally likely up to rounding, bool (N,): `answer` gives the first of the two."""
    return (assignments >= assignments.amax(1, keepdim=True) - TIE).sum(1) > 1


def _first_prototypes(x: Tensor, prior: Tensor, shots: Tensor, shot_sums: Tensor) -> Tensor:
    """The mean of a class's support images; without any, of its 8 most confident images, weighted by the prior; else of all images."""
    mean_image = _prototypes(x.sum(0, keepdim=True), x.new_full((1,), len(x)), x[:1])
    top = largest(log_odds(prior.log()).T, min(CONFIDENT, len(x)))
    confidence = prior.T.gather(1, top)
    confident = _prototypes((confidence[:, :, None] * x[top]).sum(1), confidence.sum(1), mean_image)
    return _prototypes(shot_sums, shots, confident)


def _prototypes(sums: Tensor, counts: Tensor, otherwise: Tensor) -> Tensor:
    """The means sums / counts, set to unit norm; `otherwise` for a class to which no image belongs."""
    kind = torch.finfo(sums.dtype)
    means = sums / counts[:, None].clamp_min(kind.tiny / kind.eps)
    norm = means.norm(dim=1, keepdim=True)
    return torch.where(norm > kind.eps, means / norm, otherwise)


def _label_terms(z: Tensor, prior: Tensor, lam: float, graph: Tensor, pull: Tensor, scratch: Tensor) -> float:
    """The terms of J that hold z alone; sums over classes in the working dtype, over images in float64."""
    pulled = (z[pull.indices()[0], pull.indices()[1]] * pull.values()).sum()
    per_image = -LAPLACIAN / 2 * torch.addmm(scratch.zero_(), graph, z, out=scratch).mul_(z).sum(1)
    per_image -= torch.special.entr(z, out=scratch).sum(1)
    if lam:
        per_image -= lam * torch.special.xlogy(z, prior, out=scratch).sum(1)
    return float(per_image.double().sum() - LAPLACIAN * pulled)


def _class_sums(support: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """How many support images each class has, (M,), and the sum of their features, (M, d)."""
    counts = torch.bincount(labels, minlength=classes).to(support.dtype)
    return counts, support.new_zeros(classes, support.shape[1]).index_add_(0, labels, support)


def _graph(affinity: Tensor, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """W + W^T among query images, and the constant pull of the support images on them, (N, M); both sparse."""
    n, s = len(x), len(labels)
    if tuple(affinity.shape) not in ((n, n), (n + s, n)):
        raise ValueError(f"affinity has shape {tuple(affinity.shape)}, expected ({n}, {n}) or, query rows first, ({n + s}, {n})")
    coo = affinity.to_sparse_coo().to(x).coalesce()
    (row, column), value = coo.indices(), coo.values()
    if not value.isfinite().all():
        raise ValueError(f"affinity has a weight that is not finite in row {int(row[~value.isfinite()][0])}; set it to 0")
    query = row < n
    both = torch.stack([torch.cat([row[query], column[query]]), torch.cat([column[query], row[query]])])
    graph = torch.sparse_coo_tensor(both, value[query].repeat(2), (n, n), check_invariants=False).coalesce()
    with warnings.catch_warnings():  # CSR multiplies faster than COO, and warns of being in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        graph = graph.to_sparse_csr()
    of_support = torch.stack([column[~query], labels[row[~query] - n]])
    return graph, torch.sparse_coo_tensor(of_support, value[~query], (n, classes), check_invariants=False).coalesce()


def _support(x: Tensor, classes: int, features: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Support features and labels; both empty in the zero-shot setting."""
    if features is None and labels is None:
        return x[:0], torch.empty(0, dtype=torch.long, device=x.device)
    if features is None or labels is None:
        raise ValueError("support_features and support_labels go together: one of them is missing")
    features = unit_rows("support_features", features, like=x)
    return features, _labels("support_labels", labels, len(features), classes).to(x.device)


def _labels(name: str, labels: Tensor, size: int, classes: int) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.shape != (size,) or labels.is_floating_point():
        raise ValueError(f"{name} must be {size} integers, one for each row of features, not {tuple(labels.shape)} {labels.dtype}")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"{name}[{row}] is {int(labels[row])}, outside 0..{classes - 1}; labels number the columns of prior")
    return labels.long()


def _distributions(prior: Tensor, x: Tensor) -> Tensor:
    if prior.ndim != 2 or len(prior) != len(x) or prior.shape[1] == 0:
        raise ValueError(f"prior has shape {tuple(prior.shape)}, expected ({len(x)}, classes): one row for each row of features")
    prior = prior.to(x)
    wrong = (~((prior.amin(1) >= 0) & ((prior.sum(1) - 1).abs() < 0.02))).nonzero()
    if len(wrong):
        mend = "entries must be at least 0 and sum to 1: take the softmax of logits, or divide each row by its sum"
        raise ValueError(f"prior[{int(wrong[0])}] is not a probability distribution; {mend}")
    return prior


def _not_negative(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; it must be finite and at least 0")
