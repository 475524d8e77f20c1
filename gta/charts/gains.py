"""What each step adds: stacked bars of accuracy, and gains with every seed's interval."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gta.charts.drawing import METHODS, aside, draw_seeds, setting, tell, tell_verdicts
from gta.charts.frames import METHOD, WITHHELD, bare, dataset_of, frame_of, plain, told_apart
from gta.scores.results import Row
from gta.scores.statistics import label

STEPS = ("CLIP", "TransCLIP", "GTA-CLIP")


def setting_of(dataset: str, variant: str = "") -> str:
    """The name that readers see of a benchmark; worlds of the aviary are seeds of one dataset."""
    return label(dataset_of(dataset), WITHHELD if variant.startswith(WITHHELD) else "")


def steps(rows: Iterable[Row]) -> pd.DataFrame:
    """Accuracy of CLIP, then with transduction, then of the whole method, a line a setting, encoder and seed.

    CLIP is each setting's baseline: with the first attributes where a name says nothing. Controls and parts are left out.
    """
    lines: dict[tuple, dict[str, float]] = {}
    for row in rows:
        base = row.baseline.partition(", ")[0]  # CLIP or CLIP+attributes
        names = {base: "CLIP", f"Trans{base}": "TransCLIP", "GTA-CLIP": "GTA-CLIP"}
        if row.variant in ("", WITHHELD) and row.method in names:
            key = (setting_of(row.dataset, row.variant), row.backbone, row.seed)
            lines.setdefault(key, {})[names[row.method]] = row.accuracy
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=STEPS)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["setting", "backbone", "seed"])
    return frame


def stacked(frame: pd.DataFrame, title: str = "") -> Figure:
    """Of `steps`, or published figures in its form: a panel an encoder, a bar a setting, CLIP, then what transduction and the rest of the
    method add, means over seeds. A step that costs accuracy is hatched over what it takes away; dots are the whole method's seeds."""
    first = str(next(name for name in frame.index.names if name not in ("backbone", "seed")))
    names, panels = list(dict.fromkeys(frame.index.get_level_values(first))), list(frame.groupby("backbone"))
    size = (max(9, 2 + 3.4 * len(panels)), 0.4 * len(names) + 1.3)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (backbone, of_panel) in zip(axes[0], panels, strict=True):
        for name, of_bar in of_panel.groupby(first):
            _bar(axis, names.index(name), of_bar)
        axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="accuracy, %", xlim=(0, 107))
        axis.set_title(str(backbone) if len(panels) > 1 else "")
    told = {"CLIP": "CLIP", "TransCLIP": "transduction adds", "GTA-CLIP": "generate and adapt add"}
    handles = [plt.Rectangle((0, 0), 1, 1, color=METHODS[step], label=told[step]) for step in STEPS]
    handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="0.3", hatch="////", label="or take away"))
    if title:
        figure.suptitle(title)
    tell(figure, handles)
    return figure


