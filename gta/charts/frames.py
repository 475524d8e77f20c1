"""Rows and paired comparisons as data frames. Worlds and draws count as seeds of one dataset; a verdict is over all encoders."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from gta.scores.rows import Row
from gta.scores.statistics import label, over_encoders

WITHHELD = "names withheld"  # variants that begin with this use texts without class names
EMBEDDED = {"digits": 0, "aviary": 1}
METHOD = ["dataset", "backbone", "shots", "method", "variant"]
COMPARISON = [*METHOD, "reference"]


def dataset_of(name: str) -> str:
    """The name of a dataset without its seed: `aviary` for the world `aviary:3`, `digits#small-40` for the draw `digits#small-40-3`."""
    return re.sub(r":\d+|(#[a-z]+-\d+)-\d+$", lambda found: found[1] or "", name)


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a frame with the `label` of each method and variant: one line for each encoder, with means over its draws. Worlds
    count as seeds of one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(Row.model_fields))
    means = ["accuracy", "gain", "gain_low", "gain_high", "seconds"]
    key = ["table", *METHOD, "seed"]
    frame[means] = frame.groupby(key)[means].transform("mean")
    frame = frame.drop_duplicates(key)
    frame = frame.assign(dataset=frame.dataset.map(dataset_of), label=list(map(label, frame.method, frame.variant)))
    return in_order(frame, "backbone")


def in_order(frame: pd.DataFrame, *then: str) -> pd.DataFrame:
    """Sort by dataset, the embedded datasets first, then by the columns `then`. Otherwise the order stays."""
    first = [EMBEDDED.get(name.partition("#")[0], 2) for name in frame.dataset]
    return frame.assign(_=first).sort_values(["_", "dataset", *then], kind="stable", ignore_index=True).drop(columns="_")


def read(file: Path) -> pd.DataFrame:
    """Read a CSV that accompanies a table. Worlds count as seeds of one dataset, and methods have their plain names.

    The columns of class names stay text. Raises FileNotFoundError.
    """
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes its table, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype={"first": str, "second": str}, keep_default_na=False)
    return in_order(frame.assign(dataset=frame.dataset.map(dataset_of), method=frame.method.map(plain)), "backbone")


def plain(method: str) -> str:
    """The name of a method without `+attributes`: `CLIP` for `CLIP+attributes`."""
    return method.removesuffix("+attributes")


def bare(variant: str) -> str:
    """A variant without the words that say that names are withheld."""
    return variant.removeprefix(WITHHELD).removeprefix(", ")


def told_apart(paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each comparison and encoder, from the lines of `gta.scores.statistics.paired`: `difference`, the mean over draws;
    `low` and `high`, the smallest and the largest of them; images won and lost in all draws; and, the same for all encoders, what
    `gta.scores.statistics.over_encoders` says. Worlds and draws of images count as seeds of one dataset."""
    frame = paired.assign(dataset=paired.dataset.map(dataset_of))
    if frame.empty:
        return frame.assign(mean=0.0, mean_low=0.0, mean_high=0.0, spread=0.0, verdict="", encoders=0, draws=0)
    said = frame.groupby(COMPARISON)[["difference", "seed"]].apply(lambda of: over_encoders(of.difference, of.seed))
    drawn = frame.groupby([*COMPARISON, "seed"], sort=False)
    lines = drawn.agg(
        difference=("difference", "mean"),
        low=("difference", "min"),
        high=("difference", "max"),
        better=("better", "sum"),
        worse=("worse", "sum"),
    )
    return lines.reset_index().join(said, on=COMPARISON)


def comparisons(paired: pd.DataFrame) -> pd.DataFrame:
    """Summarise the lines of `gta.scores.statistics.paired`: one line for each method, variant and reference, which are its index.

    The columns are the mean `difference`, its 95 % `interval` over encoders, the `verdict`, the standard deviation between `draws` of
    one encoder, and each encoder's mean with the range of its draws.
    """
    frame = told_apart(paired)
    frame["interval"] = list(map(interval, frame.mean_low, frame.mean_high))
    frame["text"] = [f"{d:+.1f}" + (f" ({a:+.1f} to {b:+.1f})" if a < b else "") for d, a, b in frame[["difference", "low", "high"]].values]
    lines = frame.groupby(COMPARISON)[["mean", "interval", "verdict", "spread"]].first()
    lines = lines.rename(columns={"mean": "difference", "spread": "between draws"})
    return lines.join(frame.pivot(index=COMPARISON, columns="seed", values="text").add_prefix("encoder "))


def interval(low: float, high: float) -> str:
    """An interval in points; nothing for that of a single encoder."""
    return f"[{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""


def shown(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table for readers: rounded, with empty cells for missing values."""
    return table.round(digits).astype(object).fillna("").reset_index(drop=True)


def made_with(rows: Iterable[Row]) -> pd.DataFrame:
    """The versions, devices, weights and sources that made the rows."""
    names = ["versions", "device", "weights", "source_hash"]
    return frame_of(rows)[names].drop_duplicates().sort_values(names, ignore_index=True)
