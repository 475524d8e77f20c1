"""How far the labels of a run can be trusted: what reviewers said of some images, and what follows for the rest (`abstention`).

Reviewed images come from the `reviews.csv` of `gta.label.answers`, or from any CSV with the columns path,label. Only images that were
chosen at random count: those that were chosen for being uncertain are wrong more often than the rest. A label is right if every reviewer of
the image gave it; an image that a reviewer is unsure about counts as wrong, since to leave it out would flatter. Without any review, all
that is said is that scores are not calibrated. What was measured elsewhere is told only of the very weights and data it was measured on.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gta.files import shipped
from gta.label import answers, tables
from gta.label.abstention import Point, at_least, at_most, curve, needed, set_bound, set_rank, share_of_sets, threshold
from gta.label.answers import COLUMNS, NONE, TAKEN_BACK, UNSURE, Answer, of_reviewers
from gta.labels import SparseZ, Z, answer, rest_of, rows_of, share_of, values_of
from gta.names import nearest

RANDOM = "random"  # in the column `chosen_by`
SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))  # of the curve on the page
MOST = 20  # classes in a set, on average: larger ones are not written
UNCALIBRATED = "confidence is not calibrated: nobody has reviewed a random part of these images"
REVIEW = "20 to 50 drawn at random say how far it can be trusted: `python -m gta review OUT --by random`, or --reviewed FILE (path,label)"


@dataclass(frozen=True)
class Trust:
    """What reviews say. doubt: labels with this doubt or less are accepted, None for none; bound: the smallest z of a class in the set of
    an image, None without sets; curve: points for the page, none without reviews, whose thresholds are on minus the doubt; told:
    sentences for the page and the command."""

    told: tuple[str, ...]
    doubt: float | None = None
    bound: float | None = None
    curve: tuple[Point, ...] = ()

    def accepts(self, label: str, doubt: float) -> str:
        """`yes` or `no` for a label, "" of an image that was rejected, and its doubt."""
        return "yes" if label and self.doubt is not None and doubt <= self.doubt else "no"


UNKNOWN = Trust((UNCALIBRATED, REVIEW))


def read_reviews(file: Path, class_names: Sequence[str]) -> list[Answer]:
    """The answers of a file of `gta.label.answers`, or of any CSV with the columns path,label. Raises ValueError, with the line, for a
    label that is no class and none of the words of `gta.label.answers`, and for a missing column."""
    known = {*class_names, NONE, UNSURE, TAKEN_BACK}
    given, rows = tables.read(file, ("path", "label"))
    found = [(f"{file}, line {line}", _answer(row)) for line, row in rows]
    if tuple(given) == COLUMNS:  # written line by line, so that the last one may be torn
        found = [(str(file), review) for review in answers.read(file)]
    for where, review in found:
        if review.label not in known:
            raise ValueError(f"{where}: no class {review.label!r}{nearest(review.label, class_names)}")
    return [review for _, review in found]


def _answer(row: dict[str, str | None]) -> Answer:
    """A line of any CSV; what it does not say is empty."""
    given = {name: row.get(name) or "" for name in COLUMNS}
    return Answer(**{**given, "label": " ".join(given["label"].split())})


def judge(
    reviews: Sequence[Answer], class_names: Sequence[str], names: Sequence[str], z: Z, labelled: Sequence[bool], risk: float
) -> Trust:
    """What reviews say of labels. names: of the images (N,), as `predictions.csv` has them; z: (N, M); labelled: whether an image has a
    label, which one that fits no class has not; risk: the wanted share of wrong labels among those accepted."""
    rows = {name: i for i, name in enumerate(names) if labelled[i]}
    last = of_reviewers(reviews).values()
    drawn = [review for review in last if review.chosen_by in ("", RANDOM)]
    here = [review for review in drawn if review.path in rows]
    said: dict[str, set[str]] = {}
    for review in here:
        said.setdefault(review.path, set()).add(review.label)
    told = [*_left_out(last, drawn, here), *_unmarked(here)]
    if not said:
        return Trust((*UNKNOWN.told, *told))
    reviewed = np.array([rows[path] for path in said])
    of_reviewed = rows_of(z, reviewed.tolist())
    labels = answer(of_reviewed).tolist()
    wrong = np.array([said_of != {class_names[label]} for said_of, label in zip(said.values(), labels, strict=True)])
    scores = -doubts(z).numpy()[np.array(labelled)]
    place = np.cumsum(labelled) - 1  # of a labelled image among the labelled ones
    of_all = scores, place[reviewed], wrong
    chosen = threshold(*of_all, risk)
    number = {name: j for j, name in enumerate(class_names)}
    truth = [number.get(min(of), -1) if len(of) == 1 else -1 for of in said.values()]
    known = torch.tensor(truth)
    z_of_truth = share_of(of_reviewed, known.clamp_min(0)[:, None])[:, 0].where(known >= 0, 0)
    bound, on_sets = _sets(z_of_truth.double().numpy(), z, risk)
    overall = _overall(len(wrong), int(wrong.sum()))
    sentences = (overall, _accepted(chosen, len(wrong), risk), *on_sets, *told)
    return Trust(sentences, None if chosen is None else -chosen.threshold, bound, tuple(curve(*of_all, SHARES)))


def doubts(z: Z) -> Tensor:
    """What is not given to the label of each image, the sum of z over the other classes, float64 (N,). It is 1 - confidence, and parts
    the many images whose confidence is 1 to all digits that are written. z: (N, M)."""
    values = values_of(z)
    return values.scatter(1, answer(values)[:, None], 0).sum(1, dtype=torch.float64) + rest_of(z)


def sets_of(z: Z, bound: float, class_names: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """The classes in the set of each image, with their confidence, the likeliest first. z: (N, M)."""
    for i, values in enumerate(values_of(z)):
        places = (values >= bound).nonzero()[:, 0]
        places = places[values[places].argsort(descending=True, stable=True)]
        classes = z.classes[i, places] if isinstance(z, SparseZ) else places
        yield [(class_names[j], f"{share:.4f}") for j, share in zip(classes.tolist(), values[places].tolist(), strict=True)]


def measured_elsewhere(weights_sha256: str) -> list[str]:
    """What was measured with these very weights on data of this project, a sentence for each dataset; nothing for all other weights."""
    file = shipped("results/tables/calibration.csv")
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["weights"] and weights_sha256.startswith(row["weights"])]
    return [
        f"measured with these weights on the {int(row['n_total']):,} images of {row['dataset']}, and true of no others: "
        f"{float(row['accuracy']):.1f} % of the labels were right, and confidence was {float(row['ece']):.1f} points away from that on "
        "average (results/tables/calibration.csv)"
        for row in rows
        if (row["method"], row["variant"], row["shots"]) == ("GTA-CLIP", "", "0")
    ]


def _left_out(reviews: Iterable[Answer], drawn: Iterable[Answer], here: Iterable[Answer]) -> list[str]:
    told = []
    if chosen := len({review.path for review in reviews} - {review.path for review in drawn}):
        told.append(f"{chosen} reviewed images do not count here: they were not chosen at random, so they are no sample of the rest")
    if gone := len({review.path for review in drawn} - {review.path for review in here}):
        told.append(f"{gone} reviewed images have no label in this run: they were learnt from, rejected, or are not in the folder")
    return told


def _unmarked(here: Iterable[Answer]) -> list[str]:
    """Where the file does not say how images were chosen, what is taken for granted."""
    if not (unmarked := len({review.path for review in here if not review.chosen_by})):
        return []
    return [
        f"{unmarked} reviewed images are taken as drawn at random, which no column chosen_by says; if they were not, none of this holds"
    ]


def _overall(reviewed: int, wrong: int) -> str:
    low, high = (100 * end for end in (at_least(wrong, reviewed), at_most(wrong, reviewed)))
    told = f"of {reviewed} reviewed images {wrong} have a wrong label; of all images it is {low:.0f} to {high:.0f} %"
    return f"{told} (each end holds nine times in ten)"


def _accepted(chosen: Point | None, reviewed: int, risk: float) -> str:
    wanted = f"at most {100 * risk:g} % of them are wrong"
    if chosen is not None:
        seen = f"{chosen.wrong} of {chosen.reviewed} reviewed ones are"
        accepted = (
            f"labels with a doubt (1 - confidence) of {-chosen.threshold:.2g} or less are accepted, {100 * chosen.share:.0f} % of all"
        )
        return f"{accepted}: {wanted}, which nine in ten such reviews get right ({seen})"
    if needed(risk) > reviewed:
        least = f"{needed(risk)} or more are needed, none of them wrong"
        return f"no label is accepted: {reviewed} reviewed images cannot show of any that {wanted}; {least}"
    return f"no label is accepted: these reviews do not show of any that {wanted}; review more at random, or allow a higher --risk"


def _sets(z_of_truth: np.ndarray, z: Z, risk: float) -> tuple[float | None, list[str]]:
    """The bound of sets, and what to tell; None where the reviewed images are too few, or sets would be too large to be of use."""
    n = len(z_of_truth)
    bound = set_bound(z_of_truth, risk)
    if bound is None:
        return None, [] if set_rank(n, risk) else [f"sets of classes need {math.ceil(1 / risk) - 1} reviewed images or more"]
    size = float((values_of(z) >= bound).sum(1).double().mean())
    if size > MOST:
        return None, [f"sets with the right class for {100 * (1 - risk):g} % of the images would hold {size:.0f} classes each: too many"]
    held = (
        f"{100 * (1 - risk):g} % of the images in the mean over such reviews, {100 * share_of_sets(n, risk):.0f} % or more in nine of ten"
    )
    return bound, [f"sets.csv has {size:.1f} classes an image on average; the right one is among them for {held}"]
