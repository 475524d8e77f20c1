"""How the image and text spaces change during a run: maps of pairs, agreement of the spaces, accuracy of every iterate."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gta.charts.drawing import METHODS
from gta.charts.style import PALETTE
from gta.scores.rows import Row, oracle_best


def pair_maps(maps: Sequence[pd.DataFrame], pairs: Sequence[tuple[int, int]], class_names: Sequence[str]) -> Figure:
    """Maps of `gta.studies.evolution.pair_map`: one row for each pair, one column for each iteration. Dots are images, in the colour of
    their label in that iteration (grey for a third class); large marks are texts."""
    columns = sorted(maps[0].iteration.unique())
    size = (2.6 * len(columns) + 1.4, 2.6 * len(pairs) + 0.3)
    figure, axes = plt.subplots(len(pairs), len(columns), figsize=size, squeeze=False)
    for axis, iteration in zip(axes[0], columns, strict=True):
        axis.set_title(f"iteration {iteration}")
    for row, (frame, pair) in zip(axes, zip(maps, pairs, strict=True), strict=True):
        for axis, iteration in zip(row, columns, strict=True):
            now = frame[frame.iteration == iteration]
            other = now[~now.label.isin(pair)]
            axis.scatter(other.x, other.y, s=9, color="0.7", label="another class")
            for j, color, mark in zip(pair, PALETTE, "^s", strict=False):
                images, texts = (now[(now.label == j) & (now.kind == kind)] for kind in ("image", "text"))
                axis.scatter(images.x, images.y, s=9, color=color, alpha=0.7, linewidth=0, label=class_names[j])
                axis.scatter(
                    texts.x, texts.y, s=70, color=color, marker=mark, edgecolor="black", zorder=3, label=f"{class_names[j]}, texts"
                )
            axis.set(xticks=[], yticks=[])
            axis.spines[["top", "right"]].set_visible(True)
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def agreement(measures: pd.DataFrame) -> Figure:
    """How similar the two spaces are in each iteration, from `gta.studies.evolution.table`. No axis is shorter than 0.1; otherwise an
    unimportant change would look important."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
    panels = {"structure": ["structure"], "cosine of images with texts": ["own", "other"], "modality gap": ["gap"]}
    labels = {"own": "of the same class", "other": "of two classes"}
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name, color, mark in zip(names, PALETTE, "os", strict=False):
            axis.plot(measures.index, measures[name], f"{mark}-", ms=3, color=color, label=labels.get(name))
        (low, high), middle = axis.get_ylim(), float(np.mean(axis.get_ylim()))
        axis.set(title=title, xlabel="iteration", ylim=(min(low, middle - 0.05), max(high, middle + 0.05)))
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes[1].legend(frameon=False, loc="center right")
    figure.tight_layout()
    return figure


def accuracy_by_iteration(rows: Sequence[Row]) -> Figure:
    """The accuracy of every iterate: the last one is the result, `oracle_best` has a separate mark, the baseline is a line."""
    iterates = [row for row in rows if row.variant.startswith("iterate")]
    (baseline,) = (row for row in rows if row.method != "GTA-CLIP")
    accuracy, best, color = [row.accuracy for row in iterates], oracle_best(iterates), METHODS["GTA-CLIP"]
    figure, axis = plt.subplots(figsize=(7, 3.2))
    axis.axhline(baseline.accuracy, color=METHODS["CLIP"], ls=":", lw=1.5, label=f"{baseline.method}: {baseline.accuracy:.1f} %")
    axis.plot(range(len(accuracy)), accuracy, "-", color=color, lw=1.5, zorder=1)
    axis.plot(len(accuracy) - 1, accuracy[-1], "o", ms=8, color=color, label=f"GTA-CLIP, the last iterate: {accuracy[-1]:.1f} %")
    label = f"oracle_best, picked with test labels: {best.accuracy:.1f} %, no result"
    axis.plot(iterates.index(best), best.accuracy, "o", ms=9, mfc="none", color="0.3", label=label)
    axis.set(xlabel="iteration", ylabel="accuracy, %")
    axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2))
    figure.tight_layout()
    return figure
