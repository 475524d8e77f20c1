"""Paired comparisons of two methods on the same images, from the per-image predictions of their runs.

The interval is the paired bootstrap of `gta.scores.results.paired_gain`. The p-value is that of the exact McNemar test (Psychometrika
1947). It uses the images that exactly one of the two methods labels correctly; under the null hypothesis, each method is correct on half
of them. A family is all comparisons with one reference on one dataset, encoder, number of shots and seed. The p-values of a family are
corrected by Holm's procedure (Scand. J. Statist. 1979).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gta.scores.results import Row, paired_gain

SETTING = ["table", "dataset", "backbone", "shots", "seed"]
COLUMNS = [*SETTING, "method", "variant", "reference", "run_id", "difference", "low", "high", "better", "worse", "p", "p_holm"]


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
    settings: dict[tuple, list[Row]] = {}
    for row in rows:
        settings.setdefault(tuple(getattr(row, name) for name in SETTING), []).append(row)
    lines = []
    for setting, of_setting in settings.items():
        by_label = {label(row.method, row.variant): row for row in of_setting}
        common = [label(*reference) for reference in references if label(*reference) in by_label]
        for name in dict.fromkeys([*(row.baseline for row in of_setting), *common]):
            if name not in by_label:
                raise ValueError(f"no row {name!r} to compare with among those of {setting}")
            against = right[by_label[name].run_id]
            chosen = [row for row in of_setting if name in (row.baseline, *common)]
            lines += _family(setting, [row for row in chosen if row is not by_label[name]], name, right, against)
    return pd.DataFrame(lines, columns=COLUMNS)


def read(file: Path) -> pd.DataFrame:
    """Read the paired comparisons that `gta.scores.tables.combine` wrote. Text columns stay text. Raises FileNotFoundError."""
    if not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: run the target that makes it, as `results/index.csv` lists it")
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    whole = dict.fromkeys(["shots", "seed", "better", "worse"], int)
    return frame.astype({**whole, **dict.fromkeys(["difference", "low", "high", "p", "p_holm"], float)})


def _family(setting: tuple, rows: Sequence[Row], name: str, right: Mapping[str, np.ndarray], against: np.ndarray) -> list[dict]:
    lines = []
    for row in rows:
        difference, low, high = paired_gain(right[row.run_id], against)
        better, worse, p = mcnemar(right[row.run_id], against)
        line = {"method": row.method, "variant": row.variant, "reference": name, "run_id": row.run_id, "p": p}
        lines.append({**dict(zip(SETTING, setting, strict=True)), **line, "difference": difference, "low": low, "high": high})
        lines[-1] |= {"better": better, "worse": worse}
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


def verdict(differences: Sequence[float], p_holm: Sequence[float], level: float = 0.05) -> str:
    """`better` or `worse` if all differences (one for each seed) have that sign and all corrected p-values are below the level.

    Otherwise the empty string. Only a result with a verdict may be bold.
    """
    if max(p_holm, default=1) < level:
        if min(differences) > 0:
            return "better"
        if max(differences) < 0:
            return "worse"
    return ""
