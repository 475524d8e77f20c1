"""The table of photographs for readers: accuracies with intervals over draws, what exceeds centring, and why adapt helps or hurts."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.charts.drawing import METHODS, aside, tell
from gta.charts.frames import comparisons, dataset_of, frame_of, in_order, interval, plain, shown
from gta.charts.style import PALETTE
from gta.scores.rows import Row
from gta.scores.statistics import label, t_interval
from gta.studies.photographs import NO_ATTRIBUTES, OWN_MEAN

SETTING = ["dataset", "backbone"]
# The rows in their order: what each is called, its method and its variant.
ROWS = {
    "CLIP": ("CLIP", ""),
    "CLIP, own mean": ("CLIP", OWN_MEAN),
    "TransCLIP": ("TransCLIP", ""),
    "GTA-CLIP": ("GTA-CLIP", NO_ATTRIBUTES),
    "CLIP + attributes": ("CLIP+attributes", ""),
    "CLIP + attributes, own mean": ("CLIP+attributes", OWN_MEAN),
    "TransCLIP + attributes": ("TransCLIP+attributes", ""),
    "GTA-CLIP + attributes": ("GTA-CLIP", ""),
}
NAMED = {key: name for name, key in ROWS.items()}
TEXTS = {NO_ATTRIBUTES: ("names", PALETTE[0]), "": ("attributes", PALETTE[1])}  # of the runs of GTA-CLIP, by variant
# Methods against what they are made of, and against the control.
AGAINST = [
    ("TransCLIP", "CLIP, own mean"),
    ("GTA-CLIP", "CLIP, own mean"),
    ("GTA-CLIP", "TransCLIP"),
    ("TransCLIP + attributes", "CLIP + attributes, own mean"),
    ("GTA-CLIP + attributes", "CLIP + attributes, own mean"),
    ("GTA-CLIP + attributes", "TransCLIP + attributes"),
]


def read(file: Path) -> pd.DataFrame:
    """Read `photographs_iterations.csv` or `photographs_classes.csv`; draws count as seeds of one dataset, and class names stay text.

    Raises FileNotFoundError, with what makes the file.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: `snakemake photographs` makes it, where the folders of photographs are")
    empty = {name: [""] for name in ("changed", "loss", "fall", "right")}
    frame = pd.read_csv(file, dtype={"class": str}, keep_default_na=False, na_values=empty)
    return in_order(frame.assign(dataset=frame.dataset.map(dataset_of)), "backbone")


