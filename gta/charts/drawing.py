"""What all charts share: the colours of methods and verdicts, the drawing of seeds in a row, and panels in a grid."""

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.charts.style import PALETTE

METHODS = {"CLIP": "0.55", "TransCLIP": PALETTE[0], "GTA-CLIP": PALETTE[1]}
MARKS = {"CLIP": "D", "TransCLIP": "s", "GTA-CLIP": "o"}
VERDICTS = {"better": PALETTE[2], "worse": PALETTE[4], "": "0.55"}  # except grey, none is the colour of a method
SAID = {"better": "better: the 95 % interval over encoders is above 0", "worse": "worse: it is below 0", "": "neither"}


def aside(seeds: Iterable[int], step: float = 0.22) -> dict[int, float]:
    """The offset of each seed from the middle of its row, so that marks of seeds do not overlap and stay in the row."""
    order = sorted(set(seeds))
    step = min(step, 0.7 / len(order))
    return {seed: step * (place - (len(order) - 1) / 2) for place, seed in enumerate(order)}


def draw_seeds(axis: Axes, height: float, lines: pd.DataFrame, places: dict[int, float]) -> None:
    """Draw the lines of one comparison, as `gta.charts.frames.told_apart` returns them: for each encoder a dot at the mean over its
    draws and a thin line over their range, and at the mean over encoders a bar as wide as its 95 % interval, in the colour of the
    verdict. places: of `aside`."""
    color = VERDICTS[lines.verdict.iloc[0]]
    low, high = lines.mean_low.iloc[0], lines.mean_high.iloc[0]
    if np.isfinite(low):
        axis.barh(height, high - low, left=low, height=0.8, color=color, alpha=0.22, lw=0)
        axis.vlines(lines["mean"].iloc[0], height - 0.4, height + 0.4, color=color, lw=2)
    for line in lines.to_dict("records"):
        y = height + places[line["seed"]]
        axis.plot([line["low"], line["high"]], [y, y], color=color, lw=1)
        axis.plot([line["difference"]], [y], "o", color=color, ms=3)


def tell_verdicts(figure: Figure) -> None:
    """Draw a legend above the panels: what the colours of `draw_seeds` mean."""
    handles = [Line2D([], [], color=color, marker="o", ms=4, label=SAID[said]) for said, color in VERDICTS.items()]
    tell(figure, handles)


def tell(figure: Figure, handles: Iterable) -> None:
    """Draw a legend in one line above all panels."""
    figure.tight_layout()
    handles = list(handles)
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles), frameon=False)


def grid(count: int, columns: int, size: tuple[float, float], beside: float = 0, **options) -> tuple[Figure, list[Axes]]:
    """`count` panels, at most `columns` in a line. size: of a panel, inches; beside: the width of the labels on the left, inches."""
    columns = min(columns, count)
    lines = -(-count // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(size[0] * columns + beside, size[1] * lines), squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def setting(dataset: Hashable, backbone: Hashable) -> str:
    """The title of a panel."""
    return f"{dataset}, {backbone} encoder" if backbone == "embedded" else f"{dataset}, {backbone}"
