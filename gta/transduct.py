"""Step 2, transduct: the labels of all images at once, from image-image and image-text similarity.

A Gaussian mixture with one shared diagonal covariance, a Laplacian on the k-nearest-neighbour graph, and a text prior
(GTA-CLIP, arXiv 2501.06031; TransCLIP, arXiv 2406.01837). The released updates, which are these, minimise

    J(z, mu, sigma) = - (1/50) sum_i z_i . log p_i  -  (1/6) sum_ij w_ij z_i . z_j  +  sum_i z_i . (log z_i - lam log prior_i)
                      - (gamma N / S) sum_s z_s . log p_s          over support images, whose z_s is fixed one-hot

by alternating z, then mu, then sigma. The term f^2 / sigma of the Gaussian is the same for all classes and cancels in
z; sigma needs only Z^T F and the sum of F^2. So a round costs a few (N, d) x (d, M) products, and memory is O(N M).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gta.affinity import knn_graph

TEMPERATURE = 50.0  # divides the Gaussian log-likelihood
LAPLACIAN = 1 / 6  # weight of the graph: 1 / (2 * 3 neighbours)
CONFIDENT = 8  # images that initialise a prototype
GAMMAS = (0.002, 0.01, 0.02, 0.2)


@dataclass(frozen=True)
class Transduction:
    """assignments (N, M), rows sum to 1; prototypes (M, d), unit rows; variance (d,); objective: J after each round."""

    assignments: Tensor
    prototypes: Tensor
    variance: Tensor
    objective: list[float]


def text_prior(features: Tensor, text_features: Sequence[Tensor], logit_scale: float = 100.0) -> Tensor:
    """softmax_j( logit_scale * mean_k f_i . t_jk ), the zero-shot prediction of CLIP from lists of texts.

    features: (N, d) unit rows; text_features: M tensors (n_j, d), unit rows, n_j >= 1. Returns (N, M), rows sum to 1.
    """
    counts = torch.tensor([len(texts) for texts in text_features], device=features.device)
    if len(counts) == 0 or (counts == 0).any():
        raise ValueError(f"text_features: class {int(counts.argmin()) if len(counts) else 0} has no text; give each class at least one")
    texts = torch.cat(list(text_features)).to(features.device, _working_dtype(features))
    owner = torch.repeat_interleave(torch.arange(len(counts), device=features.device), counts)
    means = texts.new_zeros(len(counts), texts.shape[1]).index_add_(0, owner, texts) / counts[:, None]
    return (logit_scale * features.to(texts) @ means.T).softmax(1)


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
    rounds: int = 10,
    inner: int = 5,
) -> Transduction:
    """Infer z for all images jointly: `rounds` of (`inner` Jacobi updates of z, then mu, then sigma), then a last set of z.

    features: (N, d) unit rows, any float dtype and device; computed in float32 or, for float64 input, in float64.
    prior: (N, M) from `text_prior` or any other method's predictions; never changed.
    support_features, support_labels: (S, d) unit rows and (S,) integers in 0..M-1, the few-shot setting, in which gamma
    weighs the support images. lam: weight of the prior; by default 1, and 0.5 with support.
    affinity: a ready sparse graph, (N, N) or (N + S, N) with query rows first, in place of `knn_graph`.
    Raises ValueError naming the argument and the row for what cannot be right.
    """
    x = _unit_rows("features", features).to(_working_dtype(features))
    prior = _distributions(prior, len(x)).to(x)
    support, onehot = _support(x, prior.shape[1], support_features, support_labels)
    lam = (0.5 if len(support) else 1.0) if lam is None else lam
    graph, pull = _graph(knn_graph(x, support, neighbors) if affinity is None else affinity.to(x), onehot)
    log_prior = torch.special.xlogy(lam, prior)

    # Weights of the mixture: 1/N for a query image, 50 gamma / S for a support image.
    weight = TEMPERATURE * gamma / len(support) if len(support) else 0.0
    total = 1 + weight * len(support)
    second_moment = ((x**2).mean(0) + weight * (support**2).sum(0)) / total
    support_sums, support_counts = weight * onehot.T @ support, weight * onehot.sum(0)

    z, variance, objective = prior, torch.full_like(x[0], 1 / x.shape[1]), []
    mu = _initial_prototypes(x, prior, support, onehot)
    for step in range(rounds + 1):
        log_gauss = (x @ (mu / variance).T - 0.5 * (mu**2 / variance).sum(1)) / TEMPERATURE
        for _ in range(inner):
            z = (log_prior + log_gauss + LAPLACIAN * (graph @ z + pull)).softmax(1)
        if step == rounds:
            break
        sums, counts = (z.T @ x) / len(x) + support_sums, z.mean(0) + support_counts
        mu = _prototypes(sums, mu)
        variance = (second_moment - (2 * sums * mu - counts[:, None] * mu**2).sum(0) / total).clamp_min(1e-12)
        gauss = len(x) / (2 * TEMPERATURE) * total * (len(variance) + variance.log().sum())
        laplace = LAPLACIAN * (z * (graph @ z / 2 + pull)).sum()
        objective.append(float(gauss - laplace + torch.special.xlogy(z, z).sum() - torch.special.xlogy(lam * z, prior).sum()))
    return Transduction(z, mu, variance, objective)


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

    Every gamma starts anew. Returns that gamma and its result; the other arguments are those of `transduct`.
    """
    x = features.to(_working_dtype(features))
    nearest = (val_features.to(x) @ x.T).argmax(1)
    if affinity is None:
        affinity = knn_graph(x, support_features.to(x), neighbors)
    best_gamma, best, most = None, None, -1
    for gamma in gammas:
        result = transduct(
            features, prior, support_features=support_features, support_labels=support_labels, gamma=gamma, affinity=affinity, **options
        )
        right = int((result.assignments[nearest].argmax(1) == val_labels.to(x.device)).sum())
        if right > most:
            best_gamma, best, most = gamma, result, right
    return best_gamma, best


