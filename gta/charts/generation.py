"""What generation adds, and why: each variant compared with the whole method, grouped by the question that it answers."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts.drawing import aside, draw_seeds, grid, setting, tell_verdicts
from gta.charts.frames import METHOD, WITHHELD, bare, comparisons, frame_of, in_order, shown, told_apart
from gta.scores.rows import Row
from gta.studies.ablation_generation import MODEL, QUESTIONS, question_of

COLUMNS = 3  # panels in a line
ORDER = ["model", *QUESTIONS]
WHOLE = "GTA-CLIP, the whole method"


def by_question(frame: pd.DataFrame) -> pd.DataFrame:
    """Add to rows or comparisons `names` (said or withheld), `question`, and `row`, the label of a variant in all settings."""
    names = ["withheld" if variant.startswith(WITHHELD) else "said" for variant in frame.variant]
    whole = [WHOLE if method == "GTA-CLIP" else method for method in frame.method]
    rows = [bare(variant).removeprefix(MODEL) or name for variant, name in zip(frame.variant, whole, strict=True)]
    return frame.assign(names=names, question=list(map(question_of, frame.variant)), row=rows)


def table(rows: Iterable[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """One line for each row and setting: the mean accuracy, and its gain over the whole method."""
    frame = by_question(frame_of(rows))
    means = frame.groupby([*METHOD, "baseline", "names", "question", "row"]).accuracy.mean().reset_index()
    joined = means.join(comparisons(paired).rename_axis(index={"reference": "baseline"}), on=[*METHOD, "baseline"])
    joined["rank"] = [["", *ORDER].index(question) for question in joined.question]
    joined = in_order(joined, "backbone", "names", "rank", "row")
    first = ["dataset", "backbone", "names", "question", "row"]
    return shown(joined[[*first, *joined.columns.difference([*first, *METHOD, "baseline", "rank"], sort=False)]])


def gains_by_question(rows: Sequence[Row], paired: pd.DataFrame) -> Figure:
    """One panel for each dataset, encoder and setting of names, with rows grouped by question: the mean accuracy, and the gain
    over the whole method. It has a colour if its interval over encoders excludes 0."""
    frame, lines = by_question(frame_of(rows)), by_question(told_apart(paired))
    places, key = _places(frame), ["dataset", "backbone", "names"]
    panels = list(in_order(frame, *key[1:]).groupby(key, sort=False))
    figure, axes = grid(len(panels), COLUMNS, (3.4, 0.34 * (max(places.values()) + 1) + 1.2), 2.4, sharey=True)
    for axis, ((dataset, backbone, names), part) in zip(axes, panels, strict=True):
        _panel(axis, part, lines[(lines[key] == [dataset, backbone, names]).all(axis=1)], places)
        withheld = ",\nnames withheld" if names == "withheld" else "\n"
        axis.set_title(f"{setting(dataset, backbone)}{withheld}", fontsize=11, pad=14)
        axis.set_xlabel("gain over the whole method, points")
    for axis in axes[::COLUMNS]:
        axis.set_yticks(list(places.values()), [question if row is None else row for question, row in places])
        for tick, (_, row) in zip(axis.get_yticklabels(), places, strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axis.set_ylim(max(places.values()) + 0.6, -0.6)
    tell_verdicts(figure)
    return figure


def _places(frame: pd.DataFrame) -> dict[tuple[str, str | None], float]:
    """The height of each (question, row); (question, None) is the heading of a question."""
    found: dict[tuple[str, str | None], float] = {}
    height = 0.0
    for question in ["", *(q for q in ORDER if q in set(frame.question))]:
        if question:
            height += 0.3
            found[question, None] = height
            height += 1
        for row in dict.fromkeys(sorted(frame[frame.question == question].row, key=lambda row: (row != WHOLE, row))):
            found[question, row] = height
            height += 1
    return found


def _panel(axis: Axes, part: pd.DataFrame, lines: pd.DataFrame, places: dict) -> None:
    beside = aside(part.seed)
    for (question, row), found in lines.groupby(["question", "row"]):
        draw_seeds(axis, places[question, row], found, beside)
    for (question, row), of_row in part.groupby(["question", "row"]):
        at = 1.03, places[question, row]
        axis.annotate(f"{of_row.accuracy.mean():.1f}", at, xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axis.axvline(0, color="0.3", lw=1)
    axis.annotate("accuracy, %", (1.03, 1.0), xycoords="axes fraction", va="bottom", fontsize=8, color="0.3")
    axis.tick_params(axis="y", length=0)
