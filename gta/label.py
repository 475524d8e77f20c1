"""Label a user's own images: the run, and what it leaves in a folder.

Everything that costs time or money is kept there (`state`, `images`, `embeddings`, `ledger`), so that the same call goes on where it
was, and another with more images or one more class pays for what is new alone.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gta import models, prompts
from gta.attributes import Bank
from gta.embeddings import features_of
from gta.endpoint import only_model
from gta.files import write_atomically
from gta.generate import describe
from gta.images import Images, load_images
from gta.inputs import Found, find_images
from gta.jobs import NONE, Job
from gta.ledger import Ledger
from gta.llm import ChatModel, Usage
from gta.loop import Result
from gta.loop import run as run_method
from gta.models import Classifier
from gta.study import language_model
from gta.transduct import text_prior

COLUMNS = ("path", "label", "confidence", "runner_up", "margin", "clip", "unfitness")


@dataclass(frozen=True)
class Outcome:
    """images: the rows of `result`; names, paths: what they are called and where they are; left_out: files without a label, with
    the reason; clip: (N, M), the answer of the untouched encoder from the class names alone; unfitness: (N,), as in
    `gta.unknowns`; classifier: labels new images; usage: what was asked, None where nothing was."""

    result: Result
    images: Images
    names: list[str]
    paths: list[Path]
    left_out: list[tuple[str, str]]
    clip: Tensor
    unfitness: Tensor
    classifier: Classifier
    usage: Usage | None


def run(job: Job, progress: bool = True) -> Outcome:
    """Label all images. The same call goes on where it was. Raises what the encoder, the images and the language model raise."""
    encoder = job.encoder()
    images = load_images(job.found.paths, encoder, store=job.out / "images", skip_bad=True, progress=progress)
    examples = load_images(job.support[0], encoder, store=job.out / "images", progress=progress) if job.support[0] else None
    parts = [images] if examples is None else [images, examples]
    features = torch.cat([features_of(encoder, part, job.out / "embeddings", progress) for part in parts])
    questions = prompts.load(job.classes.domain or "general")
    plain = [encoder.encode_texts(texts).cpu() for texts in job.plain_bank().texts]
    with _language_model(job) as llm:
        bank = job.bank() if job.replayed is None else Bank.load(job.replayed)
        result = run_method(
            encoder,
            images,
            job.classes.names,
            job.settings,
            attributes=bank if llm is None else describe(bank, llm, questions),
            llm=llm,
            questions=questions,
            support=None if examples is None else (examples, torch.tensor(job.support[1])),
            augment=job.augmentation(encoder.image_size),
            features=features,
            checkpoints=job.out / "state",
            progress=progress,
        )
    classifier = Classifier.of(result, lam=1.0 if examples is None else 0.5)
    kept, left_out = _read(job.found, images)
    return Outcome(
        result,
        images,
        [job.found.names[i] for i in kept],
        [job.found.paths[i] for i in kept],
        left_out,
        text_prior(features[: len(images)], plain, encoder.logit_scale),
        classifier.unfitness(result.features),
        classifier,
        getattr(llm, "usage", None),
    )


def write(job: Job, outcome: Outcome) -> dict[str, Path]:
    """The results into the folder, each whole or absent: {what: file}."""
    from gta import report  # after the run: a page needs what a plan does not

    result, reject = outcome.result, job.options.reject_above
    texts = {
        "predictions.csv": predictions(outcome.names, outcome.classifier, result.assignments, outcome.clip, outcome.unfitness, reject),
        "left_out.csv": table(("path", "reason"), outcome.left_out),
        "attributes.json": result.attributes.to_json(),
        "report.html": report.render(job, outcome),
    }
    for name, text in texts.items():
        write_atomically(job.out / name, text)
    if job.options.save_model:
        models.save(job.out / "model", result.encoder, outcome.classifier, result.attributes, report.card(job, outcome))
        return {name: job.out / name for name in (*texts, "model")}
    return {name: job.out / name for name in texts}


def predictions(
    names: list[str], classifier: Classifier, z: Tensor, clip: Tensor | None, unfitness: Tensor, reject_above: float | None = None
) -> str:
    """CSV, a line an image: path, label, confidence (the largest z), runner_up, margin to it, CLIP's own answer, unfitness.

    The label is empty where the unfitness is above `reject_above`; without `clip` that column is left out.
    """
    classes = classifier.class_names
    top = z.topk(min(2, len(classes)), dim=1)
    rows = []
    for i, name in enumerate(names):
        first, *second = top.indices[i].tolist()
        confidence, rest = float(top.values[i, 0]), float(top.values[i, 1]) if second else 0.0
        label = "" if reject_above is not None and float(unfitness[i]) > reject_above else classes[first]
        row = [name, label, f"{confidence:.4f}", classes[second[0]] if second else "", f"{confidence - rest:.4f}"]
        rows.append([*row, *([] if clip is None else [classes[int(clip[i].argmax())]]), f"{float(unfitness[i]):.4f}"])
    return table([column for column in COLUMNS if clip is not None or column != "clip"], rows)


def table(columns, rows) -> str:
    """CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def predict(model: Path, source: Path, device: str | None = None, reject_above: float | None = None) -> tuple[str, list[tuple[str, str]]]:
    """Label new images, each alone, with a model that was kept: the CSV, and what has no label. Raises as its parts do."""
    encoder, classifier = models.load(model, device)
    found = find_images(source)
    images = load_images(found.paths, encoder, skip_bad=True)
    features = encoder.encode_images(images.pixels, progress=True).cpu()
    kept, left_out = _read(found, images)
    names = [found.names[i] for i in kept]
    return predictions(names, classifier, classifier.label(features), None, classifier.unfitness(features), reject_above), left_out


def _read(found: Found, images: Images) -> tuple[list[int], list[tuple[str, str]]]:
    """Which of the images that were found could be read, and every file that has no label, with a reason that says what to do."""
    kept = [i for i in range(len(found.paths)) if i not in images.skipped]
    return kept, [*found.left_out, *((found.names[i], _told(reason)) for i, reason in images.skipped.items())]


def _told(reason: str) -> str:
    """What the image library said, for somebody who does not know it."""
    if "decompression bomb" in reason:
        pixels, limit = (int(number) for number in re.findall(r"\d+", reason)[:2])
        return f"too large: {pixels:,} pixels, more than {limit:,}; save it smaller"
    if reason.startswith("cannot identify image file"):
        return "no image inside: damaged, or of a kind that its suffix does not say; save it anew as PNG or JPEG"
    return reason


@contextmanager
def _language_model(job: Job) -> Iterator[ChatModel | None]:
    if job.options.llm == NONE or job.replayed is not None:
        yield None
        return
    name = job.options.llm
    if name.startswith(("http://", "https://")):
        name = f"{only_model(name)}@{name}"
    with language_model(name, job.options.seed, Ledger(job.out / "ledger"), job.options.max_calls) as llm:
        llm.usage.price = job.options.price
        yield llm
