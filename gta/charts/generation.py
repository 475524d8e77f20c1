"""What generation is worth, and to what: each variant against the whole method, by the question that it belongs to."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gta.charts.components import NAME, frame_of, told_apart
from gta.figures import PALETTE
from gta.results import Row
from gta.statistics import label
from gta.studies.ablation_generation import MODEL, QUESTIONS, question_of
from gta.studies.zero_shot import WITHHELD

ORDER = ["model", *QUESTIONS]
WHOLE = "GTA-CLIP, the whole method"
COLOURS = {"better": PALETTE[0], "worse": PALETTE[1], "": "0.55"}


def frame_by_question(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows with `names` (said or withheld), `row`, which is the same in each setting, and `question`."""
    frame = frame_of(rows)
    frame["names"] = ["withheld" if variant.startswith(WITHHELD) else "said" for variant in frame.variant]
    bare = [variant.removeprefix(WITHHELD).removeprefix(", ") for variant in frame.variant]
    frame["question"] = [question_of(variant) for variant in frame.variant]
    frame["row"] = [
        variant.removeprefix(MODEL) or (WHOLE if method == "GTA-CLIP" else method)
        for method, variant in zip(frame.method, bare, strict=True)
    ]
    return frame


def table(rows: Iterable[Row], paired: pd.DataFrame) -> pd.DataFrame:
    """A line a row and setting: mean accuracy, and its gain over the whole method."""
    frame, lines = frame_by_question(rows), told_apart(paired)
    means = (
        frame.groupby(["dataset", "backbone", "names", "question", "row", "method", "variant", "baseline"]).accuracy.mean().reset_index()
    )
    joined = means.join(lines.rename_axis(index={"reference": "baseline"}), on=[*NAME, "baseline"])
    joined["rank"] = [["", *ORDER].index(question) for question in joined.question]
    joined = joined.sort_values(["dataset", "backbone", "names", "rank", "row"], ignore_index=True)
    return joined.drop(columns=["method", "variant", "baseline", "rank"]).round(1).astype(object).fillna("")


def gains_by_question(rows: Sequence[Row], paired: pd.DataFrame) -> Figure:
    """A panel a dataset, encoder and setting of names, rows grouped by question: the mean accuracy, and each seed's gain over the whole
    method with its interval; coloured where every seed says better or worse."""
    frame, lines = frame_by_question(rows), told_apart(paired)
    places = _places(frame)
    panels = list(frame.groupby(["dataset", "backbone", "names"]))
    columns = min(3, len(panels))
    count = -(-len(panels) // columns)
    height = 0.34 * (max(places.values()) + 1) + 1.2
    figure, axes = plt.subplots(count, columns, figsize=(3.1 * columns + 2.4, height * count), squeeze=False, sharey=True)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, ((dataset, backbone, names), part) in zip(axes.flat, panels, strict=False):
        _panel(axis, part, lines, places)
        withheld = ",\nnames withheld" if names == "withheld" else "\n"
        axis.set_title(f"{dataset}, {backbone}{withheld}", fontsize=11, pad=14)
        axis.set_xlabel("gain over the whole method, points")
    heads = {place: question for (question, row), place in places.items() if row is None}
    for axis in axes[:, 0]:
        axis.set_yticks(list(places.values()), [question if row is None else row for question, row in places])
        for tick, place in zip(axis.get_yticklabels(), places.values(), strict=True):
            tick.set_fontweight("bold" if place in heads else "normal")
        axis.set_ylim(max(places.values()) + 0.6, -0.6)
    figure.tight_layout()
    return figure


def _places(frame: pd.DataFrame) -> dict[tuple[str, str | None], float]:
    """Height of each (question, row), and of each question's head as (question, None)."""
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
    seeds = sorted(part.seed.unique())
    for (question, row), of_row in part.groupby(["question", "row"]):
        height, first = places[question, row], of_row.iloc[0]
        said = lines.verdict.get((first.dataset, first.backbone, first.method, first.variant, first.baseline), "")
        for line in map(Row.model_validate, of_row[list(Row.model_fields)].to_dict("records")):
            if label(line.method, line.variant) == line.baseline:
                continue
            y = height + 0.22 * (seeds.index(line.seed) - (len(seeds) - 1) / 2)
            axis.plot([line.gain_low, line.gain_high], [y, y], color=COLOURS[said], lw=1.5)
            axis.plot([line.gain], [y], "o", color=COLOURS[said], ms=3.5)
        axis.annotate(
            f"{of_row.accuracy.mean():.1f}", (1.0, height), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=9
        )
    axis.axvline(0, color="0.3", lw=1)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.3 * (high - low))  # where the accuracies stand
    axis.annotate("accuracy, %", (1.0, 1.0), xycoords="axes fraction", ha="right", va="bottom", fontsize=8, color="0.3")
    axis.tick_params(axis="y", length=0)
