"""The robustness table for readers: gain over the baseline against the strength of a difficult condition."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts import frames
from gta.charts.drawing import MARKS, METHODS, aside, tell
from gta.charts.frames import METHOD, comparisons, in_order, plain
from gta.scores.rows import Row

# For each condition: the title of its panels, and what its strength counts.
CONDITIONS = {
    "imbalanced": ("imbalanced classes", "images of the most frequent class\nto one of the least frequent"),
    "classes": ("only some classes present", "classes among the images\n(all are named)"),
    "small": ("few images", "images in all"),
    "unseen": ("unseen classes mixed in", "classes without a name,\nwhose images are there"),
}
KEY = ["dataset", "backbone", "condition", "strength"]


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows with `dataset` split into `dataset`, `condition` and `strength`. `part` is the unsplit dataset; `name` is the plain name
    of the method."""
    frame = frames.frame_of(rows)
    split = frame.dataset.str.extract(r"^(?P<whole>.+)#(?P<condition>[a-z]+)-(?P<strength>\d+)$")
    frame = frame.assign(part=frame.dataset, dataset=split.whole, condition=split.condition, strength=split.strength.astype(int))
    return frame.assign(name=frame.method.map(plain))


def standings(frame: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each method and strength: images that count, accuracy of the baseline and of the method, mean gain with its
    interval and verdict, and each encoder's gain. frame: of `frame_of`; paired: the paired comparisons of the table."""
    base = frame[frame.name == "CLIP"].groupby(KEY).accuracy.mean().rename("CLIP")
    others = frame[frame.name != "CLIP"].groupby([*KEY, "part", *METHOD[2:], "baseline", "name"])
    means = others.agg(images=("n_total", "median"), accuracy=("accuracy", "mean")).astype({"images": int}).reset_index()
    lines = comparisons(paired).rename_axis(index={"dataset": "part", "reference": "baseline"}).rename(columns={"difference": "gain"})
    table = means.join(base, on=KEY).join(lines, on=["part", *METHOD[1:], "baseline"])
    order = {name: place for place, name in enumerate(CONDITIONS)}
    table = table.assign(method=table.name, rank=table.condition.map(order))
    table = in_order(table, "backbone", "rank", "method", "strength")
    first = [*KEY, "method", "images", "CLIP", "accuracy", "gain", "interval", "verdict"]
    return table[[*first, *(column for column in table.columns if column.startswith("encoder "))]]


def harm(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `standings` whose mean gain is below zero, the worst first."""
    return table[table.gain < 0].sort_values("gain", ignore_index=True)


def gains(frame: pd.DataFrame) -> Figure:
    """One row for each dataset and encoder, one panel for each condition: each seed's gain with its interval, a line through the means."""
    settings = list(frame.groupby(["dataset", "backbone"], sort=False))
    conditions = [condition for condition in CONDITIONS if condition in set(frame.condition)]
    size = (3.1 * len(conditions) + 0.6, 2.7 * len(settings) + 0.9)
    figure, axes = plt.subplots(len(settings), len(conditions), figsize=size, squeeze=False, sharey="row")
    for row, ((dataset, _), part) in zip(axes, settings, strict=True):
        for axis, condition in zip(row, conditions, strict=True):
            _panel(axis, part[part.condition == condition])
        row[0].set_ylabel(f"{dataset}\ngain over {part.baseline.iloc[0]},\npoints")
    for column, condition in zip(axes.T, conditions, strict=True):
        column[0].set_title(CONDITIONS[condition][0], fontsize=11)
        [axis for axis in column if axis.get_visible()][-1].set_xlabel(CONDITIONS[condition][1])
    figure.align_ylabels(axes[:, 0])
    tell(figure, axes[0, 0].get_legend_handles_labels()[0])
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    """Draw one panel. Strengths are equally spaced, because they are ratios in some conditions and counts in others."""
    strengths = sorted(part.strength.unique())
    if not strengths:
        return axis.set_visible(False)
    axis.axhline(0, color="0.2", lw=1.4, zorder=1)
    beside = aside(part.seed, 0.05)
    for method, shift in (("TransCLIP", -0.12), ("GTA-CLIP", 0.12)):
        of = part[part.name == method]
        means, color, mark = of.groupby(of.strength.map(strengths.index)).gain.mean(), METHODS[method], MARKS[method]
        axis.plot(means.index + shift, means, color=color, lw=2, label=method, marker=mark, ms=6, zorder=3)
        x = of.strength.map(strengths.index) + shift + of.seed.map(beside)
        axis.vlines(x, of.gain_low, of.gain_high, color=color, lw=1, alpha=0.45, zorder=2)
        axis.scatter(x, of.gain, color="white", edgecolor=color, marker=mark, s=14, zorder=4)
    axis.set(xticks=range(len(strengths)), xticklabels=strengths, xlim=(-0.5, len(strengths) - 0.5))
    axis.grid(False, axis="x")
    axis.grid(True, axis="y")
