"""What each step adds: stacked bars of accuracy, and gains with every seed's interval."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from gta.figures import PALETTE
from gta.results import Row
from gta.statistics import label, verdict

STEPS = ("CLIP", "TransCLIP", "GTA-CLIP")
WITHHELD = "names withheld"


def setting_of(dataset: str, variant: str = "") -> str:
    """The name that readers see of a benchmark; worlds of the aviary are seeds of one dataset."""
    return label(dataset.partition(":")[0], WITHHELD if variant.startswith(WITHHELD) else "")


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
    """Of `steps`, or published figures in its form: a bar a setting, CLIP, then what transduction and the rest of the method add, means
    over seeds. A step that costs accuracy is hatched over what it takes away; dots are the whole method's seeds."""
    first, *others = (str(name) for name in frame.index.names if name != "seed")
    names = [first, *(name for name in others if frame.index.get_level_values(name).nunique() > 1)]
    by_setting = frame.groupby(names, sort=False)
    means = by_setting.mean()
    figure, axis = plt.subplots(figsize=(9, 0.42 * len(means) + 1.5))
    colors = dict(zip(STEPS, ("0.75", PALETTE[0], PALETTE[1]), strict=True))
    for y, (key, line) in enumerate(means.iterrows()):
        axis.barh(y, line["CLIP"], color=colors["CLIP"], height=0.66)
        for before, step in pairwise(STEPS):
            gain = line[step] - line[before]
            style = {"color": colors[step]} if gain >= 0 else {"facecolor": "none", "edgecolor": colors[step], "hatch": "////", "lw": 1.2}
            axis.barh(y, gain, left=line[before], height=0.66, **style)
        seeds = by_setting.get_group(key if isinstance(key, tuple) else (key,))["GTA-CLIP"]
        if len(seeds) > 1:
            axis.scatter(seeds, [y] * len(seeds), s=11, color="black", zorder=3)
        axis.annotate(
            f"{line['GTA-CLIP']:.1f}", (max(*line, *seeds), y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
        )
    ticks = [", ".join(key) if isinstance(key, tuple) else str(key) for key in means.index]
    axis.set(yticks=range(len(means)), yticklabels=ticks, ylim=(len(means) - 0.5, -0.5), xlabel="accuracy, %", xlim=(0, 104), title=title)
    told = {"CLIP": "CLIP", "TransCLIP": "transduction adds", "GTA-CLIP": "generate and adapt add"}
    handles = [plt.Rectangle((0, 0), 1, 1, color=colors[step], label=told[step]) for step in STEPS]
    handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="0.3", hatch="////", label="or cost"))
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.9 / figure.get_figheight()), ncols=4, frameon=False)
    figure.tight_layout()
    return figure


def gains(pairs: pd.DataFrame, methods: Mapping[str, str]) -> Figure:
    """A panel a setting: each method's gain over the baseline, a line a seed with its 95 % interval, the mean as a bar.

    pairs: of `gta.statistics.paired`, against the baselines; methods: from the label of a method to that of the reader, in the order
    of the rows; of transduction, that of the baseline itself. Coloured where every seed says better or worse after correction
    (`gta.statistics.verdict`), else grey.
    """
    own = "Trans" + pairs.reference.str.partition(", ")[0]  # and not transduction from names where the baseline has attributes
    pairs = pairs[(pairs.method == "GTA-CLIP") | (pairs.method == own)]
    of_panel = pd.Series(map(setting_of, pairs.dataset, pairs.variant), index=pairs.index)
    variants = [variant.removeprefix(WITHHELD).removeprefix(", ") for variant in pairs.variant]
    names = pd.Series(map(label, pairs.method.str.removesuffix("+attributes"), variants), index=pairs.index)
    panels = list(dict.fromkeys(of_panel))
    figure, axes = plt.subplots(1, len(panels), figsize=(2.2 + 3.1 * len(panels), 0.44 * len(methods) + 1.4), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for y, name in enumerate(methods):
            if len(shown := pairs[(of_panel == panel) & (names == name)]):
                _seeds(axis, y, shown.sort_values("seed"))
        axis.axvline(0, color="0.3", lw=1)
        axis.set(title=panel, yticks=range(len(methods)), yticklabels=methods.values(), ylim=(len(methods) - 0.5, -0.5))
    figure.supxlabel("gain over CLIP on the same images, points", fontsize=10)
    figure.tight_layout()
    return figure


def _seeds(axis: plt.Axes, y: int, lines: pd.DataFrame) -> None:
    color = {"better": PALETTE[0], "worse": PALETTE[3], "": "0.55"}[verdict(list(lines.difference), list(lines.p_holm))]
    heights = spread(y, len(lines))
    axis.hlines(heights, lines.low, lines.high, color=color, lw=1.6)
    axis.plot(lines.difference, heights, "o", color=color, ms=4)
    axis.plot([lines.difference.mean()] * 2, [y - 0.38, y + 0.38], color=color, lw=2.5, alpha=0.45)


def spread(y: float, count: int, width: float = 0.5) -> Sequence[float]:
    """Heights of `count` seeds around y."""
    return [y + width * ((i + 0.5) / count - 0.5) for i in range(count)]
