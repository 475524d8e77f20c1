"""Tables for readers from the rows of the peers."""

from collections.abc import Iterable

import pandas as pd

from gta.peers.bench import ON_TOP
from gta.scores.rows import Row
from gta.studies.second_view import TWO_VIEWS

NAME = ["dataset", "backbone", "shots", "method", "variant"]


def frame_of(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """The rows of a table, with a label, whether they are transduction `on_top` of another method, and the interval of the gain.

    Transduction of two views is a method of its own: it sees more than what it begins with.
    """
    frame = pd.DataFrame([row.model_dump() for row in rows if row.table == table])
    if frame.empty:
        raise ValueError(f"no rows of table {table!r}")
    frame[["ece", "brier"]] = frame[["ece", "brier"]].astype(float)  # None where z is no distribution
    frame["dataset"] = frame.dataset.str.replace(r":\d+", "", regex=True)  # worlds of the aviary count as seeds of one dataset
    frame["label"] = [", ".join(filter(None, names)) for names in zip(frame.method, frame.variant, strict=True)]
    one_view = ~frame.variant.str.startswith(TWO_VIEWS)
    frame["on_top"] = frame.variant.str.endswith(ON_TOP) | (frame.method.str.startswith("TransCLIP") & one_view)
    frame["interval"] = [f"{row.gain:+.1f} [{row.gain_low:+.1f}, {row.gain_high:+.1f}]" for row in frame.itertuples()]
    return frame


def standings(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """One row for each method: mean accuracy, seconds, gain over CLIP, ECE in % and Brier score, the mean accuracy with transduction on
    top and its gain, then each seed's gain over CLIP with its interval. The best method comes last."""
    frame = frame_of(rows, table)
    alone, on_top = frame[~frame.on_top], frame[frame.on_top]
    means = alone.groupby([*NAME, "label"])[["accuracy", "seconds", "gain", "ece", "brier"]].mean()
    added = on_top.groupby(["dataset", "backbone", "shots", "baseline"])[["accuracy", "gain"]].mean()
    added.index = added.index.set_names("label", level="baseline")
    means = means.join(added.add_suffix(" of transduction").rename(columns={"accuracy of transduction": "with transduction"}))
    by_seed = alone.pivot(index=[*NAME, "label"], columns="seed", values="interval").add_prefix("gain of seed ")
    joined = (
        means.round({"brier": 3}).round({name: 1 for name in means if name != "brier"}).join(by_seed).reset_index().drop(columns="label")
    )
    return joined.sort_values(["dataset", "backbone", "shots", "accuracy"], ignore_index=True)


def on_top(rows: Iterable[Row], table: str) -> pd.DataFrame:
    """The gain of transduction on top of each method: the mean over seeds, then each seed's gain with its interval."""
    frame = frame_of(rows, table)
    frame = frame[frame.on_top]
    names = ["dataset", "backbone", "shots", "baseline"]
    by_seed = frame.pivot(index=names, columns="seed", values="interval").add_prefix("gain of seed ")
    joined = frame.groupby(names)[["gain"]].mean().round(1).join(by_seed).reset_index()
    return joined.rename(columns={"baseline": "on top of"}).sort_values(["dataset", "backbone", "shots", "gain"], ignore_index=True)


def harmonic(rows: Iterable[Row], table: str = "peers_base_to_new") -> pd.DataFrame:
    """One row for each method, the best last: accuracy on base and on new classes and their harmonic mean, averaged over seeds."""
    frame = frame_of(rows, table)
    halves = frame.dataset.str.rpartition("#")
    frame["dataset"], frame["half"] = halves[0], halves[2]
    key = ["dataset", "backbone", "shots", "label", "seed"]
    both = frame.pivot(index=key, columns="half", values="accuracy")
    both["harmonic mean"] = 2 * both.base * both.new / (both.base + both.new)
    seconds = frame[frame.half == "base"].set_index(key).seconds
    means = both.join(seconds).groupby(level=key[:-1]).mean().round(1)
    return means.reset_index().sort_values(["dataset", "backbone", "shots", "harmonic mean"], ignore_index=True)
