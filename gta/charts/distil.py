"""Students beside their teacher: accuracy against milliseconds an image on one core, megabytes, and the images learnt from."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.charts import frames
from gta.charts.drawing import setting, tell
from gta.charts.frames import frame_of, in_order, shown
from gta.charts.style import PALETTE
from gta.files import write_atomically
from gta.scores import statistics
from gta.scores.rows import Row, read_table
from gta.scores.statistics import t_interval
from gta.scores.tables import placed

SETTING = ["dataset", "backbone"]
MARK = "distil: students"  # of the document
COSTS = {"milliseconds": "ms an image, one core", "megabytes": "MB of weights"}
COLORS = {"teacher": "0.2", "hard": "0.6", "soft": PALETTE[0], "rationales": PALETTE[1], "tinybert": PALETTE[2]}
APART = 0.012  # between the marks of two objectives, of the largest cost
SHAPES = {"": "D", "1/4": "o", "1/10": "s"}


def read(file: Path) -> pd.DataFrame:
    """The costs of students (`gta.distil.runs.Distilled.table`). Worlds count as seeds of one dataset. Raises FileNotFoundError."""
    return frames.read(file)


def joined(rows: Sequence[Row], students: pd.DataFrame) -> pd.DataFrame:
    """A line for each labeller and encoder: accuracy and cost; `of`, the student's size, and `control`, the rest of its variant."""
    key = [*SETTING, "seed", "method", "variant"]
    frame = frame_of(rows)[[*key, "accuracy"]].merge(students.drop(columns="seconds"), on=key, validate="one_to_one")
    parts = frame.variant.str.partition(", ")
    teacher = frame[frame.method == "teacher"].set_index([*SETTING, "seed"]).accuracy
    kept = 100 * frame.accuracy / teacher.loc[pd.MultiIndex.from_frame(frame[[*SETTING, "seed"]])].to_numpy()
    return in_order(frame.assign(of=parts[0], control=parts[2], kept=kept), "backbone")


def standings(rows: Sequence[Row], paired: pd.DataFrame, students: pd.DataFrame) -> pd.DataFrame:
    """One line for each labeller: means over encoders of accuracy, of what is kept of the teacher's and of its cost, and the difference to
    the same student with hard labels, with its 95 % interval over encoders and the verdict. The best of a dataset comes last."""
    frame = joined(rows, students)
    means = frame.groupby([*SETTING, "method", "variant", "of", "control"], sort=False)
    table = means[["accuracy", "kept", "agreement", "images", "parameters", *COSTS, "faster"]].mean().reset_index()
    against = frames.comparisons(paired).reset_index()
    against = against[against.reference == "hard, " + against.variant.str.partition(", ")[0]]
    table = table.merge(
        against[[*SETTING, "method", "variant", "difference", "interval", "verdict"]], "left", [*SETTING, "method", "variant"]
    )
    table = in_order(table.sort_values("accuracy", kind="stable"), "backbone", "accuracy").rename(columns={"difference": "to hard"})
    table[[*COSTS, "faster"]] = table[[*COSTS, "faster"]].round(2)
    table[["accuracy", "kept", "agreement", "to hard"]] = table[["accuracy", "kept", "agreement", "to hard"]].round(1)
    table[["images", "parameters"]] = table[["images", "parameters"]].round().astype(int)
    return shown(table.drop(columns=["of", "control"]), 2)


def frontier(rows: Sequence[Row], students: pd.DataFrame) -> Figure:
    """A row for each dataset and encoder: accuracy against each cost; the teacher, and every student that learnt from the whole pool
    without a control. Students of one size cost the same; their marks stand a little apart so that intervals can be seen."""
    frame = joined(rows, students)
    frame = frame[frame.control == ""]
    panels = list(frame.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(len(panels), len(COSTS), figsize=(11, 3.4 * len(panels)), squeeze=False, sharey="row")
    for row, (key, part) in zip(axes, panels, strict=True):
        for axis, (column, said) in zip(row, COSTS.items(), strict=True):
            most = part.groupby("method")[column].mean().max()
            for (method, of), one in part.groupby(["method", "of"], sort=False):
                moved = 0.0 if method == "teacher" else APART * most * (list(COLORS).index(str(method)) - 2.5)
                _mark(axis, one[column].mean() + moved, list(one.accuracy), COLORS[str(method)], SHAPES.get(str(of), "o"))
            axis.set(xlim=(0, 1.08 * most), xlabel=said)
        row[0].set_ylabel("accuracy, %")
        row[0].set_title(setting(*key), loc="left")
    names = [name for name in COLORS if name in set(frame.method)]
    handles = [
        Line2D([], [], color=COLORS[name], marker="D" if name == "teacher" else "", ls="" if name == "teacher" else "-", label=name)
        for name in names
    ]
    shapes = [of for of in SHAPES if of and of in set(frame.of)]
    tell(figure, [*handles, *(Line2D([], [], color="0.4", marker=SHAPES[of], ls="", label=f"{of} of the parameters") for of in shapes)])
    return figure


def curve(rows: Sequence[Row], students: pd.DataFrame) -> Figure:
    """A panel for each dataset and encoder: accuracy against the unlabelled images that a student learnt from, with hard labels and with
    rationales; a dashed line is the teacher."""
    frame = joined(rows, students)
    teachers = frame[frame.method == "teacher"]
    frame = frame[frame.method.isin(["hard", "rationales"]) & (frame.of == "1/4") & ~frame.control.str.contains("shuffled")]
    panels = list(frame.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 3.6), squeeze=False)
    for axis, (key, part) in zip(axes[0], panels, strict=True):
        for method, of in part.groupby("method", sort=False):
            means = of.groupby("images").accuracy.mean()
            axis.plot(means.index, means, "-", color=COLORS[str(method)])
            for images, one in of.groupby("images"):
                _mark(axis, float(str(images)), list(one.accuracy), COLORS[str(method)], "o")
        mine = (teachers[SETTING] == list(key)).all(axis=1)
        axis.axhline(teachers[mine].accuracy.mean(), color=COLORS["teacher"], ls="--", lw=1)
        counts = sorted(set(part.images))
        axis.set(xscale="log", xlabel="unlabelled images", ylabel="accuracy, %", xticks=counts, xticklabels=counts)
        axis.xaxis.set_minor_formatter(plt.NullFormatter())
        axis.set_title(setting(*key), loc="left")
    tell(figure, [Line2D([], [], color=COLORS[name], label=name) for name in ("hard", "rationales")])
    return figure


def _mark(axis: Axes, x: float, accuracies: list[float], color: str, shape: str) -> None:
    """The mean over encoders, with its 95 % interval where there are several."""
    mean, (low, high) = float(np.mean(accuracies)), t_interval(accuracies)
    if np.isfinite(low):
        axis.plot([x, x], [low, high], color=color, lw=1.2, alpha=0.6)
    axis.plot([x], [mean], shape, color=color, ms=6)


def filled(document: str, tables: Path) -> str:
    """A document with the standings between its marks, from the CSVs in `tables`."""

    def table() -> pd.DataFrame:
        rows, paired = read_table(tables / "distil.csv"), statistics.read(tables / "distil_paired.csv")
        return standings(rows, paired, read(tables / "distil_students.csv"))

    return placed(document, MARK, table)


if __name__ == "__main__":
    folder, file = map(Path, sys.argv[1:])
    write_atomically(file, filled(file.read_text(encoding="utf-8"), folder))
