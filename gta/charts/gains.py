"""What each step adds: stacked bars of accuracy, and gains with their intervals over encoders."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gta.charts.drawing import METHODS, aside, draw_seeds, setting, tell, tell_verdicts
from gta.charts.frames import METHOD, WITHHELD, bare, dataset_of, frame_of, plain, told_apart
from gta.scores.rows import Row
from gta.scores.statistics import label

STEPS = ("CLIP", "TransCLIP", "GTA-CLIP")


def setting_of(dataset: str, variant: str = "") -> str:
    """The name of a benchmark for readers. Worlds of the aviary count as seeds of one dataset."""
    return label(dataset_of(dataset), WITHHELD if variant.startswith(WITHHELD) else "")


def steps(rows: Iterable[Row]) -> pd.DataFrame:
    """Accuracy of CLIP, of CLIP with transduction, and of the whole method: one line for each setting, encoder and seed.

    CLIP is the baseline of a setting; if class names are uninformative, it uses the first attributes. Controls and variants that lack a
    step are left out.
    """
    lines: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        base = row.baseline.partition(", ")[0]  # CLIP or CLIP+attributes
        names = {base: "CLIP", f"Trans{base}": "TransCLIP", "GTA-CLIP": "GTA-CLIP"}
        if row.variant in ("", WITHHELD) and row.method in names:
            key = (setting_of(row.dataset, row.variant), row.backbone, row.seed)
            lines.setdefault(key, {}).setdefault(names[row.method], []).append(row.accuracy)  # one for each draw
    means = {key: {step: sum(of) / len(of) for step, of in found.items()} for key, found in lines.items()}
    frame = pd.DataFrame.from_dict(means, orient="index", columns=STEPS)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["setting", "backbone", "seed"])
    return frame


def stacked(frame: pd.DataFrame, title: str = "") -> Figure:
    """Stacked bars of `steps`, or of published numbers in that form: one panel for each encoder, one bar for each setting.

    A bar shows means over seeds: CLIP, then what transduction adds, then what the rest of the method adds. If a step lowers the
    accuracy, the lost part is hatched. Dots are the seeds of the whole method.
    """
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
    """Gains over the baseline: one panel for each setting, one row for each method, in it one dot for each encoder, and a
    bar at the mean with its 95 % interval over encoders. A gain has a colour if that interval excludes 0, else it is grey.

    paired: comparisons of `gta.scores.statistics.paired` with the baselines; methods: from the label of a method to its name in the
    figure, in the order of the rows. Of the transductive methods, only the one that starts from the baseline is shown.
    """
    lines = told_apart(paired)
    own = "Trans" + lines.reference.str.partition(", ")[0]  # the transduction that starts from this baseline, not another one
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
    """Two panels for each dataset and encoder, from the rows that are compared with `baseline`.

    Left: accuracy in the colour of the method, one dot for each seed, and a bar at the mean; a dot is hollow for a control or a method
    that lacks a step. Right: the gain over the baseline, from `gta.scores.statistics.paired`, drawn as in `gains`.
    """
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
    """The sort key: whole methods, each with and without attributes, then controls and methods that lack a step.

    In both groups, methods that are not in `METHODS` come last.
    """
    name = plain(method)
    return part != "", [*METHODS, name].index(name), method, part


def _seeds(axis: plt.Axes, y: int, rows: pd.DataFrame, places: Mapping[int, float]) -> None:
    first = rows.iloc[0]
    color = METHODS.get(plain(first.method), "0.15")
    axis.plot([rows.accuracy.mean()] * 2, [y - 0.38, y + 0.38], color=color, lw=2.5, zorder=2)
    heights = [y + places[seed] for seed in rows.seed]
    axis.scatter(rows.accuracy, heights, color="white" if first.part else color, edgecolor=color, s=20, zorder=3)
