"""The calibration table for readers: reliability diagrams, and the calibration error that each rule for a temperature leaves.

`python -m gta.charts.calibration FOLDER FILE` writes `table` of `FOLDER/temperatures.csv` into a document with its marks.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gta.charts import frames
from gta.charts.drawing import METHODS, aside, setting, tell
from gta.charts.style import PALETTE
from gta.files import write_atomically
from gta.scores.calibration import wilson
from gta.scores.tables import placed
from gta.scores.temperatures import AS_CLIP, AS_IT_IS, NEIGHBOURS

MARK = "calibration: temperatures"
# Of each rule: its colour and its mark; none is the colour of a method.
RULES = {
    AS_IT_IS: ("0.2", "o"),
    NEIGHBOURS: (PALETTE[4], "v"),
    AS_CLIP: (PALETTE[2], "D"),
    "20 labels": (PALETTE[9], "s"),
    "50 labels": (PALETTE[3], "s"),
}
SETTING = ["dataset", "backbone"]
LEAST = 5
EARLIER = 2  # iterates that are shown before the last one, which is the answer


def read(file: Path) -> pd.DataFrame:
    """Read `temperatures.csv` or `reliability.csv`, with the `step` that a line is about: CLIP, TransCLIP, the first and the middle iterate
    of GTA-CLIP, and its answer, which is the last iterate. Lines of other iterates are left out."""
    frame = frames.read(file)
    parts = [part.assign(step=part.variant.map(_steps(part.variant))) for _, part in frame.groupby(SETTING, sort=False)]
    frame = pd.concat(parts, ignore_index=True)
    frame["step"] = np.where(frame.method == "GTA-CLIP", frame.step, frame.method)
    return frame[frame.step.notna()].reset_index(drop=True)


def _steps(variants: pd.Series) -> dict[str, str]:
    """The names of the iterates that are shown."""
    iterates = sorted(set(variants) - {""})[:-1]  # the last one is the answer
    places = np.linspace(0, len(iterates), EARLIER, endpoint=False).astype(int)
    chosen = {iterates[place] for place in places if place < len(iterates)}
    return {"": "GTA-CLIP", **{name: f"GTA-CLIP, iteration {int(name.split()[1])}" for name in iterates if name in chosen}}


def steps_of(frame: pd.DataFrame) -> list[str]:
    """The steps, as a run takes them."""
    steps = sorted(set(frame.step) - set(METHODS), key=lambda name: int(name.split()[-1]))
    return ["CLIP", "TransCLIP", *steps, "GTA-CLIP"]


def diagrams(bins: pd.DataFrame, temperatures: pd.DataFrame) -> Figure:
    """Accuracy against confidence: a row of panels for each dataset and encoder, a column for each step. All encoders' images are taken
    together. bins, temperatures: of `read`."""
    rows, columns = list(bins.groupby(SETTING, sort=False)), max((steps_of(part) for _, part in bins.groupby(SETTING)), key=len)
    size = (2.25 * len(columns) + 0.5, 2.5 * len(rows) + 0.6)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharex=True, sharey=True)
    for line, (key, part) in zip(axes, rows, strict=True):
        steps = steps_of(part)
        line[0].set_ylabel("\n".join([*setting(*key).split(", "), "accuracy, %"]))
        for axis, step in zip(line, steps, strict=False):
            _panel(axis, part[part.step == step], step)
            of = temperatures[(temperatures[SETTING] == list(key)).all(axis=1) & (temperatures.step == step)]
            error = of[of.rule == AS_IT_IS].ece.mean()
            axis.set_title(f"{step}\nECE {error:.1f} %", fontsize=10)
        for axis in line[len(steps) :]:
            axis.set_visible(False)
    for column in axes.T:
        [axis for axis in column if axis.get_visible()][-1].set_xlabel("confidence, %")
        [axis for axis in column if axis.get_visible()][-1].tick_params(labelbottom=True)
    tell(figure, [*_legend(), Line2D([], [], color="0.4", ls=":", label="right as often as said")])
    return figure


def _panel(axis: Axes, part: pd.DataFrame, step: str) -> None:
    """A bin a mark, whose area is its share of the images, with its interval. Bins of fewer than LEAST images of an encoder are left out:
    they weigh little."""
    axis.plot([0, 100], [0, 100], ":", color="0.4", lw=1.2, zorder=1)
    for rule in (AS_CLIP, AS_IT_IS) if step != "CLIP" else (AS_IT_IS,):  # of CLIP both are the same
        of = pooled(part[part.rule == rule])
        of, color = of[of.each >= LEAST], METHODS[step.partition(",")[0]] if rule == AS_IT_IS else RULES[rule][0]
        if rule == AS_IT_IS:
            axis.vlines(100 * of.confidence, 100 * of.low, 100 * of.high, color=color, lw=1.2, alpha=0.6, zorder=2)
            axis.scatter(
                100 * of.confidence, 100 * of.accuracy, s=12 + 250 * of.share, color=color, alpha=0.85, lw=0, zorder=3, clip_on=False
            )
        else:
            axis.plot(100 * of.confidence, 100 * of.accuracy, "-", color=color, lw=1.5, zorder=2)
    axis.set(xlim=(-3, 103), ylim=(-3, 103), xticks=range(0, 101, 25), yticks=range(0, 101, 25), aspect="equal")
    axis.grid(True, axis="both")


def pooled(bins: pd.DataFrame) -> pd.DataFrame:
    """The bins of one step and rule over all encoders: `confidence`, `accuracy`, `share` of the images; `each`, how many images an encoder
    has in the bin on average; and the Wilson interval `low`, `high` of so many, since encoders may label the same images."""
    weighed = bins.assign(confidence=bins.confidence * bins["count"], accuracy=bins.accuracy * bins["count"])
    sums = weighed.groupby("bin")[["count", "confidence", "accuracy"]].sum()
    means = sums[["confidence", "accuracy"]].div(sums["count"], axis=0).assign(share=sums["count"] / sums["count"].sum())
    each = sums["count"] / bins.seed.nunique()
    intervals = [wilson(share, count) for share, count in zip(means.accuracy, each, strict=True)]
    return means.assign(each=each, low=[low for low, _ in intervals], high=[high for _, high in intervals])


def _legend() -> list[Line2D]:
    told = "as it is: area, share of the images; line, 95 % interval"
    return [
        Line2D([], [], color="0.3", marker="o", lw=1.2, label=told),
        Line2D([], [], color=RULES[AS_CLIP][0], label="T: as sure on average as CLIP"),
    ]


def errors(temperatures: pd.DataFrame) -> Figure:
    """The calibration error that each rule leaves: a panel for each dataset and encoder, a row for each step. A large mark is the mean over
    encoders, small ones are encoders; the line is the standard deviation between draws of the labelled images; a grey tick is what
    calibrated answers would have. temperatures: of `read`."""
    panels = list(temperatures.groupby(SETTING, sort=False))
    heights = [part.step.nunique() for _, part in panels]
    size = (9, 0.62 * sum(heights) + 0.9 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axis, (key, part) in zip(axes[:, 0], panels, strict=True):
        steps = steps_of(part)
        for y, step in enumerate(steps):
            _row(axis, y, part[part.step == step])
        axis.set(yticks=range(len(steps)), yticklabels=steps, ylim=(len(steps) - 0.45, -0.55), xlim=(0, None))
        axis.set_title(setting(*key), loc="left")
        for y in range(1, len(steps)):
            axis.axhline(y - 0.5, color="0.9", lw=0.8, zorder=0)
    axes[-1, 0].set_xlabel("expected calibration error, %")
    handles = [Line2D([], [], color=color, marker=mark, ls="", label=rule) for rule, (color, mark) in RULES.items()]
    tell(figure, [*handles, Line2D([], [], color="0.5", marker="|", ms=9, ls="", label="if calibrated")])
    return figure


def _row(axis: Axes, y: float, part: pd.DataFrame) -> None:
    beside = aside(range(len(RULES)), 0.165)
    for place, (rule, (color, mark)) in enumerate(RULES.items()):
        of, height = part[part.rule == rule], y + beside[place]
        if of.empty:
            continue
        mean, spread = of.ece.mean(), of.ece_spread.mean()
        axis.plot([max(0, mean - spread), mean + spread], [height] * 2, color=color, lw=1.5, zorder=2)
        axis.scatter(of.ece, [height] * len(of), color=color, marker=mark, s=8, alpha=0.5, lw=0, zorder=3)
        axis.scatter([mean], [height], color=color, marker=mark, s=36, zorder=4)
        axis.scatter([of.ece_if_calibrated.mean()], [height], color="0.5", marker="|", s=40, lw=1.2, zorder=1)


def table(temperatures: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset, encoder and step: means over encoders of the ECE in % that each rule leaves, with the standard deviation
    between draws of the labelled images; of `if calibrated`; and as it is of Brier's score and the negative log-likelihood."""
    lines = []
    for key, part in temperatures.groupby(SETTING, sort=False):
        for step in steps_of(part):
            of = part[part.step == step]
            line = {**dict(zip(SETTING, key, strict=True)), "method": step}
            plain = of[of.rule == AS_IT_IS]
            line |= {f"ECE, {rule}": _told(of[of.rule == rule]) for rule in RULES}
            line |= {"if calibrated": f"{plain.ece_if_calibrated.mean():.1f}", "Brier": f"{plain.brier.mean():.3f}"}
            lines.append({**line, "NLL": f"{plain.nll.mean():.2f}"})
    return pd.DataFrame(lines)


def _told(of: pd.DataFrame) -> str:
    """The mean, and the spread of what is drawn; nothing where a rule was not tried."""
    if of.empty:
        return ""
    return f"{of.ece.mean():.1f}" + (f" ± {of.ece_spread.mean():.1f}" if of.draws.max() > 1 else "")


def chosen(temperatures: pd.DataFrame) -> pd.DataFrame:
    """One line for each dataset, encoder, step and rule: means over encoders of the temperature with its spread between draws, and of what
    it leaves: ECE in %, Brier's score and the negative log-likelihood."""
    names = ["temperature", "temperature_spread", "ece", "brier", "nll"]
    return temperatures.groupby([*SETTING, "step", "rule"], sort=False)[names].mean().round(3).reset_index()


def filled(document: str, folder: Path) -> str:
    """The document with `table` of the published temperatures between its marks. Raises FileNotFoundError, or ValueError without marks."""
    return placed(document, MARK, lambda: table(read(folder / "temperatures.csv")))


if __name__ == "__main__":
    page = Path(sys.argv[2])
    write_atomically(page, filled(page.read_text(encoding="utf-8"), Path(sys.argv[1])))
