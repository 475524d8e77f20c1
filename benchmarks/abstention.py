"""Whether the threshold of a review keeps its promise: over many draws of reviewed images, how often the rest is as right as wanted.

    python benchmarks/abstention.py            # results/benchmarks/abstention.csv; about two minutes of one core
    python benchmarks/abstention.py --smoke    # one seed and few draws of each, under runs/smoke

Both worlds, five encoders each, are labelled once. Then, `DRAWS` times for each number of reviewed images, that many are drawn at random,
and a threshold on the doubt (1 - confidence) is chosen for each wanted risk. A row is the mean over draws and encoders of a way:

tested       the rule in use: fixed-sequence testing with exact bounds (`gta.label.abstention`)
naive        the loosest threshold at which the reviewed images have no more wrong labels than wanted
confidence   no review: a label whose confidence is 1 - risk or more is accepted

accepts      draws in which any label is accepted, in %
kept         draws in which the share of wrong labels among the accepted of the other images is no more than wanted, in %; where none is
             accepted nothing is wrong. `tested` promises 90
coverage     of the other images accepted, in %, mean over all draws;  where: mean over the draws that accept any
risk         wrong among the accepted other images, in %, mean over the draws that accept any

Rows with the measure `sets` are about sets of classes at the risk: `kept` is their share of draws in which the sets of the other images
hold the right class often enough, `coverage` the share of images whose set does, `size` its mean number of classes.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
import torch
from label import label, load

from gta.data import tasks
from gta.files import write_atomically
from gta.label.abstention import set_bound, threshold
from gta.label.trust import doubts
from gta.labels import answer
from measuring import begun, place, stamped

CASES = (("digits", "none"), ("aviary", "fieldguide"))
REVIEWED, RISKS, DRAWS = (20, 35, 50, 100), (0.1, 0.2, 0.3), 200


def main() -> None:
    smoke = begun(__doc__).smoke
    torch.set_num_threads(1)
    rows = []
    for (name, llm), seed in product(CASES, range(1 if smoke else 5)):
        task = load(name, seed)
        z = label(task, list(task.images), task.class_names, seed, llm, {"iterations": 2} if smoke else {}).assignments
        truth = torch.as_tensor(tasks.query_labels(task.source))  # a reviewer says it of the images that are drawn, the rest is scored
        for row in draws(z, truth, seed, 5 if smoke else DRAWS):
            rows.append({"setting": f"{name}, llm {llm}", "seed": seed, **row})
        print(f"{name} {seed}", flush=True)
    frame = pd.DataFrame(rows)
    key = ["setting", "measure", "reviewed", "risk_wanted"]
    frame = frame.groupby(key, sort=False).mean(numeric_only=True).drop(columns="seed").round(3).reset_index()
    print(frame.round(1).to_string(index=False))
    write_atomically(place("abstention", smoke), stamped(frame).to_csv(index=False))


def draws(z: torch.Tensor, truth: torch.Tensor, seed: int, count: int) -> Iterator[dict]:
    """A row for each draw, number of reviewed images, risk and way. z: (N, M); truth: int (N,)."""
    scores, wrong, labels, of_all = -doubts(z).numpy(), (answer(z) != truth).numpy(), truth.numpy(), z.double().numpy()
    for number, reviewed in product(range(count), REVIEWED):
        rng = np.random.default_rng([seed, number, reviewed])
        seen = rng.choice(len(scores), reviewed, replace=False)
        rest = np.setdiff1d(np.arange(len(scores)), seen)
        for risk in RISKS:
            point = threshold(scores, seen, wrong[seen], risk)
            chosen = {"tested": point and point.threshold, "naive": naive(scores[seen], wrong[seen], risk), "confidence": -risk}
            for way, least in chosen.items():
                accepted = scores[rest] >= (np.inf if least is None else least)
                yield {"measure": way, "reviewed": reviewed, "risk_wanted": risk, **of_threshold(accepted, wrong[rest], risk)}
            bound = set_bound(of_all[seen, labels[seen]], risk)
            sets = of_all[rest] >= (0 if bound is None else bound)
            held = 100 * float(sets[np.arange(len(rest)), labels[rest]].mean())
            kept = {"kept": 100.0 * (held >= 100 * (1 - risk)), "coverage": held, "size": float(sets.sum(1).mean())}
            yield {"measure": "sets", "reviewed": reviewed, "risk_wanted": risk, **kept}


def of_threshold(accepted: np.ndarray, wrong: np.ndarray, risk: float) -> dict[str, float]:
    """The measures of a draw, NaN for those that need an accepted image."""
    any_accepted, coverage = bool(accepted.any()), 100 * float(accepted.mean())
    realised = float(wrong[accepted].mean()) if any_accepted else 0.0
    where = {"where": coverage, "risk": 100 * realised} if any_accepted else {"where": np.nan, "risk": np.nan}
    return {"accepts": 100.0 * any_accepted, "kept": 100.0 * (realised <= risk), "coverage": coverage, **where}


def naive(scores: np.ndarray, wrong: np.ndarray, risk: float) -> float | None:
    """The lowest score of a reviewed image at and above which no more of them are wrong than wanted."""
    order = np.argsort(-scores, kind="stable")
    fit = np.flatnonzero(wrong[order].cumsum() <= risk * np.arange(1, len(order) + 1))
    return float(scores[order][fit[-1]]) if len(fit) else None


if __name__ == "__main__":
    main()
