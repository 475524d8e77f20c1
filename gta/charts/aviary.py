"""The aviary's figures: where errors fall, and what each attribute's recognition gains."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gta.charts.style import PALETTE


def stacked_shares(frame: pd.DataFrame) -> Figure:
    """Stacked bars of `gta.scores.truth.errors_by_family`: one bar for each row, in percent."""
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(frame) + 1.2))
    frame.plot.barh(stacked=True, ax=axis, color=[PALETTE[0], PALETTE[1], "0.75"], width=0.7)
    axis.invert_yaxis()
    axis.set(xlabel="images, %", xlim=(0, 100))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.tight_layout()
    return figure


def before_and_after(frame: pd.DataFrame, label: str) -> Figure:
    """One arrow for each row, from the mean `before` to the mean `after`, and a light dot for each world. frame: index (row, world)."""
    order = list(dict.fromkeys(frame.index.get_level_values(0)))
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(order) + 1.2))
    for y, name in enumerate(order):
        rows = frame.loc[name]
        axis.scatter(rows.before, [y - 0.15] * len(rows), color="0.7", s=14)
        axis.scatter(rows.after, [y + 0.15] * len(rows), color=PALETTE[0], s=14, alpha=0.5)
        arrow = {"arrowstyle": "->", "color": "0.2", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (rows.after.mean(), y), (rows.before.mean(), y), arrowprops=arrow)
    axis.set(yticks=range(len(order)), yticklabels=order, xlabel=label)
    axis.set_ylim(len(order) - 0.5, -0.5)
    figure.tight_layout()
    return figure
