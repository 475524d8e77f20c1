"""Few-shot curves: accuracy against the number of labelled images a class, and the numbers behind them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.figures import PALETTE
from gta.results import Row
from gta.statistics import label, verdict
from gta.tables import paired_of

COLUMNS = 4  # panels beside one another
# Colour, mark and line of each method; the baselines are grey.
STYLES = {
    "CLIP": ("0.55", "s", ":"),
    "CLIP+attributes": ("0.55", "P", ":"),
    "TransCLIP-FS, released": (PALETTE[1], "^", "--"),
    "TransCLIP-FS, aligned": (PALETTE[0], "o", "-"),
    "GTA-CLIP-FS": (PALETTE[2], "D", "-"),
}


def curves(rows: Sequence[Row]) -> Figure:
    """A panel a dataset and encoder, a line a method through the means over seeds, a dot each seed; the shots on a log2 axis."""
    frame = _frame(rows)
    panels = list(frame.groupby(["dataset", "backbone"], sort=False))
    columns = min(COLUMNS, len(panels))
    height = -(-len(panels) // columns)
    figure, axes = plt.subplots(height, columns, figsize=(4.4 * columns + 0.6, 3.4 * height + 0.6), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, ((dataset, backbone), of_panel) in zip(axes.flat, panels, strict=False):
        _panel(axis, of_panel)
        axis.set(title=f"{dataset}, {backbone} encoder" if backbone == "embedded" else f"{dataset}, {backbone}")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    named = {name: line for axis in figure.axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.tight_layout()
    figure.legend(
        [named[name] for name in STYLES if name in named],
        [name for name in STYLES if name in named],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(named),
        frameon=False,
    )
    return figure


def _panel(axis: Axes, frame: pd.DataFrame) -> None:
    names = [name for name in STYLES if name in set(frame.name)]
    shots = sorted(frame.shots.unique())
    for place, name in enumerate(names):
        color, mark, line = STYLES[name]
        of_method = frame[frame.name == name]
        aside = 2 ** (0.05 * (place - (len(names) - 1) / 2))  # so that the dots of methods lie beside one another
        axis.scatter(of_method.shots * aside, of_method.accuracy, s=16, color=color, alpha=0.45, linewidth=0)
        means = of_method.groupby("shots").accuracy.mean()
        axis.plot(means.index * aside, means, line, marker=mark, ms=5, color=color, label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(shots, [str(count) for count in shots])
    axis.minorticks_off()
    axis.set_xlim(min(shots) / 2**0.4, max(shots) * 2**0.4)
    axis.set_xlabel("labelled images a class")
    axis.grid(axis="y", alpha=0.3)


def accuracies(rows: Sequence[Row]) -> pd.DataFrame:
    """Mean accuracy over seeds, with the lowest and the highest: a row a method, a column a number of shots."""
    frame = _frame(rows)
    groups = frame.groupby(["dataset", "backbone", "name", "shots"]).accuracy
    cells = groups.agg(lambda a: f"{a.mean():.1f} [{a.min():.1f}, {a.max():.1f}]").unstack("shots")
    order = sorted(cells.index, key=lambda key: (*key[:2], list(STYLES).index(key[2])))
    return cells.loc[order].rename_axis(index={"name": "method"})


def differences(folder: Path) -> pd.DataFrame:
    """Of `few_shot_paired.csv` in a folder of tables: each seed's difference with its interval, and the verdict over all seeds."""
    frame = pd.read_csv(paired_of(Path(folder) / "few_shot.csv"), keep_default_na=False)
    frame["dataset"] = frame.dataset.str.partition(":")[0]
    frame["method"] = [label(*names) for names in zip(frame.method, frame.variant, strict=True)]
    frame = frame[frame.method != frame.reference]
    lines = []
    for (*key, _), of_row in frame.groupby(["dataset", "backbone", "reference", "method", "shots", "table"]):
        seeds = {f"seed {r.seed}": f"{r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}]" for r in of_row.itertuples()}
        found = verdict(list(of_row.difference), list(of_row.p_holm))
        lines.append(dict(zip(["dataset", "backbone", "reference", "method", "shots"], key, strict=True)) | seeds | {"verdict": found})
    return pd.DataFrame(lines).replace(np.nan, "")


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A line a row, with the method's whole name; the worlds of the aviary are one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    frame["dataset"] = frame.dataset.str.partition(":")[0]
    frame["name"] = [label(*names) for names in zip(frame.method, frame.variant, strict=True)]
    return frame.sort_values(["backbone", "dataset", "seed", "shots"], ascending=[True, False, True, True])
