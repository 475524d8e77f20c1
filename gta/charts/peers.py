"""The peers, methods that users may choose instead: the accuracy of each, alone and with transduction on top."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas.api.typing import SeriesGroupBy

from gta.charts.drawing import METHODS, tell
from gta.peers.tables import frame_of
from gta.scores.rows import Row

SAID = {"CLIP": "alone", "TransCLIP": "with transduction on top", "GTA-CLIP": "GTA-CLIP"}  # by method: what its colour means here


def accuracy_with_and_without(rows: Sequence[Row], table: str) -> Figure:
    """One panel for each dataset and number of shots: the mean accuracy of each method alone (grey) and with transduction (blue), with
    small dots for seeds. The dashed line is GTA-CLIP of one view."""
    frame = frame_of(rows, table)
    panels = [(key, part) for key, part in frame.groupby(["dataset", "shots"]) if part.on_top.any()]
    counts = [part[~part.on_top].label.nunique() for _, part in panels]
    size = (9, 0.36 * sum(counts) + 1.3 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, sharex=True, gridspec_kw={"height_ratios": counts})
    for axis, ((dataset, shots), part) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, part[~part.on_top].groupby("label").accuracy, part[part.on_top].groupby("baseline").accuracy)
        axis.set_title(f"{dataset}, {shots} shots" if shots else f"{dataset}, from names alone")
    axes[-1, 0].set_xlabel("accuracy, %")
    tell(figure, [Line2D([], [], color=METHODS[name], marker="o", ls="", label=said) for name, said in SAID.items()])
    return figure


def _panel(axis: Axes, alone: SeriesGroupBy, on_top: SeriesGroupBy) -> None:
    """Draw one panel. alone: accuracies by method; on_top: accuracies with transduction, by the method that it starts from."""
    order = list(alone.mean().sort_values().index)
    for y, label in enumerate(order):
        kind = next((name for name in ("GTA-CLIP", "TransCLIP") if label.startswith(name)), "CLIP")
        series = [(alone.get_group(label), METHODS[kind])]
        if label in on_top.groups:
            series.append((on_top.get_group(label), METHODS["TransCLIP"]))
            axis.plot([of.mean() for of, _ in series], [y, y], color="0.7", lw=1.5, zorder=1)
        for accuracies, color in series:
            axis.scatter(accuracies, [y] * len(accuracies), color=color, s=9, alpha=0.6, zorder=2)
            axis.scatter([accuracies.mean()], [y], color=color, s=46, zorder=3)
        if label in ("GTA-CLIP", "GTA-CLIP-FS"):
            axis.axvline(alone.get_group(label).mean(), color=METHODS["GTA-CLIP"], lw=1, ls="--", zorder=0)
    axis.set(yticks=range(len(order)), yticklabels=order)
