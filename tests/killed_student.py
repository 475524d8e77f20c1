"""A distillation to be killed: its checkpoints in `state`, and the hash of the student that comes out in `sha256`."""

import sys
from pathlib import Path

import torch

from gta import encoders
from gta.checkpoints import Checkpoints
from gta.distil import choice, students
from gta.distil.trainer import Recipe, train
from gta.encoders.images import load_images
from gta.worlds import digits
from toy_teachers import teacher


def work(folder: Path) -> None:
    torch.set_num_threads(1)
    encoder = encoders.load("embedded", seed=0, device="cpu")
    taught = teacher(encoder)
    pixels = load_images(list(digits.load("train")[1]), encoder, progress=False).pixels
    student = students.named("teacher/10", taught)
    goal = choice.named("rationales", taught, student)
    train(student, goal, pixels, taught.label(pixels), Recipe(epochs=8, flip=False), Checkpoints(folder / "state"), progress=False)
    (folder / "sha256").write_text(student.sha256, encoding="utf-8")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
