"""The price of each difference between the released code and the paper: tables and the chart of `ablation_released`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.figures import PALETTE
from gta.results import Row, oracle_best
from gta.statistics import verdict
from gta.studies.ablation_released import TABLE
from gta.tables import paired_of

COLORS = {"better": PALETTE[0], "worse": PALETTE[3], "": "0.15"}
ORACLE = "oracle_best minus last iterate"
KEY = ["dataset", "backbone", "method", "variant", "shots"]


def prices(folder: Path) -> pd.DataFrame:
    """Of the paired comparisons in a folder of tables: a line a switch and seed against its method as the paper says, with the
    verdict over all seeds and their mean `price`, sorted by method and price."""
    frame = pd.read_csv(paired_of(Path(folder) / f"{TABLE}.csv"), keep_default_na=False)
    frame = frame[(frame.variant != "") & (frame.method == frame.reference)].copy()
    frame["dataset"] = frame.dataset.str.partition(":")[0]
    groups = frame.groupby(KEY)
    frame["price"] = groups.difference.transform("mean")
    verdicts = {key: verdict(list(of.difference), list(of.p_holm)) for key, of in groups}
    frame["verdict"] = [verdicts[key] for key in zip(*(frame[name] for name in KEY), strict=True)]
    return frame.sort_values(["dataset", "backbone", "shots", "method", "price", "variant", "seed"]).reset_index(drop=True)


def oracle(rows: Sequence[Row]) -> pd.DataFrame:
    """Of every solver call: the last iterate, the best call picked with test labels, and what the second has more, by seed."""
    runs: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((row.dataset.partition(":")[0], row.backbone, row.seed), []).append(row)
    lines = []
    for (dataset, backbone, seed), of_run in sorted(runs.items()):
        (last,) = (row for row in of_run if row.variant == "")
        best = oracle_best([row for row in of_run if row.variant])
        line = {"dataset": dataset, "backbone": backbone, "seed": seed, "last iterate, %": last.accuracy, "oracle_best, %": best.accuracy}
        lines.append({**line, ORACLE: round(best.accuracy - last.accuracy, 2), "picked": best.variant})
    return pd.DataFrame(lines)


def chart(prices: pd.DataFrame, oracle: pd.DataFrame) -> Figure:
    """A panel a dataset, encoder and method, a row a switch, a line a seed with its interval; `oracle_best` below the zero-shot rows."""
    panels = list(prices.groupby(["dataset", "backbone", "shots", "method"], sort=False))
    sizes = [of.variant.nunique() + (_oracle_of(oracle, key) is not None) for key, of in panels]
    height = 0.42 * sum(sizes) + 0.75 * len(panels) + 0.5
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8.5, height), sharex=True, squeeze=False, gridspec_kw={"height_ratios": [size + 0.4 for size in sizes]}
    )
    for axis, (key, of_panel) in zip(axes.flat, panels, strict=True):
        dataset, backbone, shots, method = key
        _panel(axis, of_panel, _oracle_of(oracle, key))
        axis.set_title(f"{method}, {f'{shots} shots' if shots else 'zero-shot'}: {dataset}, {backbone}", loc="left", fontsize=10)
    axes[-1, 0].set_xlabel("accuracy with the switch minus accuracy as the paper says, points")
    told = {"better": "better in every seed", "worse": "worse in every seed", "": "neither"}
    shown = [Line2D([], [], color=color, marker="o", ms=4, label=told[found]) for found, color in COLORS.items()]
    figure.tight_layout()
    figure.legend(handles=shown, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(shown), frameon=False)
    return figure


def _oracle_of(oracle: pd.DataFrame, key: tuple) -> pd.DataFrame | None:
    """Its lines for a panel of GTA-CLIP."""
    dataset, backbone, _, method = key
    if method != "GTA-CLIP" or not len(oracle):
        return None
    return oracle[(oracle.dataset == dataset) & (oracle.backbone == backbone)]


def _panel(axis: Axes, frame: pd.DataFrame, oracle: pd.DataFrame | None) -> None:
    names, seeds = list(dict.fromkeys(frame.variant)), sorted(frame.seed.unique())
    aside = {seed: 0.22 * (i - (len(seeds) - 1) / 2) for i, seed in enumerate(seeds)}
    axis.axvline(0, color="0.3", lw=1)
    for row in frame.to_dict("records"):
        y, color = names.index(row["variant"]) + aside[row["seed"]], COLORS[row["verdict"]]
        axis.plot([row["low"], row["high"]], [y, y], color=color, lw=1.6)
        axis.plot([row["difference"]], [y], "o", color=color, ms=4)
    if oracle is not None:
        names = [*names, "oracle_best, no result"]
        axis.axhline(len(names) - 1.5, color="0.8", lw=0.8)
        for seed, more in zip(oracle.seed, oracle[ORACLE], strict=True):
            axis.plot([more], [len(names) - 1 + aside[seed]], "o", color="0.6", mfc="none", ms=5)
    axis.set(yticks=range(len(names)), yticklabels=names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    if oracle is not None:
        axis.get_yticklabels()[-1].set_color("0.5")


def summary(prices: pd.DataFrame) -> pd.DataFrame:
    """A row a switch: its mean price, each seed's with its interval, images won and lost, and the verdict."""
    lines = []
    for key, of in prices.groupby(KEY, sort=False):
        line = dict(zip(KEY, key, strict=True)) | {"price, points": round(of.difference.mean(), 2)}
        for r in of.itertuples():
            line[f"seed {r.seed}"] = f"{r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}], {r.better} won, {r.worse} lost"
        lines.append({**line, "verdict": of.verdict.iloc[0]})
    return pd.DataFrame(lines).replace(np.nan, "")
