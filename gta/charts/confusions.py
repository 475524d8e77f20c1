"""The confusions table for readers: the ranks of a method's confused pairs among the confusions of a trained classifier."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import hypergeom

from gta.charts.drawing import METHODS

SETTING = ["dataset", "backbone", "seed", "method"]
FIRST = 10  # overlap@10
TENTH = 0.1  # of all pairs


def overlaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarise `gta.studies.confusions.compare`: one line for each method and seed.

    A line has the number of the method's pairs, how many are among the classifier's first ten and in its first tenth, the numbers
    expected for as many random pairs, and the probability that random pairs do as well in the first tenth (hypergeometric).
    """
    lines = []
    for setting, part in frame.groupby(SETTING, sort=False):
        drawn, every = len(part), int(part["of"].iloc[0])
        tenth = tenth_of(every)
        inside = int((part.place <= tenth).sum())
        line = {
            "pairs": drawn,
            "in the first ten": int((part.place <= FIRST).sum()),
            "first ten by chance": drawn * min(FIRST, every) / every,
        }
        line |= {"in the first tenth": inside, "first tenth by chance": drawn * tenth / every}
        lines.append({**dict(zip(SETTING, setting, strict=True)), **line, "p": hypergeom.sf(inside - 1, every, tenth, drawn)})
    return pd.DataFrame(lines)


def tenth_of(every: int) -> int:
    """A tenth of all pairs, rounded up."""
    return int(np.ceil(TENTH * every))


def places(frame: pd.DataFrame) -> Figure:
    """One panel for each dataset, one row for each method and seed. A mark shows the rank of a pair among the classifier's pairs, in %
    of all pairs. The first tenth is shaded; on the right is how many pairs are in it, and how many would be by chance."""
    panels = list(frame.groupby("dataset", sort=False))
    rows = [part[["method", "seed"]].drop_duplicates().shape[0] for _, part in panels]
    size = (9, 0.3 * sum(rows) + 1.1 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, sharex=True, gridspec_kw={"height_ratios": rows})
    for axis, (name, part) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, part)
        axis.set_title(name, loc="left")
    axes[-1, 0].set_xlabel("place among the classifier's pairs, % of all pairs (0: the most confused)")
    figure.tight_layout()
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    lines = overlaps(part)
    lines = lines.assign(order=lines.method.map(list(METHODS).index)).sort_values(["order", "seed"])
    for y, line in enumerate(lines.to_dict("records")):
        of = part[(part.method == line["method"]) & (part.seed == line["seed"])]
        axis.scatter(100 * (of.place - 0.5) / of["of"], [y] * len(of), marker="|", s=90, lw=1.8, color=METHODS[line["method"]], zorder=3)
        told = f"{line['in the first tenth']} of {line['pairs']}  (chance {line['first tenth by chance']:.1f})"
        axis.text(1.02, y, told, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    every = int(part["of"].iloc[0])
    axis.axvspan(0, 100 * tenth_of(every) / every, color="0.9", lw=0, zorder=0)
    axis.set(yticks=range(len(lines)), yticklabels=[f"{line.method}, seed {line.seed}" for line in lines.itertuples()], xlim=(-1, 101))
    axis.set_ylim(len(lines) - 0.4, -0.6)
