"""Choose the settings of the embedded encoders: `python -m gta.workshop.choose digits` rewrites `choice.csv`.

The choice never uses the reported images. The digits are chosen on synthetic handwriting (the style `hand` of `gta.worlds.glyphs`),
one hand for each encoder. The strength of this style was set once: to the value at which the encoders' label-free measures (cosine
to the nearest neighbour, agreement with it, confidence) are about those on the real handwriting without labels. The aviary
(`choice_aviary.csv`) is chosen on worlds of other species, whose seeds begin at 1000. The grid has learning rates and, for the
aviary, the share of confused pairs that the first iteration asks about. Each cell is one run with each of five encoders. Each iterate
has the accuracy of a run that stops there, because an iteration does not depend on how many follow.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from gta import encoders
from gta.attributes import Bank
from gta.data.tasks import Task, load
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.generate import describe
from gta.llm import prompts
from gta.loop import run
from gta.worlds import aviary
from gta.worlds.fieldguide import language_model
from gta.worlds.glyphs import DIGITS, NAMES, render
from gta.worlds.settings import settings_for

IMAGES = 1200  # of one hand
Validation = tuple[Task, list, torch.Tensor]


def hand_of_digits(seed: int) -> Validation:
    """The task of the digits, synthetic uint8 images (8, 8, 3) of digits in one hand, and their classes."""
    generator = torch.Generator().manual_seed(1000 + seed)
    classes = torch.randint(len(DIGITS), (IMAGES,), generator=generator)
    names = torch.tensor([NAMES.index(name) for name in DIGITS])
    images = list(render(names[classes], "hand", generator, hand=1000 + seed).permute(0, 2, 3, 1).numpy())
    return load("digits"), images, classes


def other_world(seed: int) -> Validation:
    """The task, images and classes of a world that no result uses."""
    task = load(f"aviary:{1000 + seed}")
    return task, list(task.images), torch.from_numpy(aviary.world(1000 + seed).labels("query"))


@dataclass(frozen=True)
class Grid:
    """validation: from the seed of an encoder to a task, images and their classes; rates and shares: every rate is combined with
    every share; iterations: the iterations after which accuracy is recorded; file: where the results go."""

    validation: Callable[[int], Validation]
    rates: tuple[float, ...]
    shares: tuple[float, ...]
    iterations: tuple[int, ...]
    file: Path


HERE = Path(__file__).parent
GRIDS = {
    "digits": Grid(hand_of_digits, (3e-6, 1e-5, 3e-5, 1e-4), (0.05,), (1, 5, 10, 15, 20, 30), HERE / "choice.csv"),
    "aviary": Grid(other_world, (1e-5, 3e-5, 1e-4), (0.05, 0.5), (1, 5, 10, 15), HERE / "choice_aviary.csv"),
}


def accuracies(grid: Grid, seed: int, rate: float, share: float) -> list[dict]:
    """The accuracy of one run, in percent, after each of the grid's iterations."""
    task, images, classes = grid.validation(seed)
    encoder = encoders.load("embedded", seed=seed, embedded=task.embedded)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    changes = {"iterations": max(grid.iterations), "lr": rate, "lr_projection": rate, "pair_share": share, "seed": seed}
    settings = settings_for("embedded", task.name, **changes)
    stored, augment, questions = load_images(images, encoder), task.augmentation(encoder.image_size), prompts.load(task.domain)
    with language_model("fieldguide", 1000 + seed, facts=task.facts) as llm:
        begun = describe(bank, llm, questions)
        result = run(
            encoder, stored, task.class_names, settings, attributes=begun, llm=llm, questions=questions, augment=augment, progress=False
        )
    right = [100 * float((step["labels"] == classes).float().mean()) for step in result.history]
    return [{"rate": rate, "share": share, "iterations": t, "seed": seed, "accuracy": round(right[t - 1], 2)} for t in grid.iterations]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=GRIDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    grid = GRIDS[arguments.dataset]
    cells = product(grid.rates, grid.shares, arguments.seeds)
    frame = pd.DataFrame([row for rate, share, seed in cells for row in accuracies(grid, seed, rate, share)])
    write_atomically(arguments.out or grid.file, frame.to_csv(index=False))
    table = frame.pivot_table(index=["rate", "share"], columns="iterations", values="accuracy")
    print(table.round(2).to_string())
    rate, share, iterations = map(float, table.stack().idxmax())  # type: ignore[arg-type]
    print(f"best mean over seeds: rate {rate:g}, share {share:g}, iterations {iterations:.0f}")
