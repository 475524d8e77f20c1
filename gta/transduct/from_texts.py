"""z of a run's query images from the texts of its bank, as its settings say: whole, or of many images and classes sparse."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from gta.affinity import Build, Rows, graph_of
from gta.labels import SparseZ
from gta.settings import Settings
from gta.transduct import sparse
from gta.transduct.solver import INNER, ROUNDS, Transduction, class_features, text_prior, transduct
from gta.transport import estimated_sizes

WHOLE = 2**27  # entries of z up to which it is held whole: 0.5 GB a matrix in float32, of which a run holds about ten

Gamma = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], float]


def entries_held(keep: int | None, images: int, classes: int) -> int | None:
    """How many entries of a row of z are held, None for all: `keep`, by default all where z (N, M) has at most `WHOLE`, else 64.
    Raises ValueError for fewer than 2, of which no image could be undecided."""
    if keep is None:
        keep = classes if images * classes <= WHOLE else sparse.KEEP
    elif keep < 2:
        raise ValueError(f"keep is {keep}; hold 2 or more classes of each image, or None to choose by the size")
    return keep if keep < classes else None


def refuse_sparse(images: int, classes: int, needs: Mapping[str, object], mend: str) -> None:
    """Raise ValueError for what is given of `needs`, {name: value}, where a run would hold the largest entries of z alone."""
    if given := [name for name, value in needs.items() if value]:
        told = f"z of {images:,} images and {classes:,} classes is held by its largest entries"
        raise ValueError(f"{' and '.join(given)}: {told}, and this needs it whole; leave it out, or {mend}")


@torch.no_grad()
def infer_whole(
    views: Sequence[Rows], labels: Tensor, texts: Sequence[Tensor], scale: float, settings: Settings, affinity: Build, gamma: Gamma | None
) -> tuple[Transduction, Tensor]:
    """What `transduct` finds, and the prior of the texts.

    views: features of query and of support images, of the encoder and, if there is one, of the second; labels: (S,), of the support;
    texts: M tensors (n_j, d), features of the texts of each class; scale: of the logits; affinity: makes the graph; gamma: chooses gamma
    from query features, prior, support features and labels, in place of that of the settings.
    """
    (queries, shots), view = views[0], views[1] if len(views) > 1 else (None, None)
    support = (shots, labels) if len(shots) else (None, None)
    prior = text_prior(queries, texts, scale)
    sizes = None
    if settings.balance:
        sizes = estimated_sizes(prior) if settings.sizes == "estimated" else torch.full_like(prior[0], 1 / prior.shape[1])
    found = transduct(
        queries,
        prior,
        support_features=support[0],
        support_labels=support[1],
        view=view[0],
        support_view=view[1] if len(shots) else None,
        lam=settings.lam,
        gamma=gamma(queries, prior, *support) if gamma else settings.gamma,
        affinity=graph_of(views, prior, settings.neighbors, affinity),
        anchors=class_features(texts) if settings.anchor else None,
        anchoring=settings.anchor,
        sizes=sizes,
        balance=settings.balance,
        rounds=ROUNDS if settings.transduct else 0,
        inner=INNER if settings.transduct else 0,
    )
    return found, prior


@torch.no_grad()
def infer_sparse(
    keep: int,
    views: Sequence[Rows],
    labels: Tensor,
    texts: Sequence[Tensor],
    scale: float,
    settings: Settings,
    affinity: Build,
    *,
    with_prior: bool,
) -> tuple[sparse.SparseTransduction, SparseZ | None]:
    """The same by the `keep` largest entries of each row, without a second encoder, and with gamma of the settings. The prior, which is
    another pass over all logits, is made if `with_prior`."""
    queries, shots = views[0]
    solve = partial(
        sparse.transduct,
        queries,
        texts,
        scale,
        keep=keep,
        support_features=shots if len(shots) else None,
        support_labels=labels if len(shots) else None,
        lam=settings.lam,
        gamma=settings.gamma,
    )
    if not settings.transduct:
        found = solve(rounds=0, inner=0)
        return found, found.z
    graph = affinity(queries, shots if len(shots) else None, settings.neighbors)
    return solve(affinity=graph), sparse.text_prior(queries, texts, scale, keep) if with_prior else None
