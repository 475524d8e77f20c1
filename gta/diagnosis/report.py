"""Write a diagnosis: `diagnosis.csv`, a line for each image, and `diagnosis.html`, which says where to look first.

The page keeps the rules of the report of `gta label`: one file with its pictures, no script, nothing loaded, every name escaped.
"""

import os
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import jinja2
import numpy as np
from sklearn.metrics import roc_auc_score

from gta.diagnosis.folder import CHANCE, Diagnosis, Found
from gta.diagnosis.slices import rate_interval
from gta.files import write_atomically
from gta.label.report import Picture, shown, thumbnail
from gta.label.tables import table

COLUMNS = ("path", "label", "truth", "predicted_failure", "low", "high", "slices")
FIRST = 48  # pictures of the images that are predicted to fail most
EACH = 12  # pictures of a slice, of each kind
WORST = 0.1  # of the checked images, those that are predicted to fail most
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True)
TEMPLATES.filters["shown"] = shown


def write(diagnosis: Diagnosis, out: Path) -> dict[str, Path]:
    """Write both files, each whole or not at all. Returns {name: file}."""
    made = {"diagnosis.csv": lines(diagnosis), "diagnosis.html": page(diagnosis, out)}
    for name, text in made.items():
        write_atomically(out / name, text)
    return {name: out / name for name in made}


def lines(diagnosis: Diagnosis) -> str:
    """CSV: path, label, truth (empty where not known), the predicted chance to be wrong, its interval (empty where the truth is known), and
    the slices that are no chance. Images whose truth is not known come first, the likeliest to be wrong on top."""
    within: dict[int, list[str]] = {}
    for found in diagnosis.told:
        for row in (*found.slice.members.tolist(), *found.rest.tolist()):
            within.setdefault(row, []).append(str(found))
    rows, answers, guess = [], diagnosis.answers, diagnosis.predicted
    for i in np.argsort(-guess.loss, kind="stable"):
        row = int(diagnosis.others[i])
        told = [f"{value[i]:.4f}" for value in (guess.loss, guess.low, guess.high)]
        rows.append([answers.names[row], answers.labels[row], "", *told, "; ".join(within.get(row, []))])
    for i in np.argsort(-diagnosis.checked, kind="stable"):
        row = int(diagnosis.sample[i])
        chance = f"{diagnosis.checked[i]:.4f}"
        rows.append([answers.names[row], answers.labels[row], answers.truth[row], chance, "", "", "; ".join(within.get(row, []))])
    return table(COLUMNS, rows)


def page(diagnosis: Diagnosis, out: Path) -> str:
    """The page as HTML. out: its folder, which links to images are relative to."""
    wrong, guess = diagnosis.wrong, diagnosis.predicted
    order = np.argsort(-guess.loss, kind="stable")
    return TEMPLATES.get_template("diagnosis.html.j2").render(
        images=len(diagnosis.answers.names),
        sample=len(wrong),
        wrong=int(wrong.sum()),
        rate=_percent(wrong.mean(), *rate_interval(wrong.astype(float), 1)),
        others=len(order),
        expected=round(float(wrong.mean()) * len(order)),
        worst=_worst(diagnosis),
        first=_pictures(diagnosis, out, diagnosis.others[order[:FIRST]]),
        slices=[_slice(diagnosis, out, found) for found in diagnosis.told],
        chance=[found for found in diagnosis.slices if found.slice.p > CHANCE],
        texts=diagnosis.texts,
        size=diagnosis.images.pixels.shape[-1],
    )


def _worst(diagnosis: Diagnosis) -> dict:
    """How well the order of the checked images fits: of the tenth that is predicted to fail most, how many are wrong; and AUROC, also
    that of the labeller's own doubt if it tells one."""
    count, doubt = max(1, round(WORST * len(diagnosis.wrong))), diagnosis.answers.doubt
    top = np.argsort(-diagnosis.checked, kind="stable")[:count]
    told = {"count": count, "wrong": int(diagnosis.wrong[top].sum()), "auroc": roc_auc_score(diagnosis.wrong, diagnosis.checked)}
    return told | {"doubt": None if doubt is None else roc_auc_score(diagnosis.wrong, doubt[diagnosis.sample])}


def _slice(diagnosis: Diagnosis, out: Path, found: Found) -> dict:
    """A slice for the page: the numbers, its wrong images in the sample, and others to look at."""
    one, missed = found.slice, set(diagnosis.sample[diagnosis.wrong].tolist())
    seen = [row for row in one.members.tolist() if row in missed]
    return {
        "text": one.text,
        "beyond": found.beyond,
        "others": one.others[:3],
        "size": len(one.members),
        "missed": len(seen),
        "wrong_of": f"{100 * one.rate:.0f} %",
        "rate": _percent(one.rate, one.low, one.high),
        "elsewhere": f"{100 * one.rest:.0f} %",
        "p": f"{one.p:.3f}",
        "in_rest": len(found.rest),
        "wrong": _pictures(diagnosis, out, seen[:EACH]),
        "look": _pictures(diagnosis, out, found.rest[:EACH]),
    }


def _pictures(diagnosis: Diagnosis, out: Path, rows: Iterable[int]) -> list[Picture]:
    """Pictures with what is said of them: the truth, or the predicted chance to be wrong with its interval."""
    answers, guess, place = diagnosis.answers, diagnosis.predicted, {int(row): i for i, row in enumerate(diagnosis.others)}
    made = []
    for row in map(int, rows):
        label, i = answers.labels[row], place.get(row)
        notes = [label, f"is {answers.truth[row]}"] if i is None else [label, _percent(guess.loss[i], guess.low[i], guess.high[i])]
        link = urllib.parse.quote(os.fsencode(os.path.relpath(answers.files[row], out)))
        made.append(Picture(thumbnail(diagnosis.images.pixels[row]), link, answers.names[row], notes))
    return made


def _percent(share: float, low: float, high: float) -> str:
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