def _prototypes(sums: Tensor, previous: Tensor) -> Tensor:
    """Unit rows along `sums`; a class that no image belongs to keeps its prototype."""
    norm = sums.norm(dim=1, keepdim=True)
    return torch.where(norm > torch.finfo(sums.dtype).tiny, sums / norm.clamp_min(torch.finfo(sums.dtype).tiny), previous)


def _initial_prototypes(x: Tensor, prior: Tensor, support: Tensor, onehot: Tensor) -> Tensor:
    """From the 8 most confident images of each class, or the mean of its support images where it has any."""
    top = prior.topk(min(CONFIDENT, len(x)), dim=0)
    confident = _prototypes((top.values[:, :, None] * x[top.indices]).sum(0), x.new_zeros(prior.shape[1], x.shape[1]))
    return _prototypes(onehot.T @ support, confident)


def _graph(affinity: Tensor, onehot: Tensor) -> tuple[Tensor, Tensor]:
    """W + W^T among query images as one sparse matrix, and the constant pull of the support rows, (N, M)."""
    n = affinity.shape[1]
    if affinity.shape[0] not in (n, n + len(onehot)):
        raise ValueError(f"affinity has shape {tuple(affinity.shape)}, expected ({n}, {n}) or ({n + len(onehot)}, {n})")
    coo = affinity.to_sparse_coo().coalesce()
    (row, column), value = coo.indices(), coo.values()
    query = row < n
    both = torch.stack([torch.cat([row[query], column[query]]), torch.cat([column[query], row[query]])])
    graph = torch.sparse_coo_tensor(both, value[query].repeat(2), (n, n), check_invariants=False).coalesce()
    with warnings.catch_warnings():  # CSR multiplies faster than COO, and warns of being in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        graph = graph.to_sparse_csr()
    pull = onehot.new_zeros(n, onehot.shape[1]).index_add_(0, column[~query], value[~query, None] * onehot[row[~query] - n])
    return graph, pull


def _support(x: Tensor, classes: int, features: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Support features and one-hot labels; both empty in the zero-shot setting."""
    if (features is None) != (labels is None):
        raise ValueError("support_features and support_labels go together: one of them is missing")
    if features is None:
        return x[:0], x.new_zeros(0, classes)
    labels = torch.as_tensor(labels, device=x.device)
    if labels.shape != (len(features),) or labels.is_floating_point():
        raise ValueError(f"support_labels must be {len(features)} integers, one for each row of support_features, not {tuple(labels.shape)} {labels.dtype}")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"support_labels[{row}] is {int(labels[row])}, outside 0..{classes - 1}, the columns of prior")
    return _unit_rows("support_features", features).to(x), F.one_hot(labels.long(), classes).to(x)


def _working_dtype(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)


def _unit_rows(name: str, features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) == 0 or not features.is_floating_point():
        raise ValueError(f"{name} must be a float matrix with at least one row, not {tuple(features.shape)} {features.dtype}")
    norm = torch.linalg.vector_norm(features, dim=1, dtype=_working_dtype(features))
    wrong = (~((norm - 1).abs() < 0.02)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"{name}[{row}] has norm {float(norm[row]):.4g}; rows must be finite and of unit norm: divide each row by its norm")
    return features


def _distributions(prior: Tensor, n: int) -> Tensor:
    if prior.ndim != 2 or len(prior) != n or prior.shape[1] == 0:
        raise ValueError(f"prior has shape {tuple(prior.shape)}, expected ({n}, classes): one row for each row of features")
    wrong = (~((prior >= 0).all(1) & ((prior.float().sum(1) - 1).abs() < 0.02))).nonzero()
    if len(wrong):
        raise ValueError(f"prior[{int(wrong[0])}] is not a probability distribution: entries must be at least 0 and sum to 1")
    return prior
