"""The cost table for readers: accuracy against seconds, and which stage takes them."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from gta.charts.drawing import MARKS, METHODS
from gta.charts.style import PALETTE

# A stage has the colour of the method that adds it. The whole method adds two: generate has a colour of its own.
STAGES = {"encode": METHODS["CLIP"], "transduct": METHODS["TransCLIP"], "generate": PALETTE[8], "adapt": METHODS["GTA-CLIP"]}


def with_seconds(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `seconds`, the sum over all stages, to the frame of `cost_stages.csv`."""
    return frame.assign(seconds=frame[list(STAGES)].sum(axis=1))


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one line for each dataset, encoder and method: seconds of each stage and in total, memory, calls, tokens, price
    and accuracy."""
    names = ["dataset", "backbone", "method"]
    shown = [
        "images",
        "classes",
        "iterations",
        *STAGES,
        "seconds",
        "waiting",
        "memory_mb",
        "gpu_mb",
        "calls",
        "prompt_tokens",
        "answer_tokens",
    ]
    found = frame.groupby(names, sort=False)[[*shown, "price", "accuracy"]].mean()
    found["seconds a point over CLIP"] = [_each_point(found, key) for key in found.index]
    return found.round(2).reset_index()


def _each_point(found: pd.DataFrame, key: tuple) -> float:
    """Additional seconds for each point of accuracy above CLIP; NaN if the method gains nothing."""
    clip = found.loc[(*key[:2], "CLIP")]
    gained = found.loc[key].accuracy - clip.accuracy
    return (found.loc[key].seconds - clip.seconds) / gained if gained > 0 else float("nan")


def accuracy_against_seconds(frame: pd.DataFrame) -> Figure:
    """One panel for each dataset: the means of the methods, connected in the order of cost, and a small mark for each seed."""
    panels = list(frame.groupby(["dataset", "backbone"], sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels) + 0.4, 3.5), squeeze=False)
    for axis, ((dataset, _), part) in zip(axes[0], panels, strict=True):
        mean = part.groupby("method")[["seconds", "accuracy"]].mean().reindex(list(METHODS))
        axis.plot(mean.seconds, mean.accuracy, color="0.7", lw=1.5, zorder=1)
        for method, color in METHODS.items():
            of = part[part.method == method]
            axis.scatter(of.seconds, of.accuracy, color=color, marker=MARKS[method], s=16, alpha=0.6, zorder=2)
            axis.scatter(*mean.loc[method], color=color, marker=MARKS[method], s=70, zorder=3, label=method)
        axis.set(xscale="log", xlabel="seconds (logarithmic)", title=dataset)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(True, axis="y")
        axis.margins(x=0.15, y=0.12)
    axes[0, 0].set_ylabel("accuracy, %")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.tight_layout()
    return figure


def seconds_by_stage(frame: pd.DataFrame) -> Figure:
    """Stacked bars of the stages, means over seeds: one bar for each dataset and method. On the right are the seconds of each seed."""
    panels = list(frame.groupby(["dataset", "backbone"], sort=False))
    figure, axes = plt.subplots(len(panels), 1, figsize=(8.5, 1.5 * len(panels) + 0.7), squeeze=False)
    for axis, ((dataset, _), part) in zip(axes[:, 0], panels, strict=True):
        mean = part.groupby("method")[list(STAGES)].mean().reindex(list(METHODS))
        left = pd.Series(0.0, index=mean.index)
        for stage, color in STAGES.items():
            axis.barh(mean.index, mean[stage], left=left, color=color, height=0.65, label=stage)
            left += mean[stage]
        for y, method in enumerate(mean.index):
            seeds = part[part.method == method].sort_values("seed").seconds
            axis.text(left[method] + 0.01 * left.max(), y, ", ".join(f"{s:.1f}" for s in seeds) + " s", va="center", fontsize=9)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.3 * left.max())
        axis.set_title(dataset, loc="left")
    axes[-1, 0].set_xlabel("seconds, all iterations")
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(STAGES), frameon=False)
    figure.tight_layout()
    return figure
