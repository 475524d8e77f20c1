"""What `python -m gta label` and `predict` are worth on the embedded benchmark.

    python benchmarks/label.py            # results/benchmarks/label.csv; about fifteen minutes on two cores
    python benchmarks/label.py --smoke    # one seed, two iterations, under runs/smoke

Three parts, a row a measurement, seeds of encoder and split 0 to 2:

inductive   Half of the images, at random, is labelled and a model kept; the other half is then labelled by `predict`. On that
            other half: CLIP; predict; the transduction of that half alone; the transduction of all images. Accuracy in %.
unknowns    Three classes of ten, at random, are not among the class names; all images are labelled. How well a score tells the
            images of unseen classes from the others (AUROC in %), on imagined hands, where the score was chosen, on the handwritten
            digits and in the aviary. `unfitness` is the one in use; the others are the alternatives that were looked at.
command     Seconds of the whole command on 1,797 PNG files in a process of its own, from nothing to the finished report.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import load_images
from gta.files import ROOT, write_atomically
from gta.generate import describe
from gta.label import models
from gta.label.models import Classifier
from gta.loop import Result, run
from gta.workshop.choose import hand_of_digits
from gta.worlds import digits
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for
from measuring import begun, place, stamped

UNSEEN = 0.3  # share of the classes
CASES = (("digits", "none"), ("digits", "fieldguide"), ("aviary", "fieldguide"))


def main() -> None:
    parts = {"nargs": "+", "choices": list(PARTS), "default": list(PARTS), "help": "measure these; others in the file stay"}
    given = begun(__doc__, {"--parts": parts})
    rows = []
    for part in given.parts:
        for row in PARTS[part]((0,) if given.smoke else (0, 1, 2), {"iterations": 2} if given.smoke else {}):
            rows.append({"part": part, **row})
            print(json.dumps(rows[-1]), flush=True)
    file, frame = place("label", given.smoke), stamped(pd.DataFrame(rows))
    if file.exists():
        kept = pd.read_csv(file)
        frame = pd.concat([kept[~kept.part.isin(given.parts)], frame])
    write_atomically(file, frame.to_csv(index=False))
    print(frame.pivot_table(index=["part", "setting", "measure"], values="value").round(1).to_string())


def inductive(seeds: tuple[int, ...], changes: dict) -> Iterator[dict]:
    """Accuracy on the half of the images that the kept model never saw."""
    for (name, llm), seed in product(CASES, seeds):
        task = load(name, seed)
        truth = torch.as_tensor(tasks.query_labels(task.source))  # for scoring alone
        order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
        parts = {"kept": order[: len(order) // 2], "new": order[len(order) // 2 :], "all": order}
        found = {part: label(task, [task.images[i] for i in rows], task.class_names, seed, llm, changes) for part, rows in parts.items()}
        with tempfile.TemporaryDirectory() as folder:  # as a user would: through the files
            result = found["kept"]
            models.save(Path(folder) / "model", result.encoder, Classifier.of(result), result.attributes, "")
            adapted, classifier = models.load(Path(folder) / "model")
            pixels = load_images([task.images[i] for i in parts["new"]], adapted, progress=False).pixels
            z = classifier.label(adapted.encode_images(pixels).cpu())
        measured = {
            "CLIP" if llm == "none" else "CLIP+attributes": found["new"].clip,
            "predict": z,
            "transduct the new images alone": found["new"].assignments,
            "transduct all images": found["all"].assignments[len(parts["kept"]) :],
        }
        for measure, assignments in measured.items():
            value = 100 * float((assignments.argmax(1) == truth[parts["new"]]).float().mean())
            yield {"setting": f"{name}, llm {llm}", "seed": seed, "measure": measure, "value": round(value, 3)}


def unknowns(seeds: tuple[int, ...], changes: dict) -> Iterator[dict]:
    """AUROC of scores for the images of classes that are not among the class names."""
    for (name, llm), seed in product((("hands", "none"), ("digits", "none"), ("aviary", "fieldguide")), seeds):
        task = load(name, seed)
        images, labels = hand_of_digits(seed)[1:] if name == "hands" else (task.images, torch.as_tensor(tasks.query_labels(task.source)))
        classes = range(len(task.class_names))
        unseen = random.Random(seed).sample(classes, round(UNSEEN * len(classes)))
        names = [task.class_names[j] for j in classes if j not in unseen]
        result = label(task, list(images), names, seed, llm, changes)
        new = torch.isin(labels, torch.tensor(unseen)).numpy()
        for measure, score in scores(result).items():
            value = 100 * roc_auc_score(new, score.numpy())
            yield {"setting": f"{name}, llm {llm}", "seed": seed, "measure": measure, "value": round(value, 3)}


def scores(result: Result) -> dict[str, Tensor]:
    """The score in use, and the alternatives: each high where an image fits no class."""
    classifier = Classifier.of(result)
    logits = classifier.logit_scale * result.features @ classifier.texts.T
    distance = ((result.features[:, None] - classifier.prototypes) ** 2 / classifier.variance).sum(2)
    return {
        "unfitness": classifier.unfitness(result.features),
        "energy of the text logits": -logits.logsumexp(1),
        "1 - confidence": 1 - result.assignments.amax(1),
        "1 - CLIP's confidence": 1 - logits.softmax(1).amax(1),
        "distance to the nearest prototype": distance.amin(1),
    }


def command(seeds: tuple[int, ...], changes: dict) -> Iterator[dict]:
    """Seconds of the command as a user types it, with the Hub out of reach."""
    shorter = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    for llm in ("none", "fieldguide"):
        with tempfile.TemporaryDirectory() as folder:
            digits.write(Path(folder))
            words = [
                f"{folder}/images",
                "--classes",
                f"{folder}/classes.txt",
                "--encoder",
                "embedded",
                "--llm",
                llm,
                "--out",
                f"{folder}/out",
            ]
            start = time.perf_counter()
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            subprocess.run(
                [sys.executable, "-m", "gta", "label", *words, *shorter], cwd=ROOT, env=environment, check=True, capture_output=True
            )
            assert (Path(folder) / "out/report.html").exists()
            value = round(time.perf_counter() - start, 1)
        yield {"setting": f"1,797 digits, llm {llm}", "seed": 0, "measure": "seconds", "value": value}


def load(name: str, seed: int) -> tasks.Task:
    return tasks.load(f"aviary:{seed}" if name == "aviary" else "digits")


def label(task: tasks.Task, images: list, names: Sequence[str], seed: int, llm: str, changes: dict) -> Result:
    encoder = encoders.load("embedded", seed=seed, embedded=task.embedded)
    settings = settings_for("embedded", task.name, seed=seed, generate=llm != "none", **changes)
    bank = Bank.from_template(names, task.template, task.sentence)
    options: dict = {"augment": task.augmentation(encoder.image_size), "progress": False}
    if llm == "none":
        return run(encoder, images, names, settings, attributes=bank, **options)
    with language_model(llm, seed, facts=task.facts) as model:
        return run(encoder, images, names, settings, attributes=describe(bank, model), llm=model, **options)


PARTS = {"inductive": inductive, "unknowns": unknowns, "command": command}

if __name__ == "__main__":
    main()
