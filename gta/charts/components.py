"""What each component adds: a heat map of the ablation, with each cell compared to the cell with one component less."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gta.charts.drawing import grid, setting
from gta.charts.frames import METHOD, comparisons, frame_of, in_order, shown
from gta.data import manifests
from gta.scores.rows import Row
from gta.scores.statistics import label
from gta.studies.ablation_components import ATTRIBUTES, STEPS, Cell, compared_with, name

CELLS: list[Cell] = [(attributes, *steps) for attributes in ATTRIBUTES for steps in STEPS]
HEADS = {(False, False): "neither", (False, True): "adapt", (True, False): "transduct", (True, True): "both"}
PLACES = dict(zip(STEPS, (0, 1, 2.15, 3.15), strict=True))  # of the columns: a gap where transduction begins
# The rows of `results/published.csv` whose averages the paper gives.
PUBLISHED: dict[str, Cell] = {
    "CLIP": ("none", False, False),
    "CLIP+attributes": ("static", False, False),
    "TransCLIP": ("none", True, False),
    "GTA-CLIP with static attributes alone": ("static", True, True),
    "GTA-CLIP": ("dynamic", True, True),
}


def steps(rows: Iterable[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each cell: its accuracy, and what it adds to the cell with one component less."""
    cells = pd.DataFrame([(*cell, *name(cell), label(*name(compared_with(cell)))) for cell in CELLS])
    cells.columns = pd.Index(["attributes", "transduct", "adapt", "method", "variant", "reference"])
    means = frame_of(rows).groupby(METHOD).accuracy.mean().reset_index()
    table = means.merge(cells.reset_index(names="rank")).join(comparisons(paired), on=[*METHOD, "reference"])
    table = in_order(table, "backbone", "rank").drop(columns=["rank", "shots"])
    return shown(table.rename(columns={"reference": "compared with"}))


def heat_maps(rows: Sequence[Row], paired: pd.DataFrame) -> Figure:
    """One panel for each dataset and encoder: attributes x (transduct, adapt).

    A cell shows the mean accuracy over encoders, below it the lowest and the highest, and, if the interval over encoders excludes 0, the
    mean gain over the cell with one component less. The colours of a panel go from its worst to its best cell.
    """
    frame, lines = frame_of(rows), comparisons(paired)
    panels = list(frame.groupby(["dataset", "backbone", "shots"], sort=False))
    figure, axes = grid(len(panels), 2 if len(panels) <= 2 else 3, (5.6, 3.9))
    for axis, (key, part) in zip(axes, panels, strict=True):
        _panel(axis, part, lines, key)
    figure.tight_layout()
    return figure


def _panel(axis: Axes, part: pd.DataFrame, lines: pd.DataFrame, key: tuple) -> None:
    means, colours = part.groupby(["method", "variant"]).accuracy.mean(), colormaps["Blues"]
    low, high = means.min(), means.max()
    for cell in CELLS:
        if (named := name(cell)) not in means.index:
            continue
        x, y = PLACES[cell[1:]], ATTRIBUTES.index(cell[0])
        shade = 0.05 + 0.8 * (means[named] - low) / max(high - low, 1e-9)
        ink = "white" if shade > 0.66 else "black"
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colours(shade), edgecolor="white", lw=2))
        seeds = part[(part.method == named[0]) & (part.variant == named[1])].sort_values("seed").accuracy
        line = (*key, *named, label(*name(compared_with(cell))))
        said = lines.verdict.get(line, "")
        axis.text(x, y - (0.2 if said else 0.1), f"{means[named]:.1f}", ha="center", va="center", color=ink, fontsize=14)
        axis.text(
            x, y + (0.06 if said else 0.2), f"{seeds.min():.1f} to {seeds.max():.1f}", ha="center", va="center", color=ink, fontsize=8
        )
        if said:
            mark = f"{'▲' if said == 'better' else '▼'} {lines.difference[line]:+.1f}"
            axis.text(x, y + 0.32, mark, ha="center", va="center", color=ink, fontsize=10, fontweight="bold")
    axis.set(xlim=(-0.55, 3.7), ylim=(len(ATTRIBUTES) - 0.45, -0.55), xticks=list(PLACES.values()), xticklabels=[HEADS[s] for s in STEPS])
    axis.set(yticks=range(len(ATTRIBUTES)), yticklabels=ATTRIBUTES, ylabel="attributes", title=f"{setting(*key[:2])}: accuracy, %")
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def beside_published(rows: Iterable[Row], published: Path) -> pd.DataFrame:
    """The averages of the paper's ablation, beside each encoder's mean over those datasets of the paper that were run here."""
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
