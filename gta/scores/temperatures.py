"""What a temperature mends and what it costs: each rule that chooses one, scored on the labels of query images.

    as it is            T = 1
    neighbours          no label: the mean confidence is the agreement of nearest neighbours (`neighbour_temperature`)
    CLIP's confidence   no label: the mean confidence is that of CLIP; transduction then changes answers, and not how sure they are
    20 labels, ...      the likeliest T of so many labelled query images, drawn at random `DRAWS` times; they take no part in the scoring

No rule changes an answer, and none was chosen from what it gives here.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch

from gta.scores import results
from gta.scores.calibration import (
    brier,
    ece,
    ece_if_calibrated,
    fitted_temperature,
    matched_temperature,
    neighbour_temperature,
    nll,
    reliability,
    with_temperature,
)

AS_IT_IS, NEIGHBOURS, AS_CLIP = "as it is", "neighbours", "CLIP's confidence"
LABELLED = (20, 50)  # labelled images
DRAWS = 20  # of the labelled images
MEANS = ["temperature", "ece", "ece_if_calibrated", "brier", "nll"]
SPREADS = ["temperature", "ece", "brier", "nll"]


def label_free(logits: np.ndarray, neighbours: np.ndarray, clip: float) -> dict[str, float]:
    """The temperature of each rule that needs no label. logits: (N, M); neighbours: int (N,); clip: the mean confidence of CLIP."""
    return {
        AS_IT_IS: 1.0,
        NEIGHBOURS: neighbour_temperature(logits, neighbours),
        AS_CLIP: matched_temperature(logits, clip),
    }


def compared(task_name: str, logits: np.ndarray, temperatures: Mapping[str, float], seed: int) -> pd.DataFrame:
    """One line for each rule of `temperatures`, then for each number of LABELLED, of which at most half of the images may be.

    logits: (N, M) of the images of a task; temperatures: those of `label_free`; seed: of the draws. Columns: `rule`; `labelled` images;
    `draws`; means over the draws of `temperature`, `ece` and `ece_if_calibrated` in %, `brier` and `nll`; and their standard deviations
    between draws, `temperature_spread` and so on, which are 0 where nothing is drawn. The 20 images of a draw are among its 50. Images
    whose class is not among the names take no part.
    """
    scores, labels, right = _counted(task_name, logits)
    lines = [_line(rule, 0, [_scored(scores, labels, right, temperature)]) for rule, temperature in temperatures.items()]
    for labelled in (count for count in LABELLED if 2 * count <= len(labels)):
        drawn = []
        for shown, rest in _draws(len(labels), labelled, seed):
            drawn.append(_scored(scores[rest], labels[rest], right[rest], fitted_temperature(scores[shown], labels[shown])))
        lines.append(_line(f"{labelled} labels", labelled, drawn))
    return pd.DataFrame(lines)


def diagram(task_name: str, logits: np.ndarray, temperatures: Mapping[str, float]) -> pd.DataFrame:
    """The bins of `gta.scores.calibration.reliability` that have images, for each rule: `rule`, `bin` and its columns. Arguments: as in
    `compared`."""
    scores, _, right = _counted(task_name, logits)
    parts = []
    for rule, temperature in temperatures.items():
        frame = reliability(with_temperature(scores, temperature).max(1), right).reset_index()
        parts.append(frame[frame["count"] > 0].assign(rule=rule)[["rule", *frame.columns]])
    return pd.concat(parts, ignore_index=True)


def _counted(task_name: str, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the images that count: logits, float (n, M), labels, int (n,), and which answers are right, bool (n,). A temperature changes no
    answer, so rounding may change none either."""
    z = torch.from_numpy(with_temperature(logits, 1))
    labels, counted = results.truth(task_name, z)
    return np.asarray(logits, dtype=float)[counted], labels[counted], results.right(task_name, z, labels)


def _draws(images: int, labelled: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each draw, the rows of the labelled images and those of all others."""
    for draw in range(DRAWS):
        order = np.random.default_rng([seed, draw]).permutation(images)
        yield order[:labelled], order[labelled:]


def _scored(scores: np.ndarray, labels: np.ndarray, right: np.ndarray, temperature: float) -> dict[str, float]:
    z = with_temperature(scores, temperature)
    return {
        "temperature": temperature,
        "ece": 100 * ece(z.max(1), right),
        "ece_if_calibrated": 100 * ece_if_calibrated(z.max(1)),
        "brier": brier(z, labels),
        "nll": nll(scores / temperature, labels),
    }


def _line(rule: str, labelled: int, drawn: list[dict[str, float]]) -> dict[str, str | int | float]:
    frame = pd.DataFrame(drawn)
    spreads = {f"{name}_spread": float(frame[name].std(ddof=1)) if len(frame) > 1 else 0.0 for name in SPREADS}
    return {"rule": rule, "labelled": labelled, "draws": len(frame), **{name: float(frame[name].mean()) for name in MEANS}, **spreads}
