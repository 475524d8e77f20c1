"""Write the results of a run to the user's folder: labels, files without a label, attributes, the page and the model."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gta.files import write_atomically
from gta.label import models, report
from gta.label.jobs import Job
from gta.label.models import Classifier
from gta.label.run import Outcome
from gta.labels import answer, likeliest

COLUMNS = ("path", "label", "confidence", "runner_up", "margin", "clip", "unfitness")


def write(job: Job, outcome: Outcome) -> dict[str, Path]:
    """Write the results to the folder, the labels first. Each file is complete or absent. Returns {name of the result: file}. Raises
    RuntimeError, with what is written already, where one cannot be written."""
    result, reject = outcome.result, job.options.reject_above
    labels = predictions(outcome.names, outcome.classifier, result.assignments, outcome.clip, outcome.unfitness, reject)
    writers: dict[str, Callable[[Path], None]] = {
        "predictions.csv": lambda file: write_atomically(file, labels),
        "left_out.csv": lambda file: write_atomically(file, table(("path", "reason"), outcome.left_out)),
        "attributes.json": lambda file: write_atomically(file, result.attributes.to_json()),
        "report.html": lambda file: write_atomically(file, report.render(job, outcome)),
    }
    if job.options.save_model:
        card = report.card(job, outcome)
        writers["model"] = lambda folder: models.save(folder, result.encoder, outcome.classifier, result.attributes, card)
    written: dict[str, Path] = {}
    for name, write_to in writers.items():
        try:
            write_to(job.out / name)
        except (OSError, ValueError) as error:
            there = f"{', '.join(written) or 'no other result'} in {job.out}"
            raise RuntimeError(
                f"{name} cannot be written: {error}. Kept: {there}, and the run, from which the same command goes on"
            ) from error
        written[name] = job.out / name
    return written


def predictions(
    names: list[str], classifier: Classifier, z: Tensor, clip: Tensor | None, unfitness: Tensor, reject_above: float | None = None
) -> str:
    """CSV with one line for each image: path, label, confidence (the largest z), runner_up, margin to it, CLIP's own label, unfitness.

    The label is empty if the unfitness is above `reject_above`. If `clip` is None, there is no column for it.
    """
    classes = classifier.class_names
    top, plain = likeliest(z, 2), None if clip is None else answer(clip)
    rows = []
    for i, name in enumerate(names):
        first, *second = top[i].tolist()
        confidence, rest = float(z[i, first]), float(z[i, second[0]]) if second else 0.0
        label = "" if reject_above is not None and float(unfitness[i]) > reject_above else classes[first]
        row = [name, label, f"{confidence:.4f}", classes[second[0]] if second else "", f"{abs(confidence - rest):.4f}"]
        rows.append([*row, *([] if plain is None else [classes[int(plain[i])]]), f"{float(unfitness[i]):.4f}"])
    return table([column for column in COLUMNS if clip is not None or column != "clip"], rows)


def table(columns, rows) -> str:
    """CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()
