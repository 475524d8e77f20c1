"""The map of where each method breaks: gain over the baseline, methods as rows, conditions of batches, streams and tails as columns."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from gta.charts import frames
from gta.charts.drawing import setting, tell
from gta.charts.frames import dataset_of, in_order, interval, plain
from gta.data.batches import RANGES, STREAM
from gta.scores.rows import Row
from gta.scores.statistics import label

METHODS = (
    "CLIP",
    "TransCLIP",
    "TransCLIP, anchored",
    "TransCLIP, equal sizes",
    "TransCLIP, estimated sizes",
    "StatA",
    "OTFusion",
    "ZLaP",
    "EM-Dirichlet",
    "k-means",
    "GMM",
    "GTA-CLIP",
)
CONDITIONS: dict[str, dict[str, str]] = {  # by the head of their columns: the head of each
    "64 images, from classes": {f"{kind}-64": "{}-{}".format(*RANGES[kind]) for kind in ("verylow", "low", "medium")},
    "1,000, from classes": {f"{kind}-1000": "{}-{}".format(*RANGES[kind]) for kind in ("medium", "high", "veryhigh")},
    f"a stream, {STREAM} at a time; gamma": {"stream-100": "0.1", "stream-10": "0.01", "stream-1": "0.001", "stream-0": "by class"},
    "long tail": {f"imbalanced-{ratio}": f"{ratio} : 1" for ratio in (1, 10, 100)},
}
KEY = ["dataset", "backbone", "condition", "method"]
FULL = 25  # points of gain at which a colour is as strong as it gets
PALE = 0.3  # of a colour, where the interval holds 0
GAP = 0.25  # between groups of columns


def standings(rows: Iterable[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset, condition and method: images a draw; accuracy of the baseline on these images (`base`) and of the
    method; mean gain with its 95 % interval over encoders (`low`, `high`) and verdict. The baseline's own line, which has no gain, is of
    all batches.

    paired: the paired comparisons of the table.
    """
    frame = pd.DataFrame([row.model_dump() for row in rows])
    split = frame.dataset.map(_one_part).map(dataset_of).str.extract(r"^(?P<dataset>[^#]+)#(?P<condition>.+)$")
    frame = frame.assign(dataset=split.dataset, condition=split.condition, base=frame.accuracy - frame.gain)
    frame["method"] = [label(plain(method), variant) for method, variant in zip(frame.method, frame.variant, strict=True)]
    frame = frame.sort_values("n_total").drop_duplicates([*KEY, "seed", "draw"], keep="last")
    said = {"baseline": ("baseline", "first"), "images": ("n_total", "median"), "base": ("base", "mean"), "accuracy": ("accuracy", "mean")}
    means = frame.groupby(KEY).agg(**said)
    table = means.join(_told(paired)).reset_index()
    columns = [condition for group in CONDITIONS.values() for condition in group]
    places = {"condition": columns, "method": [*METHODS, *sorted(set(table.method) - set(METHODS))]}
    table = table.assign(images=table.images.astype(int), **{f"_{name}": table[name].map(order.index) for name, order in places.items()})
    return in_order(table, "backbone", "_condition", "_method").drop(columns=["_condition", "_method"])


def _told(paired: pd.DataFrame) -> pd.DataFrame:
    """Of each comparison with a baseline: gain, low, high and verdict over encoders, by `KEY`."""
    lines = frames.told_apart(paired.assign(dataset=paired.dataset.map(_one_part))).drop_duplicates(frames.COMPARISON)
    lines = lines[lines.reference.map(plain) == "CLIP"]
    split = lines.dataset.str.partition("#")
    method = [label(plain(method), variant) for method, variant in zip(lines.method, lines.variant, strict=True)]
    lines = lines.assign(dataset=split[0], condition=split[2], method=method)
    told = lines.set_index(KEY)[["mean", "mean_low", "mean_high", "verdict"]]
    return told.rename(columns={"mean": "gain", "mean_low": "low", "mean_high": "high"})


def _one_part(dataset: str) -> str:
    """The name of a part without its number of batches: `digits#low-64-3` for `digits#low-64x10-3`."""
    return re.sub(r"x\d+(?=-\d+$)", "", dataset)


