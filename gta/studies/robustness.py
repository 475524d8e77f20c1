"""The robustness table: query sets on which transduction may go wrong, each condition in several strengths."""

from collections.abc import Sequence
from shutil import rmtree
from typing import Literal, get_args

import numpy as np

from gta import hashes
from gta.data import tasks
from gta.files import ROOT, shipped
from gta.llm.chat import ChatModel
from gta.scores.rows import Row, write_run
from gta.studies.parameters import RunParameters
from gta.studies.study import Study, write_steps

Condition = Literal["imbalanced", "classes", "small", "unseen"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
SMALL = (20, 50, 100, 300)  # images
RATIOS = (1, 3, 10, 30, 100)  # of the most to the least frequent class
PRESENT = (0.3, 0.5, 0.7, 1.0)  # of the classes
UNSEEN = (0.0, 0.1, 0.3, 0.5)  # of the classes


class Robustness(RunParameters):
    """Parameters of `notebooks/robustness.ipynb`. condition: one of `gta.data.parts`; strengths: of it, [] takes those of the table."""

    condition: Condition
    strengths: list[int]


def names(task: tasks.Task, parameters: Robustness) -> list[str]:
    """The parts of a dataset to run, in the order of their strengths."""
    chosen = parameters.strengths or strengths(parameters.condition, len(task.class_names))
    kept = chosen[:: len(chosen) - 1] if parameters.smoke and len(chosen) > 1 else chosen  # the first and the last
    return [f"{task.source}#{parameters.condition}-{strength}-{parameters.seed}" for strength in kept]


def strengths(condition: Condition, classes: int) -> list[int]:
    """Of a condition, for a dataset of so many classes."""
    of_classes = {"classes": PRESENT, "unseen": UNSEEN}
    if condition in of_classes:
        return [round(share * classes) for share in of_classes[condition]]
    return list({"small": SMALL, "imbalanced": RATIOS}[condition])


def robustness(study: Study, parameters: Robustness) -> list[Study]:
    """CLIP, TransCLIP and GTA-CLIP on each part of the study's dataset: a study a part. Where names say nothing, CLIP and TransCLIP have
    the first attributes too. Raises ValueError for a strength that the dataset is too small for."""
    found = []
    for name in names(study.task, parameters):
        part = tasks.load(name, ROOT / parameters.root)
        print(f"{name}: {len(part.images)} images, {len(part.class_names)} names")
        found.append(study.on(part, ROOT / parameters.store))
        measure(found[-1], study.llm)
    return found


def measure(study: Study, llm: ChatModel) -> None:
    """The three methods, into `study.outcomes`."""
    study.add_first()
    study.add("GTA-CLIP", "", study.run(study.static, llm))


def write(studies: Sequence[Study], parameters: Robustness) -> list[Row]:
    """Score every part and write `rows.csv` and `predictions.npz`; the images of a part are named in `<part>.image_id`, those that count in
    `<part>.counted`. Only here do labels of query images enter, but for the choice of the images that make up a part."""
    source_hash = hashes.source_hash(shipped("notebooks/robustness.ipynb"))
    rows: list[Row] = []
    predictions: dict[str, np.ndarray] = {}
    for study in studies:
        of_part, predicted = study.score(parameters.named_backbone, "robustness", source_hash, parameters.status)
        rows += of_part
        predictions |= {f"{study.task.name}.{key}" if key in ("image_id", "counted") else key: found for key, found in predicted.items()}
    write_steps(studies, parameters)
    write_run(ROOT / parameters.out, rows, predictions)
    if studies[0].checkpoints:
        rmtree(studies[0].checkpoints, ignore_errors=True)
    return rows
