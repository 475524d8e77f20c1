"""One hyperparameter at a time: accuracy against its value, with a thin line for each seed."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from gta.charts.drawing import METHODS
from gta.charts.frames import comparisons, frame_of, in_order, shown
from gta.scores.rows import Row
from gta.scores.statistics import label
from gta.studies.ablation_hyperparameters import FACTORS, default, variant
from gta.worlds.settings import settings_for

COLUMNS = 4  # panels in a line
DEPTH = 8  # of the scale below the default, points of accuracy
WHOLE = label("GTA-CLIP", "")


def points(rows: Iterable[Row]) -> pd.DataFrame:
    """One line for each seed and value of each factor: dataset, backbone, factor, value, seed, accuracy, and whether the value is the
    default. The run with the defaults has a line in every factor."""
    frame = frame_of(rows)
    frame = frame[frame.method == "GTA-CLIP"]
    named = frame.variant.str.partition(" = ")
    varied = frame.assign(factor=named[0], value=pd.to_numeric(named[2]), default=False)[frame.variant != ""]
    found = [varied]
    for dataset, backbone, factor in dict.fromkeys(zip(varied.dataset, varied.backbone, varied.factor, strict=True)):
        defaults = frame[(frame.dataset == dataset) & (frame.backbone == backbone) & (frame.variant == "")]
        found.append(defaults.assign(factor=factor, value=default(settings_for(backbone, dataset), factor), default=True))
    return pd.concat(found)[["dataset", "backbone", "factor", "value", "seed", "accuracy", "default"]].reset_index(drop=True)


def curves(rows: Iterable[Row]) -> Figure:
    """One panel for each factor. Each dataset begins a new line of panels, and all its panels have one scale. A mean below the scale is
    given as a number at the bottom."""
    frame = points(rows)
    lines = [line for _, part in in_order(frame).groupby(["dataset", "backbone"], sort=False) for line in _in_lines(part)]
    figure, axes = plt.subplots(len(lines), COLUMNS, figsize=(11, 2.5 * len(lines) + 0.4), squeeze=False)
    for of_line, panels in zip(axes, lines, strict=True):
        for axis, part in zip(of_line, panels, strict=False):
            _panel(axis, part)
            _scale(axis, part, frame[(frame.dataset == part.dataset.iloc[0]) & (frame.backbone == part.backbone.iloc[0])])
        for axis in of_line[len(panels) :]:
            axis.axis("off")
        of_line[0].set_ylabel(f"{panels[0].dataset.iloc[0]}\naccuracy, %")
    figure.tight_layout()
    return figure


def _in_lines(part: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """The panels of a dataset in the order of the factors, `COLUMNS` in each line."""
    panels = [part[part.factor == factor] for factor in FACTORS if factor in set(part.factor)]
    return [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    factor = FACTORS[part.factor.iloc[0]]
    for _, of_seed in part.sort_values("value").groupby("seed"):
        axis.plot(of_seed.value, of_seed.accuracy, "-", color="0.6", lw=0.9, marker=".", ms=4)
    means = part.groupby("value").accuracy.mean()
    axis.plot(means.index, means, "o-", color=METHODS["GTA-CLIP"], lw=2, ms=4)
    for value in part[part.default].value.unique():
        axis.axvline(value, color="0.3", lw=1, ls=":")
        axis.plot([value], [means[value]], "o", color="0.15", ms=7, zorder=3)
    if factor.log:
        axis.set_xscale("log")
    axis.set_xticks(means.index, [f"{value:g}" for value in means.index], fontsize=8)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(factor.symbol)
    axis.grid(True, axis="y")


def _scale(axis: Axes, part: pd.DataFrame, of_dataset: pd.DataFrame) -> None:
    """Begin the scale at most `DEPTH` points below the worst seed of the default, so that one bad value does not flatten the others."""
    defaults = of_dataset[of_dataset.default].accuracy
    low, high = max(of_dataset.accuracy.min(), defaults.min() - DEPTH), of_dataset.accuracy.max()
    margin = 0.06 * (high - low + 1)
    axis.set_ylim(low - margin, high + margin)
    means = part.groupby("value").accuracy.mean()
    for value, mean in means[means < low].items():
        axis.text(value, 0.03, f"▼\n{mean:.1f}", transform=axis.get_xaxis_transform(), fontsize=8, ha="left")


def table(rows: Sequence[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each value: the mean accuracy, and its difference to the default."""
    frame, lines = points(rows), comparisons(paired)
    means = frame.groupby(["dataset", "backbone", "factor", "value", "default"]).accuracy.mean().reset_index()
    values = zip(means.dataset, means.backbone, means.factor, means.value, strict=True)
    keys = [(dataset, backbone, 0, "GTA-CLIP", variant(factor, value), WHOLE) for dataset, backbone, factor, value in values]
    joined = pd.concat([means, lines.reindex(pd.MultiIndex.from_tuples(keys)).reset_index(drop=True)], axis=1)
    joined["rank"] = [list(FACTORS).index(factor) for factor in joined.factor]
    joined = in_order(joined, "backbone", "rank", "value")
    return shown(joined.drop(columns="rank").assign(default=["default" if d else "" for d in joined.default]), 2)
