"""`python -m gta distil MODEL IMAGES --student NAME --out DIR`: a student of a kept model, from unlabelled images, in its own folder."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gta.checkpoints import Checkpoints
from gta.distil import choice, students
from gta.distil.choice import OBJECTIVES
from gta.distil.costs import FromPixels, costs
from gta.distil.students import Student
from gta.distil.teachers import Teacher
from gta.distil.trainer import Recipe, train
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.label import labelled, models, portable
from gta.label.inputs import find_images, readable
from gta.names import nearest

STATE, STORE, CARD = "state", "images", "README.md"
HELD_OUT = 0.1  # of the images, on which no student is trained: its card says how often it agrees there


@dataclass(frozen=True)
class Lesson:
    """paths: of images to learn from; soft: float64 (N, M), their labels, rows sum to 1; told: how many are from where, in words."""

    paths: list[Path]
    soft: Tensor
    told: str


def distil(
    model: Path,
    images: Path,
    student: str,
    out: Path,
    *,
    objective: str = "soft",
    recipe: Recipe | None = None,
    device: str | None = None,
    links_to: Path | None = None,
) -> str:
    """Train a student and write it to `out`. Returns what its card says. The same call goes on after an interruption.

    Raises ValueError, with what to change, for unknown names and for folders that are something else, and the errors of its parts.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"--objective {objective!r}{nearest(objective, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}")
    if (out / models.SHAPES).exists() or (out / "predictions.csv").exists():
        raise ValueError(f"--out {out} holds what `python -m gta label` wrote; name another folder for the student")
    recipe, device = recipe or Recipe(), device or ("cuda" if torch.cuda.is_available() else "cpu")
    teacher = Teacher.load(model, device)
    made = students.named(student, teacher, device=device, seed=recipe.seed)
    goal = choice.named(objective, teacher, made, recipe.seed)
    lesson = learn_from(model, images, teacher, out, links_to)
    pixels = load_images(lesson.paths, made.reader, store=out / STORE).pixels
    taught, held = parted(len(pixels), recipe.seed)
    print(f"{lesson.told}; {len(taught):,} to learn from, {len(held):,} held out")
    print(f"{made.name}: {made.parameter_count:,} parameters, {made.size} x {made.size} pixels, on {device}")
    state = Checkpoints(out / STATE)
    train(made, goal, pixels[taught], lesson.soft[taught], recipe, state, identity=f"{objective} {teacher.encoder.weights_sha256}")
    agreed = int((made.label(pixels[held]).argmax(1) == lesson.soft[held].argmax(1)).sum())
    card = write(out, made, teacher, f"`{objective}`, {recipe.epochs} epochs, seed {recipe.seed}", lesson.told, agreed, len(held))
    shutil.rmtree(out / STATE, ignore_errors=True)
    return card


def learn_from(model: Path, images: Path, teacher: Teacher, out: Path, links_to: Path | None = None) -> Lesson:
    """Images with soft labels: those of the run of `label` that kept the model where it had the image, else the teacher's own. An image
    that the run, or a reviewer, left without a label is left out. Raises ValueError where fewer than two images have one."""
    found = find_images(images, out, links_to)
    seen = load_images(found.paths, teacher.encoder, store=out / STORE, skip_bad=True)
    kept, left_out = readable(found, seen)
    for name, reason in left_out:
        print(f"not learnt from: {name!a}: {reason}")
    paths = [found.paths[i] for i in kept]
    said = of_run(model.resolve().parent, teacher.class_names)
    soft = torch.zeros(len(paths), len(teacher.class_names), dtype=torch.float64)
    asked = torch.ones(len(paths), dtype=torch.bool)
    for i, path in enumerate(paths):
        if (z := said.get(os.path.abspath(path))) is not None:
            soft[i], asked[i] = z, False
    if asked.any():
        soft[asked] = teacher.label(seen.pixels[asked], progress=True)
    known = soft.sum(1) > 0
    if known.sum() < 2:
        raise ValueError(f"{images}: {int(known.sum())} images with a label; a student learns from two at least, and better from thousands")
    rows = known.nonzero()[:, 0].tolist()
    by_run, alone = int((known & ~asked).sum()), int(asked.sum())
    told = f"{len(rows):,} images: {by_run:,} labelled by the run of the model, {alone:,} by the model alone"
    return Lesson([paths[i] for i in rows], soft[known], told)


def of_run(folder: Path, class_names: tuple[str, ...]) -> dict[str, Tensor]:
    """{absolute path: z (M,)} of the images that a run of `label` labelled, {} where there was none with these classes.

    `predictions.csv` has the two likeliest classes, with their z; what is left of 1 is spread evenly over the others. The answers of
    reviewers win. z is 0 everywhere for an image without a label.
    """
    try:
        run = labelled.read(folder)
    except FileNotFoundError:
        return {}
    numbers = {name: j for j, name in enumerate(class_names)}
    found = {}
    for row in run.rows:
        z, ranking = torch.zeros(len(class_names), dtype=torch.float64), row.ranking()
        if any(name not in numbers for name, _ in ranking):
            return {}  # the folder was labelled again, with other classes
        if (place := run.places.get(row.path)) is None:
            continue
        if ranking:
            z += max(0.0, 1 - sum(share for _, share in ranking)) / max(1, len(z) - len(ranking))
            for name, share in ranking:
                z[numbers[name]] = share
            z /= z.sum()
        found[os.path.abspath(place)] = z
    return found


def parted(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from, and held-out rows, one at least, by seed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = max(1, round(HELD_OUT * count))
    return order[held:].sort().values, order[:held].sort().values


def write(out: Path, student: Student, teacher: Teacher, how: str, told: str, agreed: int, held: int) -> str:
    """Write the student, its graph and, last, its card. Returns the part of the card that says what it is worth."""
    student.cpu().save(out)
    ours, theirs = costs([student, teacher])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        graph = portable.leave(out, FromPixels(student), student.preprocessing, student.size, student.class_names, students.WEIGHTS)
    finally:
        torch.set_num_threads(before)
    worth = "\n".join(
        [
            "| | teacher | student |",
            "| --- | --- | --- |",
            f"| parameters that label an image | {theirs.parameters:,} | {ours.parameters:,} |",
            f"| weights in float32 | {theirs.megabytes:,.2f} MB | {ours.megabytes:,.2f} MB |",
            f"| an image on one core, torch | {theirs.milliseconds:,.2f} ms | {ours.milliseconds:,.2f} ms |",
            f"| same label as the teacher, of {held:,} held-out images | {held:,} | {agreed:,} ({100 * agreed / held:.1f} %) |",
        ]
    )
    text = f"# {student.name}\n\nA student of `{teacher.encoder.name}` for {len(student.class_names)} classes: {how}, {told}.\n"
    text += "Agreement is with the teacher, which is wrong at times itself; only labelled images tell how often.\n\n"
    text += f"{worth}\n{graph}"
    write_atomically(out / CARD, text)
    return f"{worth}\n{out / CARD}"
