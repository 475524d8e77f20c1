"""Transduct where N x M is too large to hold: of each row of z the `keep` largest entries, and the mass of the rest.

The updates are those of `gta.transduct.solver`, equation for equation. What differs is what is held. Before each round the logits of all
classes are made in blocks of images and never kept: of each image the largest stay, and all others become one number, the logarithm of the
sum of their exponentials. That number takes part in the softmax, so the entries of z are those among all classes. The rest belongs to no
class: mu and sigma see it as if it lay at the mean image. With `keep` = M nothing is left out, and the result is that of the dense solver.

lam log prior_ij and f_i . (mu_j - centre) / (50 sigma) are both linear in f_i, so one product of (N, d) and (d, M) a round gives both:
what the softmax of the prior divides by cancels in z. A round costs 2 N M d for it, the search for the largest entries, and for each of the
5 updates of z some passes over 6 N `keep` entries of neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gta.affinity import both_ways, knn_graph, largest
from gta.checks import not_negative, unit_rows
from gta.labels import SparseZ, answer, log_odds
from gta.transduct.mixture import CONFIDENT, FLOOR, TEMPERATURE, class_sums, support_of, unit_means, within_variance
from gta.transduct.solver import GAMMAS, INNER, LAPLACIAN, ROUNDS, nearest_query_judge

KEEP = 64  # entries of a row of z that are held
BLOCK = 2**22  # logits of all classes that are made at once: 16 MB in float32
ON_GPU = 16  # times as many there, for it is slow at many small products
GROUP = 16  # neighbouring classes of which one maximum is taken, before the largest entries are looked for


@dataclass(frozen=True)
class SparseTransduction:
    """z: of (N, M) the largest entries, what `gta.labels` and `gta.adapt.confident_images` take; prototypes (M, d), unit rows; variance
    (d,); objective: J after each round."""

    z: SparseZ
    prototypes: Tensor
    variance: Tensor
    objective: list[float]


def bytes_of(n: int, m: int, d: int, keep: int = KEEP, neighbors: int = 3, item: int = 4) -> int:
    """The most bytes that `transduct` holds on a CPU beside features and texts, (N + M) d `item`: z before and after an update, its logits
    and classes; of each image four numbers; eight matrices (M, d); 16 blocks of logits; the graph while it is made."""
    keep = min(keep, m)
    return n * (keep * (3 * item + 4) + 4 * item) + 8 * m * d * item + 16 * item * max(BLOCK, m) + 2 * n * neighbors * 60


@torch.no_grad()
def transduct(
    features: Tensor,
    text_features: Sequence[Tensor] | Tensor,
    logit_scale: float = 100.0,
    *,
    keep: int = KEEP,
    support_features: Tensor | None = None,
    support_labels: Tensor | None = None,
    lam: float | None = None,
    gamma: float = 0.01,
    neighbors: int = 3,
    affinity: Tensor | None = None,
    rounds: int = ROUNDS,
    inner: int = INNER,
) -> SparseTransduction:
    """Infer z for all images jointly, as the dense `transduct` does from `text_prior(features, text_features, logit_scale)`.

    features: (N, d) unit rows, float32 or float64, which may be mapped from a file; text_features: M tensors (n_j, d), unit rows,
    n_j >= 1. keep: how many entries of a row of z are held, cut to M. The other arguments are those of the dense solver; with
    `rounds` and `inner` 0 z is the text prior. Classes with the same texts tie up to rounding. Raises ValueError for what cannot be right;
    it names the argument, the row and the mend.
    """
    x = unit_rows("features", features)
    texts = logit_scale * torch.stack([unit_rows(f"text_features[{j}]", of, like=x).mean(0) for j, of in enumerate(text_features)])
    if keep < 1 or (rounds and not inner):
        wrong = f"keep is {keep}" if keep < 1 else f"inner is 0 and rounds is {rounds}: a round begins with an update of z"
        raise ValueError(f"{wrong}; it must be at least 1")
    not_negative(gamma=gamma, rounds=rounds, inner=inner)
    support, labels = support_of(x, len(texts), support_features, support_labels)
    lam = (0.5 if len(support) else 1.0) if lam is None else lam
    not_negative(lam=lam)
    if affinity is None and inner:
        affinity = knn_graph(x, support if len(support) else None, neighbors)
    if affinity is None:  # the prior needs none
        affinity = torch.sparse_coo_tensor(torch.empty(2, 0, dtype=torch.long), torch.empty(0), (len(x), len(x)), check_invariants=False)
    graph, pull = both_ways(affinity, x, labels, len(texts))

    weight = TEMPERATURE * gamma / max(1, len(support))  # of a support image in mu and sigma; a query image weighs 1 / N
    total, widths = 1 + weight * len(support), [x.shape[1]]
    centre = x.mean(0)
    spread = sum((part - centre).square().sum(0) for part in x.split(4096)) / len(x)  # in parts, for x may lie in a file
    spread = (spread + weight * (support - centre).square().sum(0)) / total
    shots, shot_sums = class_sums(support, labels, len(texts))
    z = _Solve(x, len(texts), min(keep, len(texts)), graph, pull.to_sparse_csr())
    mu = unit_means(shot_sums, shots, unit_means(*z.begin(texts), torch.nn.functional.normalize(centre[None]), widths), widths)
    variance, objective = torch.full_like(centre, 1 / len(centre)), []
    for step in range(rounds + 1 if inner else 0):
        slope = (mu - centre) / (TEMPERATURE * variance)
        offset = -(slope * (mu + centre) / 2).sum(1)
        z.choose(lam * texts + slope, offset)
        for _ in range(inner - 1):
            z.update()
        if step == rounds:
            break
        counts, sums = z.class_sums()
        of_mixture = float((slope * sums).sum() + offset @ counts)
        counts, sums = counts + weight * shots, sums + weight * shot_sums
        mu = unit_means(sums, counts, mu, widths)
        residual = within_variance(spread, centre, counts, sums, mu, total)
        variance = residual.clamp_min(FLOOR)
        gauss = len(x) * total / (2 * TEMPERATURE) * float((residual / variance + variance.log()).sum())
        objective.append(gauss + len(x) * of_mixture + z.label_terms(lam))
    return SparseTransduction(SparseZ(z.classes, z.now, z.rest, len(texts)), mu, variance, objective)


@torch.no_grad()
def select_gamma(
    features: Tensor,
    text_features: Sequence[Tensor] | Tensor,
    support_features: Tensor,
    support_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    gammas: Sequence[float] = GAMMAS,
    **options,
) -> tuple[float, SparseTransduction]:
    """As the dense `select_gamma`: the gamma that is right for most validation images, each judged by its nearest query image."""
    judge = nearest_query_judge(features, val_features, val_labels, len(text_features))
    options = {"support_features": support_features, "support_labels": support_labels, **options}
    solved = ((gamma, transduct(features, text_features, gamma=gamma, **options)) for gamma in gammas)  # two results at a time are held
    return max(solved, key=lambda of: judge(answer(of[1].z)))


def text_prior(features: Tensor, text_features: Sequence[Tensor] | Tensor, logit_scale: float = 100.0, keep: int = KEEP) -> SparseZ:
    """`gta.transduct.text_prior` by its `keep` largest entries."""
    return transduct(features, text_features, logit_scale, keep=keep, rounds=0, inner=0).z


class _Solve:
    """One solve: the entries of z, `now`, and the room for the next. unary (N, keep), others (N,): the logits without neighbours, of the
    classes that are held and of all others together; log_norm (N,): what the softmax of the prior divides by."""

    def __init__(self, x: Tensor, size: int, keep: int, graph: Tensor, pull: Tensor):
        self.x, self.graph, self.pull = x, graph, pull
        self.entries = BLOCK * (ON_GPU if x.is_cuda else 1)
        self.block = min(max(1, self.entries // size), len(x))
        self.room, self.second = x.new_empty(self.block, size), x.new_empty(self.block, size)
        self.classes = torch.zeros(len(x), keep, dtype=torch.int32, device=x.device)
        self.now, self.next, self.unary = (x.new_zeros(len(x), keep) for _ in range(3))
        self.rest, self.others, self.log_norm = (x.new_zeros(len(x)) for _ in range(3))

    def rows(self, block: int | None = None) -> Iterator[slice]:
        """The images in blocks, by default of so many that the logits of all classes have room."""
        block = block or self.block
        return (slice(start, min(start + block, len(self.x))) for start in range(0, len(self.x), block))

    def begin(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """z of the text prior. Returns sums as `gta.transduct.mixture.confident_sums` does: of the 8 most confident images of each class,
        features weighted by the prior, (M, d), and the weights, (M,)."""
        best: list[Tensor] = []
        for rows in self.rows():
            logits = torch.mm(self.x[rows], texts.T, out=self.room[: rows.stop - rows.start])
            chosen = _largest(logits, self.now.shape[1]).sort(1).values
            self.classes[rows], self.log_norm[rows] = chosen.int(), _log_sum_exp(self.second[: len(logits)].copy_(logits))
            self.now[rows] = (logits.gather(1, chosen) - self.log_norm[rows, None]).exp()
            odds = log_odds(logits).T  # (M, B)
            top = largest(odds, min(CONFIDENT, odds.shape[1])).sort(1).values
            new = [odds.gather(1, top), top + rows.start]
            best = [torch.cat(both, 1) for both in zip(best, new, strict=True)] if best else new
            top = largest(best[0], min(CONFIDENT, best[0].shape[1])).sort(1).values  # by row, so that of equals the first stays
            best = [of.gather(1, top) for of in best]
        self.rest = (1 - self.now.sum(1)).clamp_min(0)
        confidence, images = best[0].sigmoid(), best[1]  # z of its log-odds
        sums = torch.zeros_like(texts)
        for rank in range(images.shape[1]):  # one by one, for all together are 8 M d
            sums += confidence[:, rank, None] * self.x[images[:, rank]]
        return sums, confidence.sum(1)

    def choose(self, weights: Tensor, offset: Tensor) -> None:
        """The classes to hold, by the logits f_i . weights_j + offset_j and the neighbours' z, and the first update of z."""
        held = torch.empty_like(self.classes)
        for rows in self.rows():
            logits = torch.addmm(offset, self.x[rows], weights.T, out=self.room[: rows.stop - rows.start])
            if self.pull._nnz():
                logits += LAPLACIAN * _dense_rows(self.pull, rows)
            entries, values = self._of_neighbours(rows)
            logits.view(-1).index_add_(0, entries, values, alpha=LAPLACIAN)
            chosen = _largest(logits, held.shape[1]).sort(1).values
            mixed = logits.gather(1, chosen)
            held[rows], self.others[rows] = chosen.int(), _log_sum_exp(logits.scatter_(1, chosen, -torch.inf))
            self.unary[rows] = mixed - LAPLACIAN * self._gathered(entries, values, chosen)
            self._softmax(rows, mixed)
        self.classes, self.now, self.next = held, self.next, self.now

    def update(self) -> None:
        """One Jacobi update of z."""
        for rows in self.rows():
            self._softmax(rows, self.unary[rows] + LAPLACIAN * self._pulled(rows))
        self.now, self.next = self.next, self.now

    def class_sums(self) -> tuple[Tensor, Tensor]:
        """The mean of z, (M,), and of z times features, (M, d), over all images."""
        size, keep = self.room.shape[1], self.now.shape[1]
        counts, sums = torch.zeros(size, dtype=torch.float64, device=self.x.device), self.x.new_zeros(size, self.x.shape[1])
        for rows in self.rows(max(1, self.entries // (4 * keep))):
            classes, z = self.classes[rows].flatten().long(), self.now[rows].flatten()
            counts += torch.bincount(classes, z.double(), size)
            first = torch.arange(0, len(z) + 1, keep, device=z.device)
            sums += torch.sparse_csc_tensor(first, classes, z, (size, len(first) - 1), check_invariants=False) @ self.x[rows]
        return (counts / len(self.x)).to(sums), sums / len(self.x)

    def label_terms(self, lam: float) -> float:
        """The terms of J that hold z, but for that of the mixture, which `unary` holds."""
        terms = 0.0
        for rows in self.rows():
            z, rest = self.now[rows], self.rest[rows]
            of_image = -(z * self.unary[rows] + LAPLACIAN / 2 * z * self._pulled(rows)).sum(1) - torch.special.entr(z).sum(1)
            of_image += lam * self.log_norm[rows] - torch.special.entr(rest)
            terms += float((of_image - torch.where(rest > 0, rest * self.others[rows], 0)).double().sum())
        return terms

    def _of_neighbours(self, rows: slice) -> tuple[Tensor, Tensor]:
        """The entries of W z of a block: their places in the flat (B, M), and w_in z_n."""
        start = self.graph.crow_indices()[rows.start : rows.stop + 1]
        edges = slice(int(start[0]), int(start[-1]))
        near, weight = self.graph.col_indices()[edges], self.graph.values()[edges]
        owner = torch.repeat_interleave(torch.arange(len(start) - 1, dtype=torch.int32, device=near.device), start.diff())
        entries = self.classes.index_select(0, near).add_((owner * self.room.shape[1])[:, None])
        return entries.view(-1), self.now.index_select(0, near).mul_(weight[:, None]).view(-1)

    def _gathered(self, entries: Tensor, values: Tensor, classes: Tensor) -> Tensor:
        """The sum of the values at the classes of each row of a block, (B, keep)."""
        room = self.second[: len(classes)].zero_()
        room.view(-1).index_add_(0, entries, values)
        return room.gather(1, classes)

    def _pulled(self, rows: slice) -> Tensor:
        """sum_n w_in z_n of the classes that images i hold, (B, keep)."""
        return self._gathered(*self._of_neighbours(rows), self.classes[rows].long())

    def _softmax(self, rows: slice, logits: Tensor) -> None:
        """z of a block, after this update."""
        norm = torch.logaddexp(logits.logsumexp(1), self.others[rows])
        torch.exp(logits - norm[:, None], out=self.next[rows])
        self.rest[rows] = (self.others[rows] - norm).exp()


def _largest(values: Tensor, k: int) -> Tensor:
    """`gta.affinity.largest`, faster where k is small: the k largest lie in the k groups of columns whose maxima are largest."""
    n = values.shape[1]
    if n < 4 * GROUP * k:
        return largest(values, k)
    grouped = n - n % GROUP
    groups = largest(values[:, :grouped].unflatten(1, (-1, GROUP)).amax(2), k).sort(1).values  # by index, as `largest` settles ties
    columns = (groups[:, :, None] * GROUP + torch.arange(GROUP, device=values.device)).flatten(1)
    columns = torch.cat([columns, torch.arange(grouped, n, device=values.device).expand(len(columns), -1)], 1)
    return columns.gather(1, largest(values.gather(1, columns), k))


def _log_sum_exp(logits: Tensor) -> Tensor:
    """log sum exp of each row, in the logits' own memory; -inf where all are."""
    top = logits.amax(1).clamp_min(torch.finfo(logits.dtype).min)
    return logits.sub_(top[:, None]).exp_().sum(1).log_().add_(top)


def _dense_rows(matrix: Tensor, rows: slice) -> Tensor:
    """A block of rows of a sparse CSR matrix, dense."""
    start = matrix.crow_indices()[rows.start : rows.stop + 1]
    entries = slice(int(start[0]), int(start[-1]))
    of_block = (start - start[0], matrix.col_indices()[entries], matrix.values()[entries])
    return torch.sparse_csr_tensor(*of_block, (len(start) - 1, matrix.shape[1]), check_invariants=False).to_dense()
