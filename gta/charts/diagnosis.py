"""What a diagnosis finds of planted failures: the words, by rank, and the images, by AUROC; beside what it has to beat."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts import frames
from gta.charts.drawing import aside, setting
from gta.charts.frames import in_order
from gta.charts.style import PALETTE
from gta.diagnosis.measure import FIRST, NULL, OURS, SLICES
from gta.files import write_atomically
from gta.scores.statistics import t_interval, verdict
from gta.scores.tables import placed

SETTING = ["dataset", "backbone"]
CONFIDENCE = "1 - confidence"
MARKS = {"diagnosis: found": "slices", "diagnosis: images": "predicted"}  # of the document, and the table that is read


def read(file: Path) -> pd.DataFrame:
    """A table of the runs. Worlds count as seeds of one dataset. Raises FileNotFoundError."""
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes its table, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype={"harm": str, "words": str}).fillna({"harm": "", "words": "", "names": ""})
    return in_order(frame.assign(dataset=frame.dataset.map(frames.dataset_of)), "backbone")


def over_worlds(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """For each dataset, encoder and method: the mean of `column` over seeds of each one's mean over its draws, and its 95 % interval over
    seeds, `low` and `high`."""
    means = frame.groupby([*SETTING, "method", "seed"], sort=False)[column].mean()
    lines = []
    for key, of in means.groupby([*SETTING, "method"], sort=False):
        low, high = t_interval(list(of))
        lines.append(dict(zip([*SETTING, "method"], key, strict=True)) | {"mean": of.mean(), "low": low, "high": high})
    return pd.DataFrame(lines, columns=[*SETTING, "method", "mean", "low", "high"])


def planted(slices: pd.DataFrame) -> pd.DataFrame:
    """The lines of draws in which something with words was planted, with `hit`: 100 where its words are among the first `FIRST` slices,
    else 0; and `true`: the same of words that are as true."""
    of = slices[(slices.draw >= 0) & (slices.words != "")]
    return of.assign(hit=100.0 * of["rank"].between(1, FIRST), true=100.0 * of.as_true.between(1, FIRST))


def found_table(slices: pd.DataFrame) -> pd.DataFrame:
    """One line for each method: in which share of all draws, in %, the plant is found, with the interval over worlds; the same of words
    that are as true; the share at rank 1; found by harm, with the number of draws; and the share of harmed images in the best slice."""
    of = planted(slices)
    parts: dict[str, pd.Series] = {}
    for head, column in {"found": "hit", "as true": "true"}.items():
        means = over_worlds(of, column).set_index([*SETTING, "method"])
        parts[head] = means["mean"].round().astype(int)
        parts[f"{head}, 95 %"] = pd.Series([_between(*ends) for ends in zip(means.low, means.high, strict=True)], index=means.index)
    table = pd.DataFrame(parts)
    table["at rank 1"] = (100 * (of["rank"] == 1)).groupby([of.dataset, of.backbone, of.method]).mean().round().astype(int)
    for harm, part in of.groupby("harm"):
        table[f"{harm} ({part.groupby(['seed', 'draw']).ngroups})"] = part.groupby([*SETTING, "method"]).hit.mean().round()
    table["harmed images"] = (100 * of.groupby([*SETTING, "method"]).precision.mean()).round()
    return frames.shown(table.reset_index(), 0)


def precision_table(slices: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset and method with slices: the share of harmed images in the best of three slices, in %, its interval over
    encoders, beside their share of all images."""
    of = slices[(slices.draw >= 0) & slices.precision.notna()]
    of = of.assign(slice=100 * of.precision, every=100 * of.harmed_images / of.images)
    told, every = over_worlds(of, "slice"), over_worlds(of, "every")
    table = told[[*SETTING, "method"]].copy()
    table["in the best slice"], table["of all"] = told["mean"], every["mean"]
    table["95 % interval"] = [_between(low, high) for low, high in zip(told.low, told.high, strict=True)]
    return frames.shown(table, 0)


def draws(slices: pd.DataFrame) -> pd.DataFrame:
    """One line for each draw: what was planted, how often it fails, and the first names by `SLICES`."""
    of = planted(slices)
    names = ["dataset", "seed", "draw", "harm", "words", "harmed_images", "wrong", "others", "alone", "rank", "as_true", "names", "p"]
    return frames.shown(of[of.method == SLICES][names].sort_values(["dataset", "seed", "draw"]), 3)


