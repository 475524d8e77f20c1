"""Few-shot curves: accuracy against the number of labelled images of each class, and tables of these numbers."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts.drawing import METHODS, grid, setting, tell
from gta.charts.frames import comparisons, frame_of, in_order, shown
from gta.scores.rows import Row
from gta.scores.statistics import label

COLUMNS = 4  # panels in a line
# For each method: colour, mark, line, and whether the mark is filled.
STYLES = {
    "CLIP": (METHODS["CLIP"], "D", ":", True),
    "CLIP+attributes": (METHODS["CLIP"], "P", ":", True),
    "TransCLIP-FS, released": (METHODS["TransCLIP"], "s", "--", False),
    "TransCLIP-FS, aligned": (METHODS["TransCLIP"], "s", "-", True),
    "GTA-CLIP-FS": (METHODS["GTA-CLIP"], "o", "-", True),
}


def curves(rows: Sequence[Row]) -> Figure:
    """One panel for each dataset and encoder: a line through the means of each method, a dot for each seed; a log2 axis of shots."""
    panels = list(frame_of(rows).groupby(["dataset", "backbone"], sort=False))
    figure, axes = grid(len(panels), COLUMNS, (4.6, 3.7))
    for axis, ((dataset, backbone), of_panel) in zip(axes, panels, strict=True):
        _panel(axis, of_panel)
        axis.set_title(setting(dataset, backbone))
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("accuracy, %")
    named = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    tell(figure, [named[name] for name in STYLES if name in named])
    return figure


def _panel(axis: Axes, frame: pd.DataFrame) -> None:
    names = [name for name in STYLES if name in set(frame.label)]
    shots = sorted(frame.shots.unique())
    for place, name in enumerate(names):
        color, mark, line, filled = STYLES[name]
        of_method = frame[frame.label == name]
        aside = 2 ** (0.05 * (place - (len(names) - 1) / 2))  # so that the dots of methods do not overlap
        axis.scatter(of_method.shots * aside, of_method.accuracy, s=16, color=color, alpha=0.45, linewidth=0)
        means = of_method.groupby("shots").accuracy.mean()
        axis.plot(means.index * aside, means, line, marker=mark, ms=5, color=color, mfc=color if filled else "white", label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(shots, [str(count) for count in shots])
    axis.minorticks_off()
    axis.set_xlim(min(shots) / 2**0.4, max(shots) * 2**0.4)
    axis.set_xlabel("labelled images a class")
    axis.grid(axis="y", alpha=0.3)


def accuracies(rows: Sequence[Row]) -> pd.DataFrame:
    """Mean accuracy over seeds, with the lowest and the highest: one row for each method, one column for each number of shots."""
    key = ["dataset", "backbone", "label"]
    texts = frame_of(rows).groupby([*key, "shots"]).accuracy.agg(lambda of: f"{of.mean():.1f} [{of.min():.1f}, {of.max():.1f}]")
    cells = texts.unstack("shots").reset_index().assign(place=lambda of: of.label.map(list(STYLES).index))
    return in_order(cells, "backbone", "place").drop(columns="place").set_index(key).rename_axis(index={"label": "method"})


def differences(paired: pd.DataFrame) -> pd.DataFrame:
    """Each row compared with each reference: the columns of `gta.charts.frames.comparisons`."""
    lines = comparisons(paired).reset_index()
    lines["method"] = list(map(label, lines.method, lines.variant))
    names = ["dataset", "backbone", "reference", "method", "shots"]
    return shown(in_order(lines, *names[1:])[[*names, *lines.columns.difference([*names, "variant"], sort=False)]])
