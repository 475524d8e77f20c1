"""The peers' rows as tables and a figure for readers."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.api.typing import SeriesGroupBy

from gta.figures import PALETTE
from gta.results import Row

NAME = ["dataset", "backbone", "shots", "method", "variant"]


def frame_of(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """The rows of a table, with the label of each method, whether it is transduction `on_top` of another, and its interval."""
    frame = pd.DataFrame([row.model_dump() for row in rows if row.table == table])
    if frame.empty:
        raise ValueError(f"no rows of table {table!r}")
    frame["dataset"] = frame.dataset.str.replace(r":\d+", "", regex=True)  # the worlds of the aviary are seeds of one dataset
    frame["label"] = [", ".join(filter(None, names)) for names in zip(frame.method, frame.variant, strict=True)]
    frame["on_top"] = frame.variant.str.endswith("+ transduction") | frame.method.str.startswith("TransCLIP")
    frame["interval"] = [f"{row.gain:+.1f} [{row.gain_low:+.1f}, {row.gain_high:+.1f}]" for row in frame.itertuples()]
    return frame


def standings(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """A row a method: mean accuracy, seconds and gain over CLIP, the mean accuracy with transduction on top and what that adds,
    then each seed's gain over CLIP with its interval. The best come last."""
    frame = frame_of(rows, table)
    alone, on_top = frame[~frame.on_top], frame[frame.on_top]
    means = alone.groupby([*NAME, "label"])[["accuracy", "seconds", "gain"]].mean()
    added = on_top.groupby(["dataset", "backbone", "shots", "baseline"])[["accuracy", "gain"]].mean()
    added.index = added.index.set_names("label", level="baseline")
    means = means.join(added.add_suffix(" of transduction").rename(columns={"accuracy of transduction": "with transduction"}))
    by_seed = alone.pivot(index=[*NAME, "label"], columns="seed", values="interval").add_prefix("gain of seed ")
    joined = means.round(1).join(by_seed).reset_index().drop(columns="label")
    return joined.sort_values(["dataset", "backbone", "shots", "accuracy"], ignore_index=True)


def on_top(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """What transduction adds to each method: the mean over seeds, then each seed's gain with its interval."""
    frame = frame_of(rows, table)
    frame = frame[frame.on_top]
    names = ["dataset", "backbone", "shots", "baseline"]
    by_seed = frame.pivot(index=names, columns="seed", values="interval").add_prefix("gain of seed ")
    joined = frame.groupby(names)[["gain"]].mean().round(1).join(by_seed).reset_index()
    return joined.rename(columns={"baseline": "on top of"}).sort_values(["dataset", "backbone", "shots", "gain"], ignore_index=True)


def harmonic(rows: Iterable[Row], table: str = "peers_base_to_new") -> pd.DataFrame:
    """Accuracy on base and on new classes and their harmonic mean, of each seed, then averaged: a row a method, the best last."""
    frame = frame_of(rows, table)
    halves = frame.dataset.str.rpartition("#")
    frame["dataset"], frame["half"] = halves[0], halves[2]
    key = ["dataset", "backbone", "shots", "label", "seed"]
    both = frame.pivot(index=key, columns="half", values="accuracy")
    both["harmonic mean"] = 2 * both.base * both.new / (both.base + both.new)
    seconds = frame[frame.half == "base"].set_index(key).seconds
    means = both.join(seconds).groupby(level=key[:-1]).mean().round(1)
    return means.reset_index().sort_values(["dataset", "backbone", "shots", "harmonic mean"], ignore_index=True)


def accuracy_with_and_without(rows: Sequence[Row], table: str) -> Figure:
    """A panel for each dataset and number of shots: every method's mean accuracy alone (grey) and with transduction (blue), its
    seeds small. Dashed: GTA-CLIP."""
    frame = frame_of(rows, table)
    panels = [(key, part) for key, part in frame.groupby(["dataset", "shots"]) if part.on_top.any()]
    counts = [part[~part.on_top].label.nunique() for _, part in panels]
    size = (9, 0.36 * sum(counts) + 1.3 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, sharex=True, gridspec_kw={"height_ratios": counts})
    for axis, ((dataset, shots), part) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, part[~part.on_top].groupby("label").accuracy, part[part.on_top].groupby("baseline").accuracy)
        axis.set_title(f"{dataset}, {shots} shots" if shots else f"{dataset}, from names alone")
    axes[-1, 0].set_xlabel("accuracy, %")
    figure.tight_layout()
    return figure


def _panel(axis: Axes, alone: SeriesGroupBy, on_top: SeriesGroupBy) -> None:
    """Accuracies by method, and those of transduction on top by the method it goes on from."""
    order = list(alone.mean().sort_values().index)
    for y, label in enumerate(order):
        whole = label.startswith("GTA-CLIP")
        series = [(alone.get_group(label), PALETTE[3] if whole else "0.4")]
        if label in on_top.groups:
            series.append((on_top.get_group(label), PALETTE[0]))
            axis.plot([of.mean() for of, _ in series], [y, y], color="0.7", lw=1.5, zorder=1)
        for accuracies, color in series:
            axis.scatter(accuracies, [y] * len(accuracies), color=color, s=9, alpha=0.6, zorder=2)
            axis.scatter([accuracies.mean()], [y], color=color, s=46, zorder=3)
        if whole:
            axis.axvline(alone.get_group(label).mean(), color=PALETTE[3], lw=1, ls="--", zorder=0)
    axis.set(yticks=range(len(order)), yticklabels=order)