def _bar(axis: plt.Axes, y: int, seeds: pd.DataFrame) -> None:
    line = seeds.mean()
    axis.barh(y, line["CLIP"], color=METHODS["CLIP"], height=0.66)
    for before, step in pairwise(STEPS):
        gain, color = line[step] - line[before], METHODS[step]
        style = {"color": color} if gain >= 0 else {"facecolor": "none", "edgecolor": color, "hatch": "////", "lw": 1.2}
        axis.barh(y, gain, left=line[before], height=0.66, **style)
    if len(seeds) > 1:
        axis.scatter(seeds["GTA-CLIP"], [y] * len(seeds), s=11, color="black", zorder=3)
    end = max(*line, *seeds["GTA-CLIP"])
    axis.annotate(f"{line['GTA-CLIP']:.1f}", (end, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)


def gains(paired: pd.DataFrame, methods: Mapping[str, str]) -> Figure:
    """A panel a setting: each method's gain over the baseline, a line a seed with its 95 % interval, the mean as a bar.

    paired: of `gta.scores.statistics.paired`, against the baselines; methods: from the label of a method to that of the reader, in the
    order of the rows; of transduction, that of the baseline itself. Coloured where every seed says better or worse after correction
    (`gta.scores.statistics.verdict`), else grey.
    """
    lines = told_apart(paired)
    own = "Trans" + lines.reference.str.partition(", ")[0]  # and not transduction from names where the baseline has attributes
    lines = lines[(lines.method == "GTA-CLIP") | (lines.method == own)]
    lines = lines.assign(panel=list(map(setting_of, lines.dataset, lines.variant)))
    lines["row"] = list(map(label, lines.method.map(plain), lines.variant.map(bare)))
    panels, places = list(dict.fromkeys(lines.panel)), aside(lines.seed)
    figure, axes = plt.subplots(1, len(panels), figsize=(2.2 + 3.1 * len(panels), 0.44 * len(methods) + 1.4), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for y, name in enumerate(methods):
            if len(found := lines[(lines.panel == panel) & (lines.row == name)]):
                draw_seeds(axis, y, found, places)
        axis.axvline(0, color="0.3", lw=1)
        axis.set(title=panel, yticks=range(len(methods)), yticklabels=methods.values(), ylim=(len(methods) - 0.5, -0.5))
        baseline = lines[lines.panel == panel].reference.iloc[0].partition(", ")[0]
        axis.set_xlabel(f"gain over {baseline}, points")
    tell_verdicts(figure)
    return figure


def accuracies_and_gains(rows: Iterable[Row], paired: pd.DataFrame, baseline: str) -> Figure:
    """Of the rows that are compared with `baseline`, a line of panels a dataset and encoder. Left, accuracy in the colour of the method: a
    dot a seed, hollow where it is a control or lacks a step, and a bar at their mean. Right, the gain over the baseline, of
    `gta.scores.statistics.paired`, as in `gains`."""
    frame = frame_of(row for row in rows if row.baseline == baseline)
    frame["part"] = frame.variant.map(bare)
    frame["rank"] = list(map(_rank, frame.method, frame.part))
    lines, (base, _, withheld) = told_apart(paired[paired.reference == baseline]), baseline.partition(", ")
    panels = list(frame.sort_values("rank").groupby(["dataset", "backbone"], sort=False))
    counts = [of_panel["rank"].nunique() for _, of_panel in panels]
    size, ratios = (11, 0.42 * sum(counts) + 0.9 * len(panels) + 0.4), {"width_ratios": [1, 1.2], "height_ratios": counts}
    figure, axes = plt.subplots(len(panels), 2, figsize=size, sharey="row", squeeze=False, gridspec_kw=ratios)
    for (left, right), ((dataset, backbone), of_panel) in zip(axes, panels, strict=True):
        names, places = list(dict.fromkeys(map(label, of_panel.method, of_panel.part))), aside(of_panel.seed)
        for y, (_, of_row) in enumerate(of_panel.groupby("rank")):
            _seeds(left, y, of_row, places)
            if len(found := lines[(lines[METHOD] == of_row[METHOD].iloc[0]).all(axis=1)]):
                draw_seeds(right, y, found, places)
        right.axvline(0, color="0.3", lw=1)
        right.set_xlabel(f"gain over {base}, points")
        left.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="accuracy, %")
        left.set_title(label(setting(dataset, backbone), withheld), loc="left")
    tell_verdicts(figure)
    return figure


def _rank(method: str, part: str) -> tuple:
    """Methods first, each with and without attributes, then controls and methods that lack a step, then what is no method of these."""
    name = plain(method)
    return part != "", [*METHODS, name].index(name), method, part


def _seeds(axis: plt.Axes, y: int, rows: pd.DataFrame, places: Mapping[int, float]) -> None:
    first = rows.iloc[0]
    color = METHODS.get(plain(first.method), "0.15")
    axis.plot([rows.accuracy.mean()] * 2, [y - 0.38, y + 0.38], color=color, lw=2.5, zorder=2)
    heights = [y + places[seed] for seed in rows.seed]
    axis.scatter(rows.accuracy, heights, color="white" if first.part else color, edgecolor=color, s=20, zorder=3)
