"""Results: scoring, confidence intervals, rows and their files. Only `gta.scores` reads the labels of query images."""

import hashlib
import platform
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import open_clip
import pandas as pd
import torch
from torch import Tensor

from gta.data import manifests, parts, tasks
from gta.encoders.encoder import Encoder
from gta.files import shipped
from gta.labels import answer, likeliest, tied
from gta.scores import calibration
from gta.scores.rows import Row, paired_gain
from gta.settings import Settings

VERSIONS = f"torch {torch.__version__}; open_clip {open_clip.__version__}"
PUBLISHED = shipped("results/published.csv")
# What is compared with the paper before a run: the name of a method there, and the points that rounding and precision may explain; for
# TransCLIP, which is a check of the solver too, also ties in its graph.
GATES = {"CLIP": ("CLIP", 0.3), "TransCLIP": ("TransCLIP-ZS", 0.5)}


def correct(task_name: str, assignments: Tensor) -> np.ndarray:
    """Which of the images that count are labelled correctly, bool (n_total,): whether the largest entry of z is the true class.

    An image whose class is not among the names cannot be labelled correctly and does not count (`gta.data.parts`, unseen).
    """
    return right(task_name, assignments, tasks.query_labels(task_name))


def right(task_name: str, assignments: Tensor, labels: np.ndarray) -> np.ndarray:
    """`correct` where the true classes, int (N,), are known already."""
    counted = _counted(task_name, assignments, labels)
    return (answer(assignments).numpy() == labels)[counted]


