"""What each difference between the released code and the paper costs in accuracy: tables and chart of `ablation_released`."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts.drawing import aside, draw_seeds, setting, tell_verdicts
from gta.charts.frames import COMPARISON, comparisons, dataset_of, in_order, shown, told_apart
from gta.scores.rows import Row, oracle_best

ORACLE = "oracle_best minus last iterate"


def prices(paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each switch and seed, compared with the method as the paper gives it, from the paired comparisons. Lines have the
    mean and the verdict over all encoders, and are sorted by method and mean."""
    frame = told_apart(paired[(paired.variant != "") & (paired.method == paired.reference)])
    return in_order(frame, "backbone", "shots", "method", "mean", "variant", "seed")


def oracle(rows: Sequence[Row]) -> pd.DataFrame:
    """One line for each seed: the accuracy of the last iterate, that of the best solver call (chosen with test labels), and their
    difference."""
    runs: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((dataset_of(row.dataset), row.backbone, row.seed), []).append(row)
    lines = []
    for (dataset, backbone, seed), of_run in sorted(runs.items()):
        (last,) = (row for row in of_run if row.variant == "")
        best = oracle_best([row for row in of_run if row.variant])
        line = {"dataset": dataset, "backbone": backbone, "seed": seed, "last iterate, %": last.accuracy, "oracle_best, %": best.accuracy}
        lines.append({**line, ORACLE: round(best.accuracy - last.accuracy, 2), "picked": best.variant})
    return pd.DataFrame(lines)


def chart(prices: pd.DataFrame, oracle: pd.DataFrame) -> Figure:
    """One panel for each dataset, encoder and method, one row for each switch, with the interval over encoders.

    `oracle_best` is below the zero-shot rows.
    """
    panels = list(prices.groupby(["dataset", "backbone", "shots", "method"], sort=False))
    sizes = [of.variant.nunique() + (_oracle_of(oracle, key) is not None) for key, of in panels]
    height = 0.42 * sum(sizes) + 0.75 * len(panels) + 0.5
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8.5, height), sharex=True, squeeze=False, gridspec_kw={"height_ratios": [size + 0.4 for size in sizes]}
    )
    for axis, (key, of_panel) in zip(axes.flat, panels, strict=True):
        dataset, backbone, shots, method = key
        _panel(axis, of_panel, _oracle_of(oracle, key))
        axis.set_title(f"{method}, {f'{shots} shots' if shots else 'zero-shot'}: {setting(dataset, backbone)}", loc="left", fontsize=10)
    axes[-1, 0].set_xlabel("accuracy with the switch minus accuracy as the paper says, points")
    tell_verdicts(figure)
    return figure


def _oracle_of(oracle: pd.DataFrame, key: tuple) -> pd.DataFrame | None:
    """The lines of `oracle` for a panel of GTA-CLIP; None for other panels."""
    dataset, backbone, _, method = key
    if method != "GTA-CLIP" or not len(oracle):
        return None
    return oracle[(oracle.dataset == dataset) & (oracle.backbone == backbone)]


def _panel(axis: Axes, frame: pd.DataFrame, oracle: pd.DataFrame | None) -> None:
    names, places = list(dict.fromkeys(frame.variant)), aside(frame.seed)
    axis.axvline(0, color="0.3", lw=1)
    for y, name in enumerate(names):
        draw_seeds(axis, y, frame[frame.variant == name], places)
    if oracle is not None:
        names = [*names, "oracle_best, no result"]
        axis.axhline(len(names) - 1.5, color="0.8", lw=0.8)
        for seed, more in zip(oracle.seed, oracle[ORACLE], strict=True):
            axis.plot([more], [len(names) - 1 + places[seed]], "o", color="0.6", mfc="none", ms=5)
    axis.set(yticks=range(len(names)), yticklabels=names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    if oracle is not None:
        axis.get_yticklabels()[-1].set_color("0.5")


def summary(paired: pd.DataFrame) -> pd.DataFrame:
    """One row for each switch: its mean price, the verdict, each encoder's price, and the images won and lost in all
    seeds."""
    order = prices(paired).groupby(COMPARISON, sort=False)[["better", "worse"]].sum().rename(columns={"better": "won", "worse": "lost"})
    lines = order.join(comparisons(paired)).reset_index().rename(columns={"difference": "price, points"})
    first = [*COMPARISON[:-1], "price, points", "verdict"]
    return shown(lines[[*first, *lines.columns.difference([*first, "reference"], sort=False)]], 2)
