"""The robustness table for readers: gain over the baseline against the strength of what may go wrong."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.figures import PALETTE
from gta.results import Row
from gta.statistics import verdict

# By condition: the title of its panels, and what its strength counts.
CONDITIONS = {
    "imbalanced": ("imbalanced classes", "images of the most frequent class\nto one of the least frequent"),
    "classes": ("only some classes present", "classes among the images\n(all are named)"),
    "small": ("few images", "images in all"),
    "unseen": ("unseen classes mixed in", "classes without a name,\nwhose images are there"),
}
COLOURS = {"TransCLIP": PALETTE[1], "GTA-CLIP": PALETTE[0]}
MARKS = {"TransCLIP": "s", "GTA-CLIP": "o"}


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows with `condition` and `strength` of their part, worlds of the aviary as seeds of one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    split = frame.dataset.str.extract(r"^(?P<whole>.+)#(?P<condition>[a-z]+)-(?P<strength>\d+)-\d+$")
    frame = frame.assign(part=frame.dataset, dataset=split.whole.str.partition(":")[0], condition=split.condition)
    frame["strength"] = split.strength.astype(int)
    return frame.assign(method=frame.method.str.removesuffix("+attributes"))


def paired(file: Path) -> pd.DataFrame:
    """`robustness_paired.csv`. Raises FileNotFoundError."""
    return pd.read_csv(file, keep_default_na=False)


def standings(frame: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Of `frame_of`, and of the table's paired comparisons: a line a method and strength: images that count, accuracy of the baseline and
    of the method, mean gain, each seed's gain with its interval, and `better` or `worse` where `gta.statistics.verdict` says so."""
    against = frame[["run_id", "baseline"]].merge(comparisons, left_on=["run_id", "baseline"], right_on=["run_id", "reference"])
    p = against.set_index("run_id").p_holm
    key = ["dataset", "condition", "strength"]
    base = frame[frame.method == "CLIP"].groupby(key).accuracy.mean().to_dict()
    lines = []
    for setting, part in frame[frame.method != "CLIP"].groupby([*key, "method"]):
        told = {f"gain of seed {row.seed}": f"{row.gain:+.1f} [{row.gain_low:+.1f}, {row.gain_high:+.1f}]" for row in part.itertuples()}
        line = {
            "images": int(part.n_total.median()),
            "CLIP": base[setting[:3]],
            "accuracy": part.accuracy.mean(),
            "gain": part.gain.mean(),
        }
        verdicts = {"verdict": verdict(list(part.gain), list(p[part.run_id]))}
        lines.append({**dict(zip([*key, "method"], setting, strict=True)), **line, **dict(sorted(told.items())), **verdicts})
    table = pd.DataFrame(lines)
    order = {name: place for place, name in enumerate(CONDITIONS)}
    return table.sort_values(["dataset", "condition", "method", "strength"], key=lambda of: of.map(order) if of.name == "condition" else of)


def harm(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `standings` whose mean gain is below zero, the worst first."""
    return table[table.gain < 0].sort_values("gain", ignore_index=True)


def gains(frame: pd.DataFrame) -> Figure:
    """A row a dataset, a panel a condition: each seed's gain as a dot with its interval, and a line through the means."""
    datasets = list(dict.fromkeys(frame.dataset))
    shown = [condition for condition in CONDITIONS if condition in set(frame.condition)]
    size = (3.1 * len(shown) + 0.6, 2.7 * len(datasets) + 0.9)
    figure, axes = plt.subplots(len(datasets), len(shown), figsize=size, squeeze=False, sharey="row")
    for row, dataset in zip(axes, datasets, strict=True):
        for axis, condition in zip(row, shown, strict=True):
            _panel(axis, frame[(frame.dataset == dataset) & (frame.condition == condition)])
        baseline = frame[frame.dataset == dataset].baseline.iloc[0]
        row[0].set_ylabel(f"{dataset}\ngain over {baseline},\npoints")
    for axis, condition in zip(axes[0], shown, strict=True):
        axis.set_title(CONDITIONS[condition][0], fontsize=11)
    for axis, condition in zip(axes[-1], shown, strict=True):
        axis.set_xlabel(CONDITIONS[condition][1])
    figure.align_ylabels(axes[:, 0])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, bbox_to_anchor=(0.5, 1.02))
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    """Strengths stand at equal distances: their steps are ratios in some conditions and counts in others."""
    strengths = sorted(part.strength.unique())
    if not strengths:
        return axis.set_visible(False)
    part = part.assign(x=part.strength.map(strengths.index))
    axis.axhline(0, color="0.2", lw=1.4, zorder=1)
    for method, shift in zip(COLOURS, (-0.12, 0.12), strict=True):
        of = part[part.method == method]
        if of.empty:
            continue
        means = of.groupby("x").gain.mean()
        axis.plot(means.index + shift, means, color=COLOURS[method], lw=2, label=method, marker=MARKS[method], ms=6, zorder=3)
        x = of.x + shift + 0.05 * (of.seed.rank(method="dense") - (of.seed.nunique() + 1) / 2)
        axis.vlines(x, of.gain_low, of.gain_high, color=COLOURS[method], lw=1, alpha=0.45, zorder=2)
        axis.scatter(x, of.gain, color="white", edgecolor=COLOURS[method], marker=MARKS[method], s=14, zorder=4)
    axis.set(xticks=range(len(strengths)), xticklabels=strengths, xlim=(-0.5, len(strengths) - 0.5))
    axis.grid(False, axis="x")
    axis.grid(True, axis="y")
