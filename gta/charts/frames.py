"""Rows and paired comparisons as data frames. Worlds and draws count as seeds of one dataset; a verdict is over all seeds."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gta.scores.results import Row
from gta.scores.statistics import label, verdict

WITHHELD = "names withheld"  # variants that begin with this use texts without class names
EMBEDDED = {"digits": 0, "aviary": 1}
METHOD = ["dataset", "backbone", "shots", "method", "variant"]
COMPARISON = [*METHOD, "reference"]


def dataset_of(name: str) -> str:
    """The name of a dataset without its seed: `aviary` for the world `aviary:3`, `digits#small-40` for the draw `digits#small-40-3`."""
    return re.sub(r":\d+|(#[a-z]+-\d+)-\d+$", lambda found: found[1] or "", name)


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a frame with the `label` of each method and variant. Worlds and draws count as seeds of one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(Row.model_fields))
    return in_order(frame.assign(dataset=frame.dataset.map(dataset_of), label=list(map(label, frame.method, frame.variant))), "backbone")


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
    """Add two columns to the lines of `gta.scores.statistics.paired`: `mean`, the mean difference over seeds, and their `verdict`.

    Worlds and draws count as seeds of one dataset.
    """
    frame = paired.assign(dataset=paired.dataset.map(dataset_of))
    grouped = frame.groupby(COMPARISON)[["difference", "p_holm"]]
    said = grouped.apply(lambda of: pd.Series({"mean": of.difference.mean(), "verdict": verdict(list(of.difference), list(of.p_holm))}))
    return frame.join(said, on=COMPARISON) if len(frame) else frame.assign(mean=0.0, verdict="")


def comparisons(paired: pd.DataFrame) -> pd.DataFrame:
    """Summarise the lines of `gta.scores.statistics.paired`: one line for each method, variant and reference, which are its index.

    The columns are the mean `difference` over seeds, the `verdict` of all seeds, and each seed's difference with its interval.
    """
    frame = told_apart(paired)
    frame["text"] = [f"{line.difference:+.1f} [{line.low:+.1f}, {line.high:+.1f}]" for line in frame.itertuples()]
    lines = frame.groupby(COMPARISON)[["mean", "verdict"]].first().rename(columns={"mean": "difference"})
    return lines.join(frame.pivot(index=COMPARISON, columns="seed", values="text").add_prefix("seed "))


def shown(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table for readers: rounded, with empty cells for missing values."""
    return table.round(digits).astype(object).fillna("").reset_index(drop=True)


def made_with(rows: Iterable[Row]) -> pd.DataFrame:
    """The versions, devices, weights and sources that made the rows."""
    names = ["versions", "device", "weights", "source_hash"]
    return frame_of(rows)[names].drop_duplicates().sort_values(names, ignore_index=True)
