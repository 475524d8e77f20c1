"""Near duplicates and unfit images, told in the form of cleanlab's Datalab: for each kind a score from 0 (bad) to 1, a flag, a summary.

near_duplicate  the distance 1 - cosine to the nearest other image, as the adapted encoder sees them, in parts of the median of all such
                distances; flagged below 0.13 of it, cleanlab's own threshold. See `gta.transduct.neighbors`.
unfit           the unfitness (`gta.label.unknowns`), 1 up to the median of all images and 0.5 at the border; flagged above the border,
                `--reject-above` or, without it, three scaled median deviations above the median (Leys et al., J. Exp. Soc. Psychol. 2013).

A flag is a reason to look, and no test: with every image alike one half may be flagged, and a folder of one kind of rubbish flags nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gta.label.tables import table
from gta.transduct.neighbors import large_nearest

NEAR = 0.13  # of the median distance
SCALE = 1.4826  # of the median deviation: then it is the standard deviation of a normal distribution
FAR = 3.0  # such deviations
ROUNDING = 1e-6  # of a cosine: a copy of an image has the distance 0


@dataclass(frozen=True)
class Issue:
    """kind: the name in the columns; scores (N,): in [0, 1], low is bad; flags: bool (N,); about: what stands beside a flag."""

    kind: str
    scores: Tensor
    flags: Tensor
    about: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        return [f"is_{self.kind}_issue", f"{self.kind}_score", *([f"{self.kind}_of"] if self.about else [])]

    def cells(self, i: int) -> list[str]:
        return [str(bool(self.flags[i])), f"{float(self.scores[i]):.4f}", *([self.about[i]] if self.about else [])]


def near_duplicates(features: Tensor, names: Sequence[str]) -> Issue:
    """features: (N, d) unit rows; names: of the images. Beside a flag stands the nearest image."""
    if len(features) < 2:
        return Issue("near_duplicate", torch.ones(len(features)), torch.zeros(len(features), dtype=torch.bool), [""] * len(features))
    cosines, others = (of[:, 0].cpu() for of in large_nearest(features, 1))
    distances = (1 - cosines).double()
    distances = torch.where(distances < ROUNDING, 0.0, distances)
    middle = distances.median()
    scores = (distances / middle).clamp(0, 1) if middle > 0 else (distances > 0).double()
    flags = scores < NEAR
    return Issue("near_duplicate", scores, flags, [names[int(j)] if flag else "" for flag, j in zip(flags, others, strict=True)])


def unfit(unfitness: Tensor, reject_above: float | None = None) -> Issue:
    """unfitness: (N,); reject_above: the border that the user gave."""
    of = unfitness.double()
    middle = of.median()
    border = middle + FAR * SCALE * (of - middle).abs().median() if reject_above is None else torch.tensor(reject_above).double()
    if border <= middle:  # the images are alike, or the border leaves out more than half of them
        return Issue("unfit", (of <= border).double(), of > border)
    return Issue("unfit", (1 - 0.5 * (of - middle) / (border - middle)).clamp(0, 1), of > border)


def listing(names: Sequence[str], issues: Sequence[Issue]) -> str:
    """`issues.csv`: a line an image, in their order."""
    columns = ["path", *(column for issue in issues for column in issue.columns)]
    return table(columns, [[name, *(cell for issue in issues for cell in issue.cells(i))] for i, name in enumerate(names)])


def summary(issues: Sequence[Issue]) -> str:
    """`issue_summary.csv`: for each kind the mean score and the number of flags."""
    rows = [[issue.kind, f"{float(issue.scores.mean()):.4f}", int(issue.flags.sum())] for issue in issues]
    return table(("issue_type", "score", "num_issues"), rows)