def truth(task_name: str, assignments: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The true classes, int (N,), and which images count, bool (N,). For this room alone."""
    labels = tasks.query_labels(task_name)
    return labels, _counted(task_name, assignments, labels)


def _counted(task_name: str, assignments: Tensor, labels: np.ndarray) -> np.ndarray:
    if len(labels) != len(assignments):
        raise ValueError(f"{len(assignments)} assignments for the {len(labels)} images of {task_name}")
    return labels >= 0


def confusion_matrix(task_name: str, assignments: Tensor) -> np.ndarray:
    """For each class, the sum of z over its images that count, float (M, M): rows are true classes, columns are labels.

    If z is one-hot, an entry is the number of images of that class with that label.
    """
    labels, counted = truth(task_name, assignments)
    found = np.zeros((assignments.shape[1],) * 2)
    np.add.at(found, labels[counted], assignments.numpy()[counted])
    return found


class NotAsPublished(RuntimeError):
    """The accuracy of plain CLIP or TransCLIP is not the paper's, so the data, the encoder or the solver is not the paper's."""


def published_accuracy(task: tasks.Task, encoder_name: str, method: str = "CLIP") -> float | None:
    """The paper's zero-shot accuracy of a method of `GATES` in %, or None if the paper gives none for this encoder or task.

    It is None for a user's own folder, whatever its name, and for a part of a dataset.
    """
    if parts.split(task.source)[1]:
        return None
    called: dict[str, str] = {}
    for weights in manifests.encoders():
        plain = weights.architecture.removesuffix("-quickgelu")
        called |= {name: weights.name for name in (weights.name, f"{weights.architecture} openai", f"{plain} openai")}
    frame = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    cell = {"dataset": task.source.partition("@")[0], "backbone": called.get(encoder_name, ""), "method": GATES[method][0]}
    key = {"table": "zero_shot", **cell}
    found = frame[(frame[list(key)] == pd.Series(key)).all(axis=1)]
    return float(found.accuracy.iloc[0]) if len(found) else None


def gate(task: tasks.Task, encoder_name: str, assignments: Tensor, go_on: bool = False, method: str = "CLIP") -> str | None:
    """Stop a run on a dataset of the paper if the accuracy of a method of `GATES` is not the published one.

    assignments: (N, M), the method's, from one template text for each class. The function is in this module because it reads the labels
    of query images. It can stop a run, but it chooses nothing, and no result depends on it. Returns a sentence to print, or None if the
    paper gives no accuracy. Raises NotAsPublished, with the usual causes, if the two differ by more than the tolerance and `go_on` is
    False.
    """
    expected, tolerance = published_accuracy(task, encoder_name, method), GATES[method][1]
    if expected is None:
        return None
    accuracy = 100 * correct(task.source, assignments).mean()
    plain = "plain CLIP" if method == "CLIP" else method
    told = f"{plain}, {encoder_name} on {task.name}: {accuracy:.2f} % here, {expected:.2f} % published ({accuracy - expected:+.2f} points)"
    # The published accuracy has two decimals. A difference of exactly the tolerance must not stop the run because of that rounding.
    if abs(accuracy - expected) <= tolerance + 0.005 or go_on:
        return told
    usual = "\n".join(f"  {cause:13}{what}" for cause, what in _causes(task, method).items())
    raise NotAsPublished(f"{told}\nMore than {tolerance} points. The usual causes:\n{usual}\n`go_on` runs all the same.")


def _causes(task: tasks.Task, method: str) -> dict[str, str]:
    """What to look at, most likely first."""
    manifest = manifests.dataset(task.name)
    names = sum(a != b for a, b in zip(task.class_names, manifest.class_names, strict=False))
    backbones = " or ".join(weights.name for weights in manifests.encoders())
    images = {"split": f"{len(task.images):,} images here, {manifest.splits.test:,} in the paper: `python -m gta data verify {task.name}`"}
    texts = {
        "template": f"{task.template!r} here, {manifest.template!r} in the paper",
        "class names": f"{names} of {len(task.class_names)} are not the paper's, or not in its order",
    }
    if method != "CLIP":  # which has passed its own gate: what labels images jointly is left
        solver = "a change in gta/transduct/ or gta/affinity.py: `make test` compares them with the reference"
        return {**images, "precision": "float16 or bfloat16 features change who is whose neighbour", "solver": solver, **texts}
    weights = "not OpenAI's of this size: `python -m gta doctor` says which are there"
    activation = f"QuickGELU is built for the backbone {backbones}, GELU for open_clip's plain names"
    return {"weights": weights, "activation": activation, **images, **texts}


def _device(encoder: Encoder) -> str:
    """What a row says of the machine."""
    cpu = f"cpu {platform.machine()}, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name() if encoder.device.type == "cuda" else cpu


def measure(
    table: str,
    task: tasks.Task,
    backbone: str,
    encoder: Encoder,
    settings: Settings,
    outcomes: Mapping,
    drawn: Collection[tuple[str, str]],
    source_hash: str,
    status: str = "done",
    shots: int = 0,
    llm: str = "",
    preset: str = "",
    calls: Mapping[tuple[str, str], Sequence[Tensor]] = MappingProxyType({}),
    second: str = "",
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Score outcomes, a mapping from (method, variant) to (assignments, seconds, the key of the baseline). llm: the text that
    `gta.llm.prompts.Prompts.asked_of` returns. calls: the labels (N,) of each transduction of a run, from which `oracle_best` is.

    Returns one row for each outcome, and the per-image predictions of all: image_id (N,), and for each run_id the five most probable
    classes, `<run_id>.top5` (N, 5), their z, `<run_id>.z` (N, 5), and `<run_id>.correct` (n_total,). If some images do not count,
    `counted` (N,) says which do.
    """
    rows, predictions = [], {"image_id": np.array(task.image_ids)}
    labels = tasks.query_labels(task.source)
    counted = labels >= 0
    if not counted.all():
        predictions["counted"] = counted
    weights = [encoder.weights_sha256, *([second] if second else [])]
    settled = {
        "table": table,
        "dataset": task.name,
        "backbone": backbone,
        "seed": settings.seed,
        "draw": settings.draw,
        "shots": shots,
        "device": _device(encoder),
        "versions": VERSIONS,
        "weights": " + ".join(sha256[:12] for sha256 in weights),
        "llm": llm,
        "source_hash": source_hash,
        "status": status,
        "preset": preset,
    }
    scored = {key: right(task.source, assignments, labels) for key, (assignments, _, _) in outcomes.items()}
    for (method, variant), (assignments, seconds, baseline) in outcomes.items():
        if (method, variant) not in drawn:  # draws nothing, and was measured with draw 0: here it is only compared with
            continue
        identity = [table, task.name, backbone, "+".join(weights), llm, preset, method, variant, settings.digest, str(shots)]
        run_id = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
        hits = scored[method, variant]
        gain, low, high = paired_gain(hits, scored[baseline])
        iterates = [(of.numpy() == labels)[counted].mean() for of in calls.get((method, variant), ())]
        points = {"gain": gain, "gain_low": low, "gain_high": high, "accuracy": 100 * hits.mean()}
        points |= calibration.measures(assignments.numpy()[counted], labels[counted], hits)
        sizes = torch.bincount(answer(assignments), minlength=assignments.shape[1])
        points["largest"] = 100 * float(sizes.max()) / len(assignments)
        rows.append(
            Row(
                ties=int(tied(assignments).sum()),
                empty=int((sizes == 0).sum()),
                **settled,
                **{key: round(float(value), 4) for key, value in points.items()},
                run_id=run_id,
                oracle_best=round(100 * float(max(iterates)), 4) if iterates else None,
                method=method,
                variant=variant,
                baseline=", ".join(filter(None, baseline)),
                n_correct=int(hits.sum()),
                n_total=len(hits),
                seconds=round(seconds, 3),
            )
        )
        top = likeliest(assignments, 5)
        predictions |= {
            f"{run_id}.top5": top.numpy().astype(np.int32),
            f"{run_id}.z": assignments.gather(1, top).numpy(),
            f"{run_id}.correct": hits,
        }
    return rows, predictions
