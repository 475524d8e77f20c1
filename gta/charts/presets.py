"""As described beside as released: accuracies of both presets, and what adapt did to the weights in each.

`python -m gta.charts.presets FOLDER` prints the tables of `tables/presets.csv` and `tables/regime.csv` as `docs/presets.md` holds them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gta.charts.style import PALETTE
from gta.scores.rows import Row, read_table
from gta.scores.statistics import t_interval

NAMES = ("as_described", "as_released")
MEASURES = {"gradient": "mean g", "below_gate": "% below the gate", "step": "mean dw of a step"}


def accuracies(rows: Sequence[Row]) -> pd.DataFrame:
    """One line for each method: the mean over encoders of each one's mean over draws in both presets, their difference with its 95 %
    interval over encoders, and GTA-CLIP's best of all calls, which labels picked."""
    frame = pd.DataFrame([row.model_dump() for row in rows]).astype({"oracle_best": float})
    frame = frame[frame.dataset == "digits"]
    lines = {}
    for method, of_method in frame.groupby("method", sort=False):
        seeds = of_method.groupby(["preset", "seed"])[["accuracy", "oracle_best"]].mean()
        by_preset = {name: seeds.loc[name] for name in NAMES}
        difference = by_preset["as_released"].accuracy - by_preset["as_described"].accuracy
        low, high = t_interval(list(difference))
        told = {name: of.accuracy.mean() for name, of in by_preset.items()}
        told |= {"difference": difference.mean(), "low": low, "high": high}
        lines[method] = told | {f"oracle_best, {name}": of.oracle_best.mean() for name, of in by_preset.items()}
    return pd.DataFrame(lines).T.round(2)


def regime(steps: pd.DataFrame) -> pd.DataFrame:
    """One line for each group of tensors: the means over encoders, draws and iterations of what adapt did in both presets.

    steps: the lines of `regime.csv`.
    """
    steps = steps[(steps.dataset == "digits") & (steps.method == "GTA-CLIP")]
    steps = steps.assign(below_gate=100 * steps.below_gate)
    means = steps.pivot_table(list(MEASURES), "group", "preset")
    return means[[(measure, name) for measure in MEASURES for name in NAMES]]


def falls(steps: pd.DataFrame) -> dict[str, float]:
    """How far the loss of the first batch fell over a pass, the mean of each preset."""
    passes = steps[steps.dataset == "digits"].drop_duplicates(["preset", "seed", "draw", "method", "variant", "iteration"])
    return {name: float(passes[passes.preset == name].fall.mean()) for name in NAMES}


def chart(steps: pd.DataFrame) -> Figure:
    """The mean |dw| of a step by group of tensors, one colour for each preset; a group that does not learn has no dot."""
    means = regime(steps)["step"]
    figure, axis = plt.subplots(figsize=(7, 0.35 * len(means) + 1.2))
    for i, name in enumerate(NAMES):
        axis.plot(means[name], range(len(means)), "os"[i], color=PALETTE[i], ms=7, label=name)
    axis.set(yticks=range(len(means)), yticklabels=means.index, xscale="log", xlabel="mean |dw| of a step, log scale")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.4)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False)
    return figure


def markdown(rows: Sequence[Row], steps: pd.DataFrame) -> str:
    """Both tables, and the falls of the loss."""
    lines = ["| digits | `as_described` | `as_released` | difference | 95 % over encoders |", "| --- | --- | --- | --- | --- |"]
    for method, line in accuracies(rows).iterrows():
        lines.append(
            f"| {method} | {line['as_described']:.1f} | {line['as_released']:.1f} | {line['difference']:+.1f} "
            f"| [{line['low']:+.1f}, {line['high']:+.1f}] |"
        )
    heads = [f"{told}, `{name}`" for told in MEASURES.values() for name in NAMES]
    lines += ["", "| group of tensors | " + " | ".join(heads) + " |", "| --- " * (1 + len(heads)) + "|"]
    for group, line in regime(steps).iterrows():
        lines.append(f"| {group} | " + " | ".join("stays" if pd.isna(value) else f"{value:.2g}" for value in line) + " |")
    fallen = falls(steps)
    lines += ["", "Fall of the loss over a pass: " + ", ".join(f"{fallen[name]:.3g} `{name}`" for name in NAMES) + "."]
    return "\n".join(lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(markdown(read_table(folder / "tables/presets.csv"), pd.read_csv(folder / "tables/regime.csv", keep_default_na=False)))