def broken(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `standings` whose verdict is `worse`, the worst first."""
    return table[table.verdict == "worse"].sort_values("gain", ignore_index=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """`standings` for readers: one column for the interval."""
    told = [interval(low, high) for low, high in zip(table.low.fillna(-np.inf), table.high.fillna(np.inf), strict=True)]
    return frames.shown(table.assign(interval=told)[[*KEY, "images", "base", "accuracy", "gain", "interval", "verdict"]])


def maps(table: pd.DataFrame) -> Figure:
    """One panel for each dataset and encoder, of a table of `standings`. The colour says by how much accuracy is above (blue) or below
    (red) the baseline, and is pale where the interval over encoders holds 0. The first row is the baseline's accuracy."""
    panels = list(table.groupby(["dataset", "backbone"], sort=False))
    counts = [part.method.nunique() for _, part in panels]
    size, ratios = (13.5, 0.46 * sum(counts) + 1.5 * len(panels)), {"height_ratios": counts}
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, gridspec_kw=ratios)
    for axis, (named, part) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, part)
        axis.set_title(f"{setting(*named)}: accuracy of {part.baseline.iloc[0]}, %, and gain over it, points", pad=44)
    said = {"better": (15, 1), "worse": (-15, 1), "better, but the interval holds 0": (15, PALE), "worse, but it holds 0": (-15, PALE)}
    handles: list = [Patch(facecolor=_colour(*how), label=word) for word, how in said.items()]
    tell(figure, [*handles, Line2D([], [], ls="", label="* the first batches alone")])
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    """Draw one map. Groups of conditions stand apart."""
    heads: dict[float, str] = {}
    places: dict[str, float] = {}
    x = 0.0
    for head, of_group in CONDITIONS.items():
        present = [condition for condition in of_group if condition in set(part.condition)]
        places |= {condition: x + place for place, condition in enumerate(present)}
        if present:
            heads[x + (len(present) - 1) / 2] = head
            x += len(present) + GAP
    rows = list(part.method.unique())
    for cell in part.to_dict("records"):
        _cell(axis, places[cell["condition"]], rows.index(cell["method"]), cell)
    for middle, head in heads.items():
        axis.text(middle, -1.15, head, ha="center", va="bottom", fontsize=9)
    names = {condition: name for of_group in CONDITIONS.values() for condition, name in of_group.items()}
    axis.set(xlim=(-0.52, x - GAP - 0.48), ylim=(len(rows) - 0.48, -0.52), xticks=list(places.values()))
    axis.set(xticklabels=[names[condition] for condition in places], yticks=range(len(rows)))
    axis.set(yticklabels=[f"{method} *" if few else method for method, few in _on_few(part).reindex(rows).items()])
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _cell(axis: Axes, x: float, y: int, cell: Mapping) -> None:
    """Draw the gain and its interval, or, of the baseline, the accuracy."""
    told = np.isfinite(cell["gain"])
    shade = _colour(cell["gain"], 1 if cell["verdict"] in ("better", "worse") else PALE) if told else (0.93, 0.93, 0.93)
    axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=shade, edgecolor="white", lw=1.5))
    ink = "white" if np.dot(shade[:3], (0.3, 0.59, 0.11)) < 0.45 else "black"
    text = f"{cell['gain']:+.1f}" if told else f"{cell['accuracy']:.1f}"
    between = interval(cell["low"], cell["high"]) if told else ""
    axis.text(x, y - (0.14 if between else 0), text, ha="center", va="center", color=ink, fontsize=10)
    axis.text(x, y + 0.24, between, ha="center", va="center", color=ink, fontsize=6.5)


def _colour(gain: float, strength: float) -> tuple[float, float, float]:
    """strength: from 0, white, to 1."""
    red, green, blue, _ = colormaps["RdBu"](0.5 + 0.32 * float(np.clip(gain / FULL, -1, 1)) + 0.08 * float(np.sign(gain)))
    return 1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)


def _on_few(part: pd.DataFrame) -> pd.Series:
    """Of each method, whether it was measured on fewer images than the baseline in any condition."""
    most = part.groupby("condition").images.transform("max")
    return (part.images < most).groupby(part.method).any()
