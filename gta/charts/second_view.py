"""What a second view adds: accuracies with one view and with two, the gain of the second, and whether gains stack."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts.drawing import METHODS, aside, draw_seeds, setting, tell_verdicts
from gta.charts.frames import comparisons, frame_of, in_order, plain, shown, told_apart
from gta.scores.rows import Row
from gta.scores.statistics import label
from gta.studies.second_view import GTA_CLIP, NO_ADAPT, TWO_VIEWS, with_two

# The methods, as rows of the chart: what each is called, and its variant with one view.
ROWS = {"TransCLIP": ("TransCLIP", ""), f"GTA-CLIP, {NO_ADAPT}": ("GTA-CLIP", NO_ADAPT), "GTA-CLIP": ("GTA-CLIP", "")}
SETTING = ["dataset", "backbone"]


def second_gains(rows: Sequence[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each method: its mean accuracy with one view and with two, and the gain of the second view over all encoders."""
    means = frame_of(rows).groupby([*SETTING, "label"]).accuracy.mean()
    table = _own(comparisons(paired).reset_index())
    accuracy = {
        "one view": [means[*key] for key in table[[*SETTING, "reference"]].itertuples(index=False)],
        "two views": [means[*key] for key in zip(table.dataset, table.backbone, map(label, table.method, table.variant), strict=True)],
    }
    table = in_order(table.assign(row=table.reference, **accuracy, rank=_rank(table.reference)), "backbone", "rank")
    first = [*SETTING, "row", *accuracy, "difference", "interval", "verdict", "between draws"]
    return shown(table[[*first, *_encoders(table)]])


def stacked(paired: pd.DataFrame) -> pd.DataFrame:
    """GTA-CLIP with two views against all that it is made of: itself with one view, and transduction alone with two. It stacks where it is
    better than both."""
    table = comparisons(paired).reset_index()
    one = {with_two(variant): label("GTA-CLIP", variant) for variant in GTA_CLIP}
    table = table[(table.method == "GTA-CLIP") & table.variant.isin(list(one))]
    told = [
        reference == one[variant] or (_is_transclip(reference) and reference.endswith(TWO_VIEWS))
        for variant, reference in zip(table.variant, table.reference, strict=True)
    ]
    table = table[told]
    table = table.assign(row=list(map(label, table.method, table.variant)), rank=_rank([one[variant] for variant in table.variant]))
    table = in_order(table, "backbone", "rank", "reference")
    return shown(table[[*SETTING, "row", "reference", "difference", "interval", "verdict", "between draws", *_encoders(table)]])


def views(rows: Sequence[Row], paired: pd.DataFrame) -> Figure:
    """Two panels for each dataset and pair of encoders. Left: the accuracy of each method, hollow dots with one view, full ones with two, a
    dot for each seed and a bar at the mean; a grey line at CLIP. Right: the gain of the second view, as `gta.charts.drawing.draw_seeds`."""
    frame, gains = frame_of(rows), _own(told_apart(paired))
    panels = list(frame.groupby(SETTING, sort=False))
    figure, axes = plt.subplots(len(panels), 2, figsize=(11, 2.1 * len(panels) + 0.5), sharey="row", squeeze=False)
    for (left, right), (key, of_panel) in zip(axes, panels, strict=True):
        _accuracies(left, of_panel)
        places = aside(of_panel.seed)
        for y, name in enumerate(ROWS):
            found = gains[(gains[SETTING] == list(key)).all(axis=1) & (_names(gains.reference) == name)]
            if len(found):
                draw_seeds(right, y, found, places)
        right.axvline(0, color="0.3", lw=1)
        right.set_xlabel("gain of the second view, points")
        left.set_title(setting(*key), loc="left")
    tell_verdicts(figure)
    return figure


def _accuracies(axis: Axes, frame: pd.DataFrame) -> None:
    names = pd.Series(map(plain, frame.method), index=frame.index)
    axis.axvline(frame[names == "CLIP"].accuracy.mean(), color=METHODS["CLIP"], lw=2, zorder=1)
    for y, (method, variant) in enumerate(ROWS.values()):
        for called, shift, filled in ((variant, -0.18, False), (with_two(variant), 0.18, True)):
            of_row, color = frame[(names == method) & (frame.variant == called)], METHODS[method]
            if len(of_row):
                axis.plot([of_row.accuracy.mean()] * 2, [y + shift - 0.15, y + shift + 0.15], color=color, lw=2.5, zorder=2)
                dots = axis.scatter(of_row.accuracy, [y + shift] * len(of_row), s=20, edgecolor=color, zorder=3)
                dots.set_facecolor(color if filled else "white")
    axis.set(yticks=range(len(ROWS)), yticklabels=list(ROWS), ylim=(len(ROWS) - 0.5, -0.5), xlabel="accuracy, %: hollow one view, full two")


def _own(lines: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of two views with the same method with one."""
    one = [variant.removeprefix(TWO_VIEWS).removeprefix(", ") for variant in lines.variant]
    same = lines.reference == list(map(label, lines.method, one))
    return lines[lines.variant.str.startswith(TWO_VIEWS) & same]


def _names(references: pd.Series) -> pd.Series:
    """The rows of the chart: where names say nothing, TransCLIP has the first attributes."""
    return references.map(lambda of: "TransCLIP" if _is_transclip(of) else of)


def _is_transclip(named: str) -> bool:
    return plain(named.partition(", ")[0]) == "TransCLIP"


def _rank(named: Iterable[str]) -> list[int]:
    """The place in the chart of methods with one view."""
    return [list(ROWS).index("TransCLIP" if _is_transclip(name) else name) for name in named]


def _encoders(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith("encoder ")]
