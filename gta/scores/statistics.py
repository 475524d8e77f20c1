"""Paired comparisons of two methods on the same images, from the per-image predictions of their runs.

One comparison, of one encoder and one draw: its interval is the paired bootstrap of `gta.scores.rows.paired_gain`, and its p-value that
of the exact McNemar test (Psychometrika 1947), corrected by Holm's procedure (Scand. J. Statist. 1979) within a family: all comparisons
with one reference on one dataset, encoder, number of shots and draw. Both say how much of the difference the images explain, and nothing
of another encoder or another draw. What is called a gain rests on all of them (`over_encoders`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from scipy.stats import t as student

from gta.scores.rows import Row, paired_gain

SETTING = ["table", "dataset", "backbone", "preset", "shots", "seed"]
COLUMNS = [*SETTING, "draw", "method", "variant", "reference", "run_id", "difference", "low", "high", "better", "worse", "p", "p_holm"]
LEVEL = 0.95


def mcnemar(right: np.ndarray, reference: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test of two methods. right, reference: bool (N,), the images that each labels correctly.

    Returns how many images only the first labels correctly, how many only the second does, and the two-sided p-value.
    """
    better, worse = int((right & ~reference).sum()), int((~right & reference).sum())
    return better, worse, float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def holm(p: Sequence[float]) -> np.ndarray:
    """P-values adjusted by Holm's procedure, which bounds the family-wise error rate."""
    order = np.argsort(p)
    stepped = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def paired(rows: Iterable[Row], right: Mapping[str, np.ndarray], references: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """Compare every row with its baseline, and with the rows of `references` (method, variant) that exist in its setting.

    right: {run_id: bool (N,)}, the images that are labelled correctly. Returns one line for each comparison: the difference in points
    with its 95 % interval, the numbers of images won and lost, and McNemar's p-value, uncorrected and corrected. Raises ValueError if
    a baseline is not among the rows.
    """
    settings: dict[tuple, dict[str, dict[int, Row]]] = {}
    for row in rows:
        of_setting = settings.setdefault(tuple(getattr(row, name) for name in SETTING), {})
        of_setting.setdefault(label(row.method, row.variant), {})[row.draw] = row
    lines = []
    for setting, by_label in settings.items():
        baselines = {name: next(iter(draws.values())).baseline for name, draws in by_label.items()}
        common = [label(*reference) for reference in references if label(*reference) in by_label]
        for reference in dict.fromkeys([*baselines.values(), *common]):
            if reference not in by_label:
                raise ValueError(f"no row {reference!r} to compare with among those of {setting}")
            chosen = [name for name in by_label if name != reference and reference in (baselines[name], *common)]
            for draw in sorted({draw for name in chosen for draw in by_label[name]} | set(by_label[reference])):
                family = [(by_label[name], by_label[reference]) for name in chosen if draw in by_label[name] or draw in by_label[reference]]
                lines += _family(setting, draw, [(of_draw(a, draw), of_draw(b, draw)) for a, b in family], right)
    return pd.DataFrame(lines, columns=COLUMNS)


def of_draw(draws: Mapping[int, Row], draw: int) -> Row:
    """The row of a draw; a method that draws nothing was measured once, and stands beside every draw of the others."""
    return draws.get(draw) or next(iter(draws.values()))


def t_interval(differences: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval for the mean of what is independent between encoders: one number for each; infinite for a single one.

    With five encoders it takes 4 degrees of freedom, so that it holds for few of them (`tests/scores/test_statistics.py` shows it).
    """
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return -np.inf, np.inf
    half = float(student.ppf((1 + level) / 2, count - 1)) * float(np.std(differences, ddof=1)) / count**0.5
    return mean - half, mean + half


def over_encoders(difference: pd.Series, seed: pd.Series) -> pd.Series:
    """What the paired differences of several encoders (`seed`) and draws say: the mean over encoders of each one's mean over its draws,
    its Student interval over encoders, the standard deviation between draws of one encoder, and the verdict."""
    of_encoder = difference.groupby(seed.to_numpy())
    means = of_encoder.mean()
    low, high = t_interval(list(means))
    within = of_encoder.var(ddof=1).dropna()
    spread = float(within.mean() ** 0.5) if len(within) else float("nan")
    said = {"mean": means.mean(), "mean_low": low, "mean_high": high, "spread": spread, "verdict": verdict(low, high)}
    return pd.Series({**said, "encoders": len(means), "draws": int(of_encoder.size().max())})


def read(file: Path) -> pd.DataFrame:
    """Read the paired comparisons that `gta.scores.tables.combine` wrote. Text columns stay text. Raises FileNotFoundError."""
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes it, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    whole = dict.fromkeys(["shots", "seed", "draw", "better", "worse"], int)
    return frame.astype({**whole, **dict.fromkeys(["difference", "low", "high", "p", "p_holm"], float)})


def _family(setting: tuple, draw: int, pairs: Sequence[tuple[Row, Row]], right: Mapping[str, np.ndarray]) -> list[dict]:
    lines = []
    for row, reference in pairs:
        difference, low, high = paired_gain(right[row.run_id], right[reference.run_id])
        better, worse, p = mcnemar(right[row.run_id], right[reference.run_id])
        names = {"method": row.method, "variant": row.variant, "reference": label(reference.method, reference.variant)}
        line = {**dict(zip(SETTING, setting, strict=True)), "draw": draw, **names, "run_id": row.run_id, "p": p}
        lines.append({**line, "difference": difference, "low": low, "high": high, "better": better, "worse": worse})
    for line, adjusted in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = adjusted
    return lines


def label(method: str, variant: str) -> str:
    """Method and variant as one name, in the form of `Row.baseline`."""
    return ", ".join(filter(None, (method, variant)))


def right_images(files: Iterable[Path]) -> dict[str, np.ndarray]:
    """{run_id: bool (N,)}, the images that each run labels correctly, read from `predictions.npz` files."""
    found: dict[str, np.ndarray] = {}
    for file in files:
        with np.load(file, allow_pickle=False) as predictions:
            found |= {name.removesuffix(".correct"): predictions[name] for name in predictions.files if name.endswith(".correct")}
    return found


def verdict(low: float, high: float) -> str:
    """`better` or `worse` if the interval over encoders excludes 0, otherwise the empty string. Only a verdict may be bold."""
    return "better" if low > 0 else "worse" if high < 0 else ""
