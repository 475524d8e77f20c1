"""Figures of one run of the method: images, confused pairs, texts and its history. They use no labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from gta.charts.style import PALETTE
from gta.generate import Pair
from gta.labels import Z, answer


def gallery(images: Sequence, titles: Sequence[str], columns: int = 10) -> Figure:
    """Images in a grid, each with a title; images are arrays or paths."""
    rows = max(1, -(-len(images) // columns))  # one empty row if there are no images
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.05, rows * 1.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(np.asarray(Image.open(image).convert("RGB")) if isinstance(image, (str, Path)) else image, cmap="gray")
        axis.set_title(title, fontsize=8)
    figure.tight_layout()
    return figure


def changed_images(before: Z, after: Z, count: int) -> list[tuple[int, int, int]]:
    """Up to `count` images whose label changed, evenly spaced among all such images: (image, old class, new class).

    before, after: z (N, M).
    """
    old, new = answer(before), answer(after)
    rows = (old != new).nonzero().flatten()
    chosen = rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]
    return [(int(i), int(old[i]), int(new[i])) for i in chosen]


def pair_heatmap(pairs: Sequence[Pair], class_names: Sequence[str]) -> Figure:
    """A heat map of the number of images that are undecided between two classes."""
    counts = np.zeros((len(class_names),) * 2, dtype=int)
    for a, b, count in pairs:
        counts[a, b] = counts[b, a] = count
    figure, axis = plt.subplots(figsize=(5, 4.2))
    sns.heatmap(counts, ax=axis, annot=len(class_names) <= 12, fmt="d", cmap="Blues", xticklabels=class_names, yticklabels=class_names)
    axis.set_title("images whose two likeliest classes are these")
    figure.tight_layout()
    return figure


def pair_similarity(frame: pd.DataFrame, most: int = 20) -> Figure:
    """Arrows from the cosine before to the cosine after, for the first `most` pairs of `gta.studies.inspection.pair_similarity`."""
    shown = frame.head(most)
    figure, axis = plt.subplots(figsize=(7, 0.32 * len(shown) + 1.2))
    for y, row in enumerate(shown.itertuples()):
        axis.annotate("", (row.after, y), (row.before, y), arrowprops={"arrowstyle": "->", "color": PALETTE[0], "shrinkA": 0, "shrinkB": 0})
    axis.scatter(shown.before, range(len(shown)), color="0.55", s=22, label="before")
    axis.scatter(shown.after, range(len(shown)), color=PALETTE[0], s=22, label="after")
    axis.set(yticks=range(len(shown)), yticklabels=list(shown.pair), xlabel="cosine of the two classes' mean texts")
    axis.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.tight_layout()
    return figure


def history(steps: Sequence[dict]) -> Figure:
    """Label-free quantities over the iterations: share of changed labels, mean confidence, number of texts."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.6))
    names = {"changed": "share of labels that changed", "confidence": "mean of the largest z", "texts": "attribute texts"}
    for axis, (key, title), color in zip(axes, names.items(), PALETTE, strict=False):
        axis.plot([s["iteration"] for s in steps], [np.nan if s[key] is None else s[key] for s in steps], "o-", ms=3, color=color)
        axis.set(title=title, xlabel="iteration")
    figure.tight_layout()
    return figure
