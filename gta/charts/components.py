"""What each component is worth: a heat map of the ablation, each cell against the one with one component less."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gta import manifests
from gta.results import Row
from gta.statistics import label, verdict
from gta.studies.ablation_components import ATTRIBUTES, STEPS, Cell, compared_with, name

CELLS: list[Cell] = [(attributes, *steps) for attributes in ATTRIBUTES for steps in STEPS]
HEADS = {(False, False): "neither", (False, True): "adapt", (True, False): "transduct", (True, True): "both"}
PLACES = dict(zip(STEPS, (0, 1, 2.15, 3.15), strict=True))  # of the columns: a gap where transduction begins
# The rows of `results/published.csv`, of which averages are known.
PUBLISHED: dict[str, Cell] = {
    "CLIP": ("none", False, False),
    "CLIP+attributes": ("static", False, False),
    "TransCLIP": ("none", True, False),
    "GTA-CLIP with static attributes alone": ("static", True, True),
    "GTA-CLIP": ("dynamic", True, True),
}
NAME = ["dataset", "backbone", "method", "variant"]


def read_paired(file: Path) -> pd.DataFrame:
    """`<table>_paired.csv`, with texts as they are. Raises FileNotFoundError where it was not made."""
    return pd.read_csv(file, keep_default_na=False, dtype={"dataset": str, "backbone": str, "method": str, "variant": str})


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a frame in which the worlds of the aviary are seeds of one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    return frame.assign(dataset=frame.dataset.str.partition(":")[0])


def told_apart(paired: pd.DataFrame) -> pd.DataFrame:
    """Of paired comparisons over seeds: the mean difference, the verdict of all seeds, and each seed's difference with its interval.

    Index: dataset, backbone, method, variant, reference; worlds of the aviary are seeds of one dataset.
    """
    frame = paired.assign(dataset=paired.dataset.str.partition(":")[0])
    frame["interval"] = [f"{line.difference:+.1f} [{line.low:+.1f}, {line.high:+.1f}]" for line in frame.itertuples()]
    names = [*NAME, "reference"]
    grouped = frame.groupby(names)
    said = grouped[["difference", "p_holm"]].apply(lambda of: verdict(list(of.difference), list(of.p_holm)))
    lines = grouped[["difference"]].mean().assign(verdict=said)
    return lines.join(frame.pivot(index=names, columns="seed", values="interval").add_prefix("seed "))


def steps(rows: Iterable[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """A line a cell: its accuracy, and what it adds to the cell with one component less."""
    frame = frame_of(rows)
    cells = pd.DataFrame([(*cell, *name(cell), label(*name(compared_with(cell)))) for cell in CELLS])
    cells.columns = pd.Index(["attributes", "transduct", "adapt", "method", "variant", "reference"])
    means = frame.groupby(NAME).accuracy.mean().reset_index()
    table = means.merge(cells.reset_index(names="rank")).join(told_apart(paired), on=[*NAME, "reference"])
    table = table.sort_values(["dataset", "backbone", "rank"], ignore_index=True).drop(columns="rank")
    return table.rename(columns={"reference": "compared with"}).round(1).astype(object).fillna("")


def heat_maps(rows: Sequence[Row], paired: pd.DataFrame) -> Figure:
    """A panel a dataset and encoder: attributes x (transduct, adapt), the mean accuracy over seeds with each seed's below it, and the
    mean gain over the cell with one component less where every seed agrees. Colours are of a panel, from its worst to its best."""
    frame, lines = frame_of(rows), told_apart(paired)
    panels = list(frame.groupby(["dataset", "backbone"]))
    columns = min(2, len(panels)) if len(panels) <= 2 else 3
    count = -(-len(panels) // columns)
    figure, axes = plt.subplots(count, columns, figsize=(5.6 * columns, 3.9 * count), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (setting, part) in zip(axes.flat, panels, strict=False):
        _panel(axis, part, lines, setting)
    figure.tight_layout()
    return figure


def _panel(axis: Axes, part: pd.DataFrame, lines: pd.DataFrame, setting: tuple) -> None:
    means, colours = part.groupby(["method", "variant"]).accuracy.mean(), colormaps["Blues"]
    low, high = means.min(), means.max()
    for cell in CELLS:
        if (key := name(cell)) not in means.index:
            continue
        x, y = PLACES[cell[1:]], ATTRIBUTES.index(cell[0])
        shade = 0.05 + 0.8 * (means[key] - low) / max(high - low, 1e-9)
        ink = "white" if shade > 0.55 else "black"
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colours(shade), edgecolor="white", lw=2))
        seeds = part[(part.method == key[0]) & (part.variant == key[1])].sort_values("seed").accuracy
        line = (*setting, *key, label(*name(compared_with(cell))))
        said = lines.verdict.get(line, "")
        axis.text(x, y - (0.2 if said else 0.1), f"{means[key]:.1f}", ha="center", va="center", color=ink, fontsize=14)
        axis.text(x, y + (0.06 if said else 0.2), "  ".join(f"{a:.1f}" for a in seeds), ha="center", va="center", color=ink, fontsize=8)
        if said:
            mark = f"{'▲' if said == 'better' else '▼'} {lines.difference[line]:+.1f}"
            axis.text(x, y + 0.32, mark, ha="center", va="center", color=ink, fontsize=10, fontweight="bold")
    axis.set(xlim=(-0.55, 3.7), ylim=(len(ATTRIBUTES) - 0.45, -0.55), xticks=list(PLACES.values()), xticklabels=[HEADS[s] for s in STEPS])
    axis.set(yticks=range(len(ATTRIBUTES)), yticklabels=ATTRIBUTES, ylabel="attributes", title=f"{setting[0]}, {setting[1]}: accuracy, %")
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def beside_published(rows: Iterable[Row], published: Path) -> pd.DataFrame:
    """The averages that the paper's ablation is known by, beside the mean of each encoder over the datasets of the paper that were run."""
    frame = frame_of(rows)
    frame = frame[frame.dataset.isin(manifests.names())]
    known = pd.read_csv(published, dtype={"accuracy": float}, keep_default_na=False)
    known = known[known.table == "ablation"]
    table = pd.DataFrame({"row": known.method, "in the paper": known.accuracy, "source": known.source})
    for backbone, of_backbone in frame.groupby("backbone"):
        head = f"{backbone}, mean of {of_backbone.dataset.nunique()} datasets"
        means = of_backbone.groupby(["method", "variant"]).accuracy.mean()
        table[head] = [means.get(name(PUBLISHED[method]), np.nan) for method in known.method]
    if frame.empty:
        table["here"] = "not run"
    return table.round(2).reset_index(drop=True)
