"""The runs of the distil table: a teacher, a student, every objective with its controls, scored on pictures that no student learnt from.

The teacher is adapted on the unlabelled query pictures, as a user would adapt it. Students learn from another unlabelled pool, with the
teacher's own labels, and none of them is chosen by labels. `settings` of the trainer are the same for all of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from gta import hashes
from gta.distil import choice, students
from gta.distil.costs import Cost, costs
from gta.distil.pools import pool
from gta.distil.rationales import Rationales
from gta.distil.students import Student
from gta.distil.taps import blocks
from gta.distil.teachers import Teacher
from gta.distil.trainer import Recipe, train
from gta.encoders.images import load_images
from gta.files import ROOT, shipped, write_atomically
from gta.peers.descriptions import shuffled
from gta.scores import results
from gta.scores.rows import Row, write_run
from gta.studies.parameters import RunParameters
from gta.studies.study import Key, Study

TABLE, OF_STUDENTS = "distil", "distil_students.csv"
TEACHER, WHOLE = ("teacher", ""), ("GTA-CLIP", "")
SHUFFLED = "shuffled rationales"
VIEWS = 25_600  # pictures that a student sees in all, so that no objective and no number of images has more steps than another
COLUMNS = ("images", "parameters", "megabytes", "milliseconds", "faster", "agreement", "seconds")


class Distil(RunParameters):
    """Parameters of `notebooks/distil.ipynb`. student: as in `gta.distil.students.named`; images: of the pool, in %, and with less than
    all of them only hard labels and rationales are run, as for the paper's curve."""

    student: str
    images: int = Field(100, ge=1, le=100)

    @property
    def views(self) -> int:
        """Pictures that a student sees in all."""
        return VIEWS // 100 if self.smoke else VIEWS


@dataclass
class Distilled:
    """study: its outcomes are scored; drawn: those of them that this run writes; lines: what each of them costs."""

    study: Study
    drawn: list[Key] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """A line for each labeller: images that it learnt from, its cost, how many times faster than the teacher it is, and in % how often
        it gives an image of the query set the teacher's label."""
        return pd.DataFrame(self.lines, columns=["method", "variant", *COLUMNS])


def distil(study: Study, parameters: Distil) -> Distilled:
    """Adapt the teacher and train every student. No label is read. Raises ValueError for a dataset without a pool."""
    images, found = pool(study.task.source), Distilled(study)
    result = study.run(study.static, study.llm, progress=False, checkpoints=None)
    teacher, query = Teacher.of(result), study.images.pixels
    study.add(*WHOLE, result, TEACHER)
    z, seconds = _timed(lambda: teacher.label(query))
    study.outcomes[TEACHER] = (z, seconds, TEACHER)
    soft = teacher.label(load_images(images, teacher.encoder, progress=False).pixels)
    kind = students.named(parameters.student, teacher, seed=parameters.seed)
    pixels = load_images(images, kind.reader, progress=False).pixels
    seen = load_images(study.task.images, kind.reader, progress=False).pixels
    ours, theirs = costs([kind, teacher])
    if parameters.images == 100 and parameters.student == f"{students.SCALED}4":  # once for each teacher
        found.drawn += [WHOLE, TEACHER]
        found.lines.append(_line(TEACHER, 0, theirs, theirs, z, z, seconds))
    kept = max(2, round(len(pixels) * parameters.images / 100))
    recipe = Recipe(max(1, round(parameters.views / kept)), flip=parameters.dataset != "digits", seed=parameters.seed)
    for name, control, make in plan(teacher, parameters.images < 100, parameters.seed):
        student = students.named(parameters.student, teacher, seed=parameters.seed)

        def work(student: Student = student, make: Callable[[Student], nn.Module] = make) -> Tensor:
            train(student, make(student), pixels[:kept], soft[:kept], recipe, progress=False)
            return student.label(seen).double()

        key = name, ", ".join(filter(None, (_called(parameters.student), control, f"{kept} images" if parameters.images < 100 else "")))
        said, taken = _timed(work)
        study.outcomes[key] = (said, taken, TEACHER)
        found.drawn.append(key)
        found.lines.append(_line(key, kept, ours, theirs, said, z, taken))
        print(f"{', '.join(key)}: {found.lines[-1]['agreement']:.1f} % as the teacher, {taken:.0f} s")
    return found


def plan(teacher: Teacher, curve: bool, seed: int) -> list[tuple[str, str, Callable[[Student], nn.Module]]]:
    """(objective, control, how it is made). curve: with fewer images, the paper's comparison alone; TinyBERT needs a transformer."""

    def made(name: str) -> Callable[[Student], nn.Module]:
        return lambda student: choice.named(name, teacher, student, seed)

    names = ["hard", "rationales"] if curve else [name for name in choice.OBJECTIVES if name != "tinybert" or _has_blocks(teacher)]
    of_others = shuffled(teacher.bank, seed)

    def with_others(student: Student) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Rationales(teacher, student, bank=of_others)

    return [*((name, "", made(name)) for name in names), *([] if curve else [("rationales", SHUFFLED, with_others)])]


def _has_blocks(teacher: Teacher) -> bool:
    try:
        return bool(blocks(teacher.encoder.model.visual))
    except ValueError:
        return False


def _called(student: str) -> str:
    """`1/4` for `teacher/4`, another student by its name."""
    return f"1/{student.removeprefix(students.SCALED)}" if student.startswith(students.SCALED) else student


def _line(key: Key, images: int, cost: Cost, theirs: Cost, z: Tensor, of_teacher: Tensor, seconds: float) -> dict[str, Any]:
    agreement = 100 * (z.argmax(1) == of_teacher.argmax(1)).double().mean().item()
    measured = (images, cost.parameters, cost.megabytes, cost.milliseconds, theirs.milliseconds / cost.milliseconds, agreement, seconds)
    return dict(zip(("method", "variant", *COLUMNS), (*key, *measured), strict=True))


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def write(found: Distilled, parameters: Distil) -> list[Row]:
    """Score what this run drew, and write `distil_students.csv`, `rows.csv` and `predictions.npz`. Only here do labels of query images
    enter."""
    study = found.study
    named: dict[str, Any] = {"dataset": study.task.name, "backbone": parameters.named_backbone, "seed": parameters.seed}
    frame = found.table.assign(**named)[[*named, *found.table.columns]]
    write_atomically(ROOT / parameters.out / OF_STUDENTS, frame.to_csv(index=False, float_format="%.6g"))
    made = (study.task, parameters.named_backbone, study.encoder, study.settings, study.outcomes, found.drawn)
    source_hash = hashes.source_hash(shipped(f"notebooks/{TABLE}.ipynb"))
    rows, predictions = results.measure(TABLE, *made, source_hash, parameters.status, llm=study.asked)
    write_run(ROOT / parameters.out, rows, predictions)
    return rows
