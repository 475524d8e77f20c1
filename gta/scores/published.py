"""The paper's figures beside ours: the difference of each cell, its uncertainty, and whether it lies within what is expected."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gta.scores.results import PUBLISHED, TOLERANCE, Row

# Points that may lie between two faithful runs: rounding and precision for CLIP; ties in the graph for transduction; answers of
# another language model and the draws of adaptation for the whole method.
TOLERANCES = {"CLIP": TOLERANCE, "TransCLIP": 0.5, "TransCLIP-FS": 0.5, "GTA-CLIP": 1.0, "GTA-CLIP-FS": 1.0}
OURS = {("zero_shot", "TransCLIP-ZS"): "TransCLIP", ("few_shot", "GTA-CLIP"): "GTA-CLIP-FS"}  # what is called otherwise here
AS_PUBLISHED = {"TransCLIP-FS": "released"}  # the variant that was published; of other methods the one without a variant
KEY = ["table", "dataset", "backbone", "method", "shots"]
AVERAGE = "average of 12"
COLUMNS = [*KEY, "published", "ours", "seeds", "difference", "low", "high", "tolerance", "verdict", "source", "evidence"]


def read() -> pd.DataFrame:
    """The published figures, by our names of methods: KEY, accuracy in %, source, evidence."""
    frame = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    frame["method"] = [OURS.get(named, named[1]) for named in zip(frame.table, frame.method, strict=True)]
    return frame.astype({"accuracy": float, "shots": int})


def compare(rows: Iterable[Row]) -> pd.DataFrame:
    """A line a published cell: ours minus theirs in points, where it was run.

    ours: the mean over seeds; low, high: the difference at the ends of the 95 % interval of ours, Clopper and Pearson's over images
    (the published figures come without one); tolerance: as TOLERANCES; verdict: `within`, `outside`, `not run`, or `not comparable`
    where the paper's datasets are not known. Smoke runs and variants do not count.
    """
    counted = [row.model_dump() for row in rows if row.status == "done" and row.variant == AS_PUBLISHED.get(row.method, "")]
    ours = pd.DataFrame(counted, columns=list(Row.model_fields))
    measured = {key: cell for key, cell in ours.groupby(KEY)}
    lines = [{**_line(cell, measured), "source": cell["source"], "evidence": cell["evidence"]} for cell in read().to_dict("records")]
    return pd.DataFrame(lines, columns=COLUMNS)


def _line(cell: dict, measured: dict[tuple, pd.DataFrame]) -> dict:
    line = {name: cell[name] for name in KEY} | {"published": cell["accuracy"], "tolerance": TOLERANCES.get(cell["method"], np.nan)}
    parts = [found for key, found in measured.items() if key == tuple(line[name] for name in KEY)]
    if cell["dataset"] == AVERAGE:
        of_cell = {name: cell[name] for name in KEY if name != "dataset"}
        parts = [found for key, found in measured.items() if of_cell.items() <= dict(zip(KEY, key, strict=True)).items()]
        parts = parts if len(parts) == 12 else []
    elif "not named" in cell["dataset"]:
        return line | {"verdict": "not comparable"}
    if not parts:
        return line | {"verdict": "not run"}
    accuracy = float(np.mean([part.accuracy.mean() for part in parts]))
    difference = accuracy - cell["accuracy"]
    line |= {"ours": accuracy, "seeds": len(parts[0]), "difference": difference}
    line |= dict(zip(("low", "high"), np.array(_interval(parts)) - cell["accuracy"], strict=True))
    return line | {"verdict": "within" if abs(difference) <= line["tolerance"] + 0.005 else "outside"}


def _interval(parts: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Of the mean over seeds, which all label the same images: as wide as that of one of them. Of a mean over datasets, whose images
    are drawn apart: each side by the root of the summed squares."""
    sides = []
    for part in parts:
        interval = binomtest(round(part.n_correct.mean()), int(part.n_total.iloc[0])).proportion_ci()
        sides.append([part.accuracy.mean() - 100 * interval.low, 100 * interval.high - part.accuracy.mean()])
    below, above = np.sqrt(np.square(sides).sum(0)) / len(parts)
    mean = float(np.mean([part.accuracy.mean() for part in parts]))
    return mean - below, mean + above


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """How many published cells of each table and method were run, and how many of those lie within the tolerance."""
    counts = frame.groupby(["table", "method"]).verdict.value_counts().unstack(fill_value=0)
    return counts.reindex(columns=["within", "outside", "not run", "not comparable"], fill_value=0).reset_index()


def table_1(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `compare`: the published accuracies of Table 1 in the form of `gta.charts.gains.steps`, averages over datasets first."""
    cells = frame[(frame.table == "zero_shot") & (frame.shots == 0)]
    wide = cells.pivot(index=["dataset", "backbone"], columns="method", values="published")[["CLIP", "TransCLIP", "GTA-CLIP"]]
    means = wide.groupby("backbone").mean().assign(dataset="mean of 12").set_index("dataset", append=True).swaplevel()
    return pd.concat([means, wide])
