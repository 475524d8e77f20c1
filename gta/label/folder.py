"""Write the results of a run to the user's folder: labels, files without a label, attributes, the page and the model."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from gta.files import write_atomically
from gta.label import issues, kept, models, report
from gta.label.groups import COLUMNS as COLUMNS_OF_GROUPS
from gta.label.jobs import Job
from gta.label.models import Classifier
from gta.label.run import Outcome
from gta.label.tables import table
from gta.label.trust import UNKNOWN, Trust, doubts, sets_of
from gta.labels import Z, answer, likeliest, share_of

SETS = "sets.csv"
GROUPS = "groups.csv"
RANKS = ("rank", "label_at_rank", "confidence_at_rank")
COLUMNS = ("path", "label", "confidence", "runner_up", "margin", "clip", "unfitness")


def write(job: Job, outcome: Outcome, before: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Path]:
    """Write the results to the folder, the labels first. Each file is complete or absent. Returns {name of the result: file}.
    before: lines of an earlier `predictions.csv` by path; those of images that are not labelled now stay, and a review goes on from what
    that run left (`gta.label.kept`); without it from what this one leaves. Raises RuntimeError, with what is written already, where one
    cannot be written."""
    result, reject = outcome.result, job.options.reject_above
    z, trust = result.held, outcome.trust
    labelled = [reject is None or score <= reject for score in outcome.unfitness.tolist()]
    shared = None if outcome.groups is None else outcome.groups.columns(z, labelled, job.classes.names)
    labels = predictions(outcome.names, outcome.classifier, z, outcome.clip, outcome.unfitness, reject, trust, shared)
    if before:
        labels = joined(labels, before)
    writers: dict[str, Callable[[Path], None]] = {
        "predictions.csv": lambda file: write_atomically(file, labels),
        "left_out.csv": lambda file: write_atomically(file, table(("path", "reason"), outcome.left_out)),
        "issues.csv": lambda file: write_atomically(file, issues.listing(outcome.names, outcome.issues)),
        "issue_summary.csv": lambda file: write_atomically(file, issues.summary(outcome.issues)),
        "attributes.json": lambda file: write_atomically(file, result.attributes.to_json()),
        "report.html": lambda file: write_atomically(file, report.render(job, outcome)),
    }
    if outcome.groups is None:
        (job.out / GROUPS).unlink(missing_ok=True)  # of another rule
    else:
        lines = outcome.groups.summary(z, labelled, job.classes.names)
        writers[GROUPS] = lambda file: write_atomically(file, lines)
    if trust.bound is None:
        (job.out / SETS).unlink(missing_ok=True)  # of other reviews
    else:
        of_images = zip(outcome.names, sets_of(z, trust.bound, job.classes.names), strict=True)
        sets = ((name, *line) for name, lines in of_images for line in lines)
        writers[SETS] = lambda file: write_atomically(file, table(("path", "label", "confidence"), sets))
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
    if before is None:
        kept.leave(job, outcome)
    return written


def predictions(
    names: list[str],
    classifier: Classifier,
    z: Z,
    clip: Z | None,
    unfitness: Tensor,
    reject_above: float | None = None,
    trust: Trust = UNKNOWN,
    groups: Sequence[tuple[str, str, str]] | None = None,
) -> str:
    """CSV with one line for each image: path, label, confidence (the largest z), runner_up, margin to it, CLIP's own label, unfitness; with
    a taxonomy what is sure at its rank; with reviews whether the label is accepted; with groups what an image's group says.

    The label is empty if the unfitness is above `reject_above`. If `clip` is None, there is no column for it.
    """
    classes = classifier.class_names
    top, plain = likeliest(z, 2), None if clip is None else answer(clip)
    shares, doubt = share_of(z, top).tolist(), doubts(z).tolist()
    ranks = None if classifier.taxonomy is None else classifier.taxonomy.columns(z)
    rows = []
    for i, name in enumerate(names):
        first, *second = top[i].tolist()
        confidence, rest = [*shares[i], 0.0][:2]
        label = "" if reject_above is not None and float(unfitness[i]) > reject_above else classes[first]
        row = [name, label, f"{confidence:.4f}", classes[second[0]] if second else "", f"{abs(confidence - rest):.4f}"]
        row += [*([] if plain is None else [classes[int(plain[i])]]), f"{float(unfitness[i]):.4f}"]
        row += [] if ranks is None else list(ranks[i] if label else ("", "", ""))
        row += [trust.accepts(label, doubt[i])] if trust.curve else []
        row += [] if groups is None else list(groups[i])
        rows.append(row)
    columns = [column for column in COLUMNS if clip is not None or column != "clip"]
    return table(
        [
            *columns,
            *(RANKS if ranks is not None else ()),
            *(["accepted"] if trust.curve else []),
            *(COLUMNS_OF_GROUPS if groups is not None else ()),
        ],
        rows,
    )


def joined(labels: str, before: Mapping[str, Mapping[str, str]]) -> str:
    """The CSV `labels` with the earlier lines of images that it lacks, in the earlier order."""
    reader = csv.DictReader(io.StringIO(labels, newline=""))
    rows = {**before, **{row["path"]: row for row in reader}}
    columns = reader.fieldnames or ()
    return table(columns, [[row.get(column) or "" for column in columns] for row in rows.values()])