def images_table(images: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset and method: mean AUROC and the mean of its differences to `CONFIDENCE`, with interval over encoders and
    verdict; `precision` and `harmed` in %. Draws with nothing planted are left out."""
    of = images[images.draw >= 0]
    key = [*SETTING, "seed", "draw"]
    plain = of[of.method == CONFIDENCE].set_index(key).auroc
    of = of.assign(more=of.auroc.to_numpy() - plain.loc[pd.MultiIndex.from_frame(of[key])].to_numpy())
    table = over_worlds(of, "auroc").rename(columns={"mean": "AUROC"})[[*SETTING, "method", "AUROC"]]
    gain = over_worlds(of, "more")
    table["to 1 - confidence"], table["95 % interval"] = gain["mean"], list(map(_signed, gain.low, gain.high))
    table["verdict"] = list(map(verdict, gain.low, gain.high))
    for column in ("precision", "harmed"):
        table[f"{column}, %"] = (100 * over_worlds(of, column)["mean"]).round()
    return frames.shown(table, 3)


def found(slices: pd.DataFrame) -> Figure:
    """Two panels: the share of draws in which each method finds the plant among the first slices, by its words, and by words as true."""
    of = planted(slices)
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), sharey=True)
    for axis, (column, by) in zip(axes, {"hit": "its own words", "true": "words that are as true"}.items(), strict=True):
        _rows(axis, of, column)
        axis.set(title=f"found by {by}", xlabel=f"% of draws, among the first {FIRST} slices", xlim=(-3, 103))
        axis.axvline(80, color="0.6", lw=1, ls=":")
    figure.tight_layout()
    return figure


def aurocs(images: pd.DataFrame) -> Figure:
    """A panel for each dataset: AUROC of the predicted failure by each method."""
    of = images[images.draw >= 0]
    panels = list(of.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4 + 4 * len(panels), 3.8), sharey=True, squeeze=False)
    for axis, (key, part) in zip(axes[0], panels, strict=True):
        _rows(axis, part, "auroc")
        axis.axvline(part[part.method == CONFIDENCE].auroc.mean(), color="0.6", lw=1, ls=":")
        axis.set(title=setting(*key), xlabel="AUROC of the predicted failure")
    figure.tight_layout()
    return figure


def _rows(axis: Axes, frame: pd.DataFrame, column: str) -> None:
    """A row for each method: a dot for each seed, a bar at the mean and a box of its interval."""
    methods, places = list(dict.fromkeys(frame.method)), aside(frame.seed)
    for line in over_worlds(frame, column).to_dict("records"):
        y, ours = methods.index(line["method"]), line["method"] in (OURS, SLICES)
        color = PALETTE[1] if ours else "0.7" if line["method"] == NULL else PALETTE[0]
        if np.isfinite(line["low"]):
            axis.barh(y, line["high"] - line["low"], left=line["low"], height=0.8, color=color, alpha=0.22, lw=0)
        axis.vlines(line["mean"], y - 0.4, y + 0.4, color=color, lw=2)
        of = frame[frame.method == line["method"]].groupby("seed")[column].mean()
        axis.plot(of, [y + places[seed] for seed in of.index], "o", color=color, ms=3)
    axis.set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5))


def _between(low: float, high: float) -> str:
    """An interval of a share, in %, of which no more is shown than can be."""
    return f"{max(low, 0):.0f} to {min(high, 100):.0f}" if np.isfinite(low) else ""


def _signed(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}" if np.isfinite(low) else ""


def filled(document: str, tables: Path) -> str:
    """A document with the tables of `MARKS` between their marks, from the CSVs in `tables`."""
    makers = {"slices": found_table, "predicted": images_table}
    for mark, name in MARKS.items():
        document = placed(document, mark, lambda name=name: makers[name](read(tables / f"{name}.csv")))  # type: ignore[misc]
    return document


if __name__ == "__main__":
    folder, file = map(Path, sys.argv[1:])
    write_atomically(file, filled(file.read_text(encoding="utf-8"), folder))
