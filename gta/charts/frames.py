"""Rows and paired comparisons as frames: what goes with a seed is a seed of one dataset, and a verdict is that of all seeds."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gta.scores.results import Row
from gta.scores.statistics import label, verdict

WITHHELD = "names withheld"  # begins the variants in which no text says the name of its class
EMBEDDED = {"digits": 0, "aviary": 1}
METHOD = ["dataset", "backbone", "shots", "method", "variant"]
COMPARISON = [*METHOD, "reference"]


def dataset_of(name: str) -> str:
    """A dataset without what goes with the seed: the world of `aviary:3`, the draw of the part `digits#small-40-3`."""
    return re.sub(r":\d+|(#[a-z]+-\d+)-\d+$", lambda found: found[1] or "", name)


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows, worlds and draws as seeds of one dataset, with the `label` of each method and variant."""
    frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(Row.model_fields))
    return in_order(frame.assign(dataset=frame.dataset.map(dataset_of), label=list(map(label, frame.method, frame.variant))), "backbone")


def in_order(frame: pd.DataFrame, *then: str) -> pd.DataFrame:
    """By dataset, the embedded ones first, then by these columns, and else as it was."""
    first = [EMBEDDED.get(name.partition("#")[0], 2) for name in frame.dataset]
    return frame.assign(_=first).sort_values(["_", "dataset", *then], kind="stable", ignore_index=True).drop(columns="_")


def read(file: Path) -> pd.DataFrame:
    """A CSV that stands beside a table, worlds as seeds of one dataset, and methods by their plain names; names of classes stay as they
    are. Raises FileNotFoundError where there is none."""
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes its table, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype={"first": str, "second": str}, keep_default_na=False)
    return in_order(frame.assign(dataset=frame.dataset.map(dataset_of), method=frame.method.map(plain)), "backbone")


def plain(method: str) -> str:
    """A method by the name it has where names say everything: CLIP of CLIP+attributes."""
    return method.removesuffix("+attributes")


def bare(variant: str) -> str:
    """A variant without what says that names are withheld."""
    return variant.removeprefix(WITHHELD).removeprefix(", ")


def told_apart(paired: pd.DataFrame) -> pd.DataFrame:
    """Of `gta.scores.statistics.paired`, its lines as they are, worlds and draws as seeds of one dataset, with `mean`, the difference over
    seeds, and `verdict`, which all of them say."""
    frame = paired.assign(dataset=paired.dataset.map(dataset_of))
    grouped = frame.groupby(COMPARISON)[["difference", "p_holm"]]
    said = grouped.apply(lambda of: pd.Series({"mean": of.difference.mean(), "verdict": verdict(list(of.difference), list(of.p_holm))}))
    return frame.join(said, on=COMPARISON) if len(frame) else frame.assign(mean=0.0, verdict="")


def comparisons(paired: pd.DataFrame) -> pd.DataFrame:
    """Of `gta.scores.statistics.paired`: a line a method, variant and what it is compared with, which are its index: the mean
    `difference` over seeds, the `verdict` of all, and each seed's difference with its interval."""
    frame = told_apart(paired)
    frame["text"] = [f"{line.difference:+.1f} [{line.low:+.1f}, {line.high:+.1f}]" for line in frame.itertuples()]
    lines = frame.groupby(COMPARISON)[["mean", "verdict"]].first().rename(columns={"mean": "difference"})
    return lines.join(frame.pivot(index=COMPARISON, columns="seed", values="text").add_prefix("seed "))


def shown(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table for readers: rounded, and empty where there is nothing."""
    return table.round(digits).astype(object).fillna("").reset_index(drop=True)


def made_with(rows: Iterable[Row]) -> pd.DataFrame:
    """With which versions, on what, and from which weights and sources the rows were made."""
    names = ["versions", "device", "weights", "source_hash"]
    return frame_of(rows)[names].drop_duplicates().sort_values(names, ignore_index=True)
