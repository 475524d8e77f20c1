"""The tree above the classes: z summed up it, and the deepest name in it that is sure enough.

z of a parent is the sum of z of the classes below it, as probabilities of events that exclude one another add. The answer of an image is
the deepest name whose sum is above a floor: "a heron" where nobody can say which one. This trades how specific an answer is for how often
it is right (Deng et al. 2012, "Hedging your bets", CVPR; their reward for depth is left out, the floor alone decides).

The floor is a half or more: two names of which neither stands above the other have no class in common, so that their sums cannot both be
above a half, and those above it lie on one path. By default it is that half, the least at which the answer is one: the run then holds the
name for more likely than all others together. What a higher one gives depends on the encoder (docs/label.md).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gta.attributes import Bank
from gta.generate import Pair, pairs_to_ask
from gta.label.tables import read
from gta.labels import Z, rest_of, values_of
from gta.names import alike, nearest

FLOOR = 0.5
ENTRIES = 2**24  # sums in memory together


@dataclass(frozen=True)
class Taxonomy:
    """nodes: the names, classes first and in their order; above: the number of the parent of each, -1 at the top; classes: how many; ranks:
    names of the levels from the top down, the last that of the classes; floor: what a sum must be above.

    The rank of a class is always the last one, however few stand above it; that of a parent counts from the top.
    """

    nodes: tuple[str, ...]
    above: tuple[int, ...]
    classes: int
    ranks: tuple[str, ...]
    floor: float = FLOOR

    @classmethod
    def of(cls, class_names: Sequence[str], parents: Mapping[str, str], ranks: Sequence[str] = (), floor: float = FLOOR) -> "Taxonomy":
        """The tree of {child: parent}; a name below which there is no class is left out. ranks: by default `level 1`, ..., `class`.

        Raises ValueError, with the names, for a parent that is a class, a circle, a name with two parents, ranks of another number, and a
        floor under a half.
        """
        if not FLOOR <= floor < 1:
            raise ValueError(f"floor is {floor}; from {FLOOR} to under 1, since below that several names may be above it")
        nodes, above = _grown(class_names, _by_likeness(parents))
        for start in range(len(nodes)):
            _refuse_circle(start, nodes, above)
        tree = cls(nodes, above, len(class_names), tuple(ranks), floor)
        levels = max(map(len, tree.lineages[: len(class_names)]))
        if ranks and (len(ranks) != levels or len(set(ranks)) < levels or not all(ranks)):
            longest = max(tree.lineages[: len(class_names)], key=len)
            path = " > ".join(nodes[node] for node in reversed(longest))
            raise ValueError(f"ranks {', '.join(ranks)}: {levels} names that differ are needed, from the top down, for {path}")
        named = tuple(ranks) or (*(f"level {number}" for number in range(1, levels)), "class")
        return cls(nodes, above, len(class_names), named, floor)

    @property
    def parents(self) -> dict[str, str]:
        """{child: parent}, of which `of` makes the same tree."""
        return {self.nodes[child]: self.nodes[parent] for child, parent in enumerate(self.above) if parent >= 0}

    @property
    def alone(self) -> list[str]:
        """The classes without a parent."""
        return [self.nodes[i] for i in range(self.classes) if self.above[i] < 0]

    @cached_property
    def lineages(self) -> tuple[tuple[int, ...], ...]:
        """Of each node: itself, its parent, and so on to the top."""
        found = []
        for node in range(len(self.nodes)):
            line = [node]
            while (parent := self.above[line[-1]]) >= 0:
                line.append(parent)
            found.append(tuple(line))
        return tuple(found)

    def rank(self, node: int) -> str:
        """The name of the level of a node."""
        return self.ranks[-1] if node < self.classes else self.ranks[len(self.lineages[node]) - 1]

    def sums(self, z: Tensor) -> Tensor:
        """z of every node, float64 (N, nodes): of a parent the sum over the classes below it. z: (N, M), rows are divided by their sum."""
        whole = z.new_zeros(len(z), len(self.nodes), dtype=torch.float64)
        whole[:, : self.classes] = z.double() / z.double().sum(1, keepdim=True)
        depth = torch.tensor([len(line) for line in self.lineages])
        above = torch.tensor(self.above)
        for level in range(int(depth.max()), 1, -1):  # a node is whole once all that is deeper has been added
            children = (depth == level).nonzero().flatten().to(z.device)
            whole.index_add_(1, above.to(z.device)[children], whole[:, children])
        return whole

    def deepest(self, z: Z) -> tuple[Tensor, Tensor]:
        """The deepest node above the floor for each image, int (N,), -1 where not even a top is, and its sum (N,), 0 there. z: (N, M)."""
        depth = torch.tensor([len(line) for line in self.lineages], device=values_of(z).device)
        found, confidence = [depth.new_zeros(0)], [depth.new_zeros(0, dtype=torch.float64)]
        held = 1 - rest_of(z)  # what is not held is below no name
        at_once = max(1, ENTRIES // len(self.nodes))
        for rows in (slice(start, start + at_once) for start in range(0, len(z), at_once)):
            sums = self.sums(z[rows]) * held[rows, None]
            best = (depth * (sums > self.floor)).max(1)
            found.append(best.indices.where(best.values > 0, -1))
            confidence.append(sums.gather(1, best.indices[:, None])[:, 0].where(best.values > 0, 0).clamp(max=1))
        return torch.cat(found), torch.cat(confidence)

    def columns(self, z: Z) -> list[tuple[str, str, str]]:
        """rank, label_at_rank and confidence_at_rank of each image as a CSV holds them; empty where not even a top is sure."""
        answers = zip(*(of.tolist() for of in self.deepest(z)), strict=True)
        return [(self.rank(node), self.nodes[node], f"{sure:.4f}") if node >= 0 else ("", "", "") for node, sure in answers]

    def __str__(self) -> str:
        told = f"{self.classes} classes under {len(self.nodes) - self.classes} parents; {' > '.join(self.ranks)}; floor {self.floor}"
        return told + (f"; without a parent: {', '.join(self.alone[:5])}{', ...' * (len(self.alone) > 5)}" if self.alone else "")


@dataclass(frozen=True)
class SiblingsFirst:
    """For `select_pairs` of `gta.loop.run`: as `pairs_to_ask`, but the pairs with the nearest common parent come first.

    They are asked first, which matters where a cap ends the questions; and if no pair is frequent enough, the pair that is asked is one of
    siblings, if any is confused. lineages: of the classes, as in `Taxonomy`.
    """

    lineages: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: Taxonomy) -> "SiblingsFirst":
        return cls(tree.lineages[: tree.classes])

    def __call__(self, pairs: Sequence[Pair], beta: int, bank: Bank) -> list[Pair]:
        return pairs_to_ask(sorted(pairs, key=lambda pair: self.steps(pair[0], pair[1])), beta, bank)

    def steps(self, a: int, b: int) -> int:
        """How far up the common parent of two classes is, by the longer way: 1 for siblings, beyond all others if there is none."""
        up = {node: number for number, node in enumerate(self.lineages[a])}
        return next((max(number, up[node]) for number, node in enumerate(self.lineages[b]) if node in up), max(map(len, self.lineages)) + 1)


def read_parents(file: Path) -> dict[str, str]:
    """{child: parent} of a CSV with the columns `child` and `parent`. Raises ValueError, with the line, for what cannot be."""
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for line, row in read(file, ("child", "parent"))[1]:
        child, parent = (" ".join((row[name] or "").split()) for name in ("child", "parent"))
        if not child or not parent:
            raise ValueError(f"{file}, line {line}: a child and its parent are needed; leave the line of a name at the top out")
        if alike(known := seen.setdefault(alike(child), parent)) != alike(parent):
            raise ValueError(f"{file}, line {line}: {child!r} has two parents, {known!r} and {parent!r}; leave one of them")
        found[child] = parent
    return found


def refuse_strangers(class_names: Sequence[str], parents: Mapping[str, str]) -> None:
    """Raise ValueError for a child that is neither a class nor above one: in a list written for these classes it is misspelt."""
    tree = Taxonomy.of(class_names, parents)
    known = {alike(name) for name in tree.nodes}
    for child in parents:
        if alike(child) not in known:
            raise ValueError(f"parents: {child!r} is no class, and no class is below it{nearest(child, tree.nodes)}")


def _by_likeness(parents: Mapping[str, str]) -> dict[str, str]:
    """{key of the child: parent}: names that look the same are one name."""
    found: dict[str, str] = {}
    for child, parent in parents.items():
        if alike(known := found.setdefault(alike(child), parent)) != alike(parent):
            raise ValueError(f"{child!r} has two parents, {known!r} and {parent!r}; leave one of them")
    return found


def _grown(class_names: Sequence[str], parent_of: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Nodes, from the classes up, and the number of the parent of each."""
    nodes, above = list(class_names), [-1] * len(class_names)
    number = {alike(name): i for i, name in enumerate(nodes)}
    for i, name in enumerate(nodes):  # it grows while it is read
        if (parent := parent_of.get(alike(name))) is None:
            continue
        if (above_it := number.setdefault(alike(parent), len(nodes))) < len(class_names):
            raise ValueError(f"{parent!r} is a class and cannot be the parent of {name!r}; give the parent another name, as in '{parent}s'")
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in parent):
            raise ValueError(f"parent {parent!a} of {name!r} holds a control character or half a one; is this a text file?")
        if above_it == len(nodes):
            nodes.append(parent)
            above.append(-1)
        above[i] = above_it
    return tuple(nodes), tuple(above)


def _refuse_circle(start: int, nodes: Sequence[str], above: Sequence[int]) -> None:
    """Raise ValueError if the way up from a node comes back to a node."""
    line = [start]
    while (parent := above[line[-1]]) >= 0:
        line.append(parent)
        if parent in line[:-1]:
            circle = line[line.index(parent) :]
            raise ValueError(f"parents go in a circle: {' < '.join(nodes[node] for node in circle)}; take one of these lines out")
