"""Compare the paper's numbers with ours: the difference of each cell, its uncertainty, and whether it is within the tolerance."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gta.scores.results import GATES, PUBLISHED
from gta.scores.rows import Row

# Points by which two correct runs may differ: by rounding and precision for CLIP, by ties in the graph for transduction, and for the whole
# method by the draws of adapt, of which a published figure is one: two standard deviations between draws (`spread`), about 0.5 points on
# the digits. Answers of another language model may add to it.
TOLERANCES = {**{method: tolerance for method, (_, tolerance) in GATES.items()}, "TransCLIP-FS": 0.5, "GTA-CLIP": 1.0, "GTA-CLIP-FS": 1.0}
OURS = {("zero_shot", "TransCLIP-ZS"): "TransCLIP", ("few_shot", "GTA-CLIP"): "GTA-CLIP-FS"}  # methods with another name here
AS_PUBLISHED = {"TransCLIP-FS": "released"}  # the published variant; other methods have none
KEY = ["table", "dataset", "backbone", "method", "shots"]
AVERAGE = "average of 12"
BEST_OF_ALL_CALLS = ("zero_shot", "GTA-CLIP")  # so the released program reports it; like stands beside like
COLUMNS = [*KEY, "published", "ours", "last_iterate", "seeds", "difference", "low", "high", "tolerance", "verdict", "source", "evidence"]


def read() -> pd.DataFrame:
    """The published numbers, with our names of methods: KEY, accuracy in %, source, evidence."""
    frame = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    frame["method"] = [OURS.get(named, named[1]) for named in zip(frame.table, frame.method, strict=True)]
    return frame.astype({"accuracy": float, "shots": int})


def compare(rows: Iterable[Row]) -> pd.DataFrame:
    """One line for each published cell, with our accuracy minus the published one in points, if it was run.

    ours: the mean over seeds, of GTA-CLIP's best of all calls in the zero-shot table, as published, with the accuracy of its answer apart
    in `last_iterate`; low, high: the difference at the ends of the 95 % interval of our accuracy, the Clopper-Pearson interval
    over images (the published numbers have no interval); tolerance: as in TOLERANCES; verdict: `within`, `outside`, `not run`, or
    `not comparable` if the paper's datasets are not known. Smoke runs and variants do not count.
    """
    counted = [row.model_dump() for row in rows if row.status == "done" and row.variant == AS_PUBLISHED.get(row.method, "")]
    ours = pd.DataFrame(counted, columns=list(Row.model_fields))
    table, method = BEST_OF_ALL_CALLS
    best = ours.oracle_best.notna() & (ours.table == table) & (ours.method == method)
    ours["shown"] = ours.accuracy.where(~best, ours.oracle_best)
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
    shown, answer = (float(np.mean([part[column].mean() for part in parts])) for column in ("shown", "accuracy"))
    difference = shown - cell["accuracy"]
    line |= {"ours": shown, "last_iterate": answer, "seeds": len(parts[0]), "difference": difference}
    line |= dict(zip(("low", "high"), np.array(_interval(parts)) - cell["accuracy"], strict=True))
    return line | {"verdict": "within" if abs(difference) <= line["tolerance"] + 0.005 else "outside"}


def _interval(parts: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """The 95 % interval of a mean. All seeds label the same images, so the interval of their mean is as wide as that of one seed. The
    images of datasets are independent, so each side of their mean is the root of the summed squares, divided by their number."""
    sides = []
    for part in parts:
        shown, total = part["shown"].mean(), int(part.n_total.iloc[0])
        interval = binomtest(round(shown * total / 100), total).proportion_ci()
        sides.append([shown - 100 * interval.low, 100 * interval.high - shown])
    below, above = np.sqrt(np.square(sides).sum(0)) / len(parts)
    mean = float(np.mean([part["shown"].mean() for part in parts]))
    return mean - below, mean + above


def spread(rows: Iterable[Row]) -> float:
    """The standard deviation of GTA-CLIP's accuracy between draws of one encoder, in points: root of the mean variance over encoders."""
    frame = pd.DataFrame([(row.dataset, row.seed, row.accuracy) for row in rows if (row.method, row.variant) == ("GTA-CLIP", "")])
    return float(frame.groupby([0, 1])[2].var(ddof=1).mean() ** 0.5)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """For each table and method, how many published cells are within the tolerance, outside, not run, or not comparable."""
    counts = frame.groupby(["table", "method"]).verdict.value_counts().unstack(fill_value=0)
    return counts.reindex(columns=["within", "outside", "not run", "not comparable"], fill_value=0).reset_index()


def table_1(frame: pd.DataFrame) -> pd.DataFrame:
    """The published accuracies of Table 1, from `compare`, in the form of `gta.charts.gains.steps`. The means over datasets come first."""
    cells = frame[(frame.table == "zero_shot") & (frame.shots == 0)]
    wide = cells.pivot(index=["dataset", "backbone"], columns="method", values="published")[["CLIP", "TransCLIP", "GTA-CLIP"]]
    means = wide.groupby("backbone").mean().assign(dataset="mean of 12").set_index("dataset", append=True).swaplevel()
    return pd.concat([means, wide])