def standings(rows: Sequence[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset, encoder and method: mean accuracy over draws and its 95 % interval, the mean gain over CLIP with its
    interval and verdict, ece in %, brier, and seconds an image."""
    frame, gains = _named(rows), _gains(paired)
    lines = []
    for (dataset, backbone, name), of in frame.groupby([*SETTING, "name"], sort=False):
        line = {"dataset": dataset, "backbone": backbone, "row": name, "draws": len(of), "images": int(of.n_total.median())}
        line |= {"accuracy": of.accuracy.mean(), "95 %": interval(*t_interval(list(of.accuracy))).replace("+", "")}
        gain = gains[(gains[SETTING] == [dataset, backbone]).all(axis=1) & (gains.row == name) & (gains.against == "CLIP")]
        line |= {key: gain[key].iloc[0] if len(gain) else "" for key in ("difference", "interval", "verdict")}
        line |= {"ece": of.ece.mean(), "brier": of.brier.mean(), "ms an image": 1000 * (of.seconds / of.n_total).mean()}
        lines.append(line)
    table = pd.DataFrame(lines).rename(columns={"difference": "gain"})
    table["brier"] = table.brier.map("{:.3f}".format)
    return _in_order(table)


def compared(paired: pd.DataFrame) -> pd.DataFrame:
    """The pairs of `AGAINST`: the mean difference in points, its 95 % interval over draws, the verdict, and each draw."""
    gains = _gains(paired)
    kept = [pair in AGAINST for pair in zip(gains.row, gains.against, strict=True)]
    gains = gains[kept].rename(columns=lambda name: name.replace("encoder ", "draw "))
    draws = [name for name in gains.columns if name.startswith("draw ")]
    return _in_order(gains[[*SETTING, "row", "against", "difference", "interval", "verdict", *draws]])


def accuracies(rows: Sequence[Row]) -> Figure:
    """A panel for each dataset and encoder: a dot for each draw of a method, a bar at the mean, a band as wide as its 95 % interval."""
    frame = _named(rows)
    panels = list(frame.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels) + 2, 3.4), sharey=True, squeeze=False)
    for axis, (key, of_panel) in zip(axes.flat, panels, strict=True):
        places = aside(of_panel.seed, 0.12)
        for name, of in of_panel.groupby("name"):
            y, color = list(ROWS).index(str(name)), METHODS[plain(of.method.iloc[0])]
            low, high = t_interval(list(of.accuracy))
            if len(of) > 1:
                axis.barh(y, high - low, left=low, height=0.7, color=color, alpha=0.25, lw=0)
            axis.vlines(of.accuracy.mean(), y - 0.35, y + 0.35, color=color, lw=2.5)
            axis.plot(of.accuracy, [y + places[seed] for seed in of.seed], "o", color=color, ms=3)
        axis.set(yticks=range(len(ROWS)), yticklabels=list(ROWS), ylim=(len(ROWS) - 0.5, -0.5), xlabel="accuracy, %")
        axis.set_title(_title(*key), loc="left")
    figure.tight_layout()
    return figure


def reasons(iterations: pd.DataFrame, classes: pd.DataFrame) -> Figure:
    """A row of panels for each dataset and encoder. Left and middle: accuracy, and precision of the confident images, by iteration; thin
    lines are draws, thick ones their mean. Right: for each class the precision of its confident images in the first iteration against
    the change of `right` from the first to the last, means over draws. iterations, classes: of `read`."""
    panels = list(iterations.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(len(panels), 3, figsize=(12, 3.3 * len(panels)), squeeze=False)
    changes = _changes(classes)
    for (left, middle, right), (key, of_panel) in zip(axes, panels, strict=True):
        for variant, of in of_panel.groupby("variant"):
            _lines(left, of, "accuracy", TEXTS[str(variant)][1])
            _lines(middle, of, "precision", TEXTS[str(variant)][1])
        _classes(right, changes[(changes[SETTING] == list(key)).all(axis=1)])
        left.set(xlabel="iteration", ylabel="accuracy, %")
        middle.set(xlabel="iteration", ylabel="confident images right, %")
        right.set(xlabel="confident images of a class right at first, %", ylabel="change in the class, points")
        left.set_title(_title(*key), loc="left")
    tell(figure, [Line2D([], [], color=color, marker="o", ms=4, label=f"from {texts}") for texts, color in TEXTS.values()])
    return figure


def by_iteration(iterations: pd.DataFrame) -> pd.DataFrame:
    """The means over draws of what `gta.scores.confident.by_iteration` gives. iterations: of `read`."""
    frame = iterations.assign(texts=iterations.variant.map({variant: texts for variant, (texts, _) in TEXTS.items()}))
    table = frame.drop(columns=["variant", "seed", "method"]).groupby([*SETTING, "texts", "iteration"], sort=False).mean().reset_index()
    for name in ("loss", "fall"):
        table[name] = ["" if value != value else f"{value:.3f}" for value in table[name]]
    return shown(table)


def by_class(classes: pd.DataFrame) -> pd.DataFrame:
    """The means over draws in the first and in the last iteration: images labelled as the class for each image of it, `right`, `precision`
    and `share` of `gta.scores.confident.by_class`. classes: of `read`."""
    table = _changes(classes)
    table["texts"] = table.variant.map({variant: texts for variant, (texts, _) in TEXTS.items()})
    parts = [f"{name} {when}" for name in ("crowding", "right", "precision", "share") for when in ("first", "last")]
    return shown(table[[*SETTING, "texts", "class", *parts]])


def _changes(classes: pd.DataFrame) -> pd.DataFrame:
    """For each class and variant the means over draws in the first and in the last iteration; `change` is that of `right`."""
    frame = classes.assign(crowding=classes.labelled / classes.images.where(classes.images > 0))
    key, measures = [*SETTING, "variant", "class"], ["crowding", "right", "precision", "share"]
    ends = {"first": frame[frame.iteration == 0], "last": frame[frame.iteration == frame.groupby(SETTING).iteration.transform("max")]}
    parts = [of.groupby(key, sort=False)[measures].mean().add_suffix(f" {when}") for when, of in ends.items()]
    table = parts[0].join(parts[1]).reset_index()
    return table.assign(change=table["right last"] - table["right first"])


def _lines(axis: Axes, frame: pd.DataFrame, column: str, color: tuple) -> None:
    for _, draw in frame.groupby("seed"):
        axis.plot(draw.iteration, draw[column], color=color, lw=0.7, alpha=0.5)
    mean = frame.groupby("iteration")[column].mean()
    axis.plot(mean.index, mean, "o-", color=color, lw=2.2, ms=4)
    axis.set_xticks(sorted(set(frame.iteration)))


def _classes(axis: Axes, changes: pd.DataFrame) -> None:
    axis.axhline(0, color="0.3", lw=1)
    for variant, of in changes.groupby("variant"):
        color = TEXTS[str(variant)][1]
        axis.plot(of["precision first"], of.change, "o", color=color, ms=4)
        for name, x, y in zip(of["class"], of["precision first"], of.change, strict=True):
            axis.annotate(name, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7, color=color)


def _named(rows: Sequence[Row]) -> pd.DataFrame:
    """One line for each row, with the `name` that the chart gives it."""
    frame = frame_of(rows)
    return frame.assign(name=[NAMED[key] for key in zip(frame.method, frame.variant, strict=True)])


def _gains(paired: pd.DataFrame) -> pd.DataFrame:
    """The comparisons, with `row` and `against` as the chart names them."""
    names = {label(*key): name for key, name in NAMED.items()}
    table = comparisons(paired).reset_index()
    table = table.assign(row=list(map(label, table.method, table.variant)))
    return table.assign(row=table.row.map(names), against=table.reference.map(names))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return shown(in_order(table.assign(rank=table.row.map(list(ROWS).index)), "backbone", "rank").drop(columns="rank"))


def _title(dataset: object, backbone: object) -> str:
    name, _, part = str(dataset).partition("#small-")
    return f"{name}, {part} images a draw, {backbone}"
