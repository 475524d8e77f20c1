"""LabelDesc: the accuracy of each method, and its spread over templates and label words before and after."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.charts.drawing import setting, tell
from gta.charts.frames import comparisons, frame_of, in_order, shown
from gta.charts.style import PALETTE
from gta.scores.rows import Row

SETTING = ["dataset", "backbone"]
WORDS = "label words"  # variants that end so
TEMPLATE = "template "  # variants that begin so
TRAINED = "LabelDesc"


def standings(rows: Sequence[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each method and variant but those of single templates: the mean accuracy over encoders (or draws), its difference to the
    baseline with the 95 % interval over them and the verdict, and seconds. The best comes last."""
    frame = frame_of(rows)
    frame = frame[~frame.variant.str.startswith(TEMPLATE)]
    means = frame.groupby([*SETTING, "method", "variant", "baseline", "label"])[["accuracy", "seconds"]].mean().reset_index()
    told = comparisons(paired).reset_index().rename(columns={"reference": "baseline", "difference": "gain"})
    joined = means.merge(told[[*SETTING, "method", "variant", "baseline", "gain", "interval", "verdict"]], "left")
    table = in_order(joined.sort_values("accuracy", kind="stable"), "backbone", "accuracy")
    return shown(table[[*SETTING, "label", "accuracy", "baseline", "gain", "interval", "verdict", "seconds"]])


def spreads(rows: Iterable[Row]) -> pd.DataFrame:
    """How far accuracy depends on the template, and on the label words: of each encoder the mean, the standard deviation and the range over
    them; then the mean over encoders. Label words are the names, random ones, and those of other classes."""
    lines = []
    for kind, part in _by_choice(frame_of(rows)):
        over = part.groupby([*SETTING, "method", "seed"]).accuracy.agg(["mean", "std", "min", "max"])
        lines.append(over.groupby([*SETTING, "method"]).mean().reset_index().assign(over=kind))
    table = in_order(pd.concat(lines), "backbone", "over", "method")
    return shown(table[[*SETTING, "over", "method", "mean", "std", "min", "max"]])


def _by_choice(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows that differ in the template alone, and those that differ in the label words alone."""
    of_templates = frame[frame.variant.str.startswith(TEMPLATE)]
    of_words = frame[frame.variant.str.endswith(WORDS) | (frame.variant == "")]
    both = of_words.groupby([*SETTING, "method"]).variant.transform("nunique") > 1
    return [("templates", of_templates), (WORDS, of_words[both])]


def accuracies(rows: Sequence[Row]) -> Figure:
    """One panel for each dataset and encoder: a dot for each seed, a bar at the mean, the lowest method below. LabelDesc has a colour."""
    frame = frame_of(rows)
    frame = frame[~frame.variant.str.startswith(TEMPLATE)]
    panels = list(frame.groupby(SETTING, sort=False))
    counts = [part.label.nunique() for _, part in panels]
    size = (9, 0.27 * sum(counts) + 1.2 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, gridspec_kw={"height_ratios": counts})
    for axis, (key, part) in zip(axes[:, 0], panels, strict=True):
        means = part.groupby("label").accuracy.mean().sort_values(kind="stable")
        for y, (name, mean) in enumerate(means.items()):
            colour = _colour(str(name))
            axis.scatter(part[part.label == name].accuracy, [y] * int((part.label == name).sum()), s=10, color=colour, alpha=0.6)
            axis.plot([mean, mean], [y - 0.35, y + 0.35], color=colour, lw=2.5)
        axis.set(yticks=range(len(means)), yticklabels=list(means.index), ylim=(-0.6, len(means) - 0.4))
        axis.set_title(setting(*key), loc="left")
    axes[-1, 0].set_xlabel("accuracy, %")
    names = {TRAINED: TRAINED, "GTA-CLIP": "GTA-CLIP", "without training": ""}
    drawn = {name: said for said, name in names.items() if frame.method.str.startswith(name).any()}
    tell(figure, [Line2D([], [], color=_colour(name), marker="o", ls="", label=said) for name, said in drawn.items()])
    return figure


def choices(rows: Sequence[Row]) -> Figure:
    """One row for each dataset and encoder: accuracy for each template (left) and each kind of label words (right), by method, a dot for
    each encoder and choice."""
    frame = frame_of(rows)
    parts = _by_choice(frame)
    panels = list(dict.fromkeys(zip(frame.dataset, frame.backbone, strict=True)))
    figure, axes = plt.subplots(len(panels), 2, figsize=(11, 1.9 * len(panels) + 0.6), squeeze=False)
    for row, key in zip(axes, panels, strict=True):
        for axis, (kind, part) in zip(row, parts, strict=True):
            part = part[(part[SETTING] == list(key)).all(axis=1)]
            methods = list(part.method.drop_duplicates())
            for y, method in enumerate(methods):
                found = part[part.method == method].accuracy
                axis.scatter(found, [y] * len(found), color=_colour(method), alpha=0.6, s=18)
            axis.set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.4, -0.6), xlabel="accuracy, %")
            axis.set_title(f"{setting(*key)}: over {kind}", loc="left", fontsize=10)
    figure.tight_layout()
    return figure


def _colour(name: str) -> str:
    return PALETTE[2] if name.startswith(TRAINED) else PALETTE[1] if name.startswith("GTA-CLIP") else "0.5"
