"""Choose the embedded settings, never on what is reported: `python -m gta.workshop.choose digits` rewrites `choice.csv`.

For the digits, synthetic handwriting stands in for handwriting: one `hand` (`gta.worlds.glyphs`) for each encoder. The strength of a
hand's habits was set, once, to where the encoders' label-free measures (cosine to the nearest neighbour, agreement with it,
confidence) are about those on the unlabelled handwriting. For the aviary (`choice_aviary.csv`) it is worlds of other species,
whose seeds begin at 1000.

The rule, which was written down before a run was looked at:
1. A cell is a learning rate, a number of confident images of each class and a number of iterations. Every cell is run with five
   encoders and two draws; `no adapt` is a cell too.
2. The accuracy of a cell is the mean over encoders and draws, then the mean with its neighbours in rate and iterations: one lucky
   cell among bad ones is not taken.
3. A draw must not decide: only cells count whose standard deviation between draws of one encoder is at most 0.5 points.
4. Of these, the cell with the highest accuracy is chosen, and `no adapt` where that is higher. The tables then still show the best
   cell that adapts as GTA-CLIP, with `no adapt` beside it.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gta import encoders, loop
from gta.attributes import Bank
from gta.data.tasks import Task, load
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.generate import describe
from gta.llm import prompts
from gta.state import Result
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
    """validation: by the seed of an encoder, a task, images and their classes; rates (0: no adapt), and confident images of each class:
    all are combined; iterations: the most; file: of the results."""

    validation: Callable[[int], Validation]
    rates: tuple[float, ...]
    confident: tuple[int, ...]
    iterations: int
    file: Path


HERE = Path(__file__).parent
GRIDS = {
    "digits": Grid(hand_of_digits, (0, 1e-5, 3e-5, 1e-4), (8, 32), 5, HERE / "choice.csv"),
    "aviary": Grid(other_world, (0, 1e-5, 3e-5), (8,), 5, HERE / "choice_aviary.csv"),
}
DRAWS = (0, 1)  # of views, texts and batches, for each encoder or draw of images
SPREAD = 0.5  # points between draws that a cell may have
CELL = ["rate", "confident", "iterations"]


def accuracies(grid: Grid, seed: int) -> Iterator[dict]:
    """With one encoder, the accuracy after each iteration: an iteration does not know how many follow."""
    task, images, classes = grid.validation(seed)
    encoder = encoders.load("embedded", seed=seed, embedded=task.embedded)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    stored, augment, questions = load_images(images, encoder), task.augmentation(encoder.image_size), prompts.load(task.domain)
    options: dict[str, Any] = {"questions": questions, "augment": augment, "progress": False}
    options["features"] = encoder.encode_images(stored.pixels)
    with language_model("fieldguide", 1000 + seed, facts=task.facts) as llm:
        options |= {"attributes": describe(bank, llm, questions), "llm": llm}

        def run(changes: dict[str, Any]) -> Result:
            return loop.run(encoder, stored, task.class_names, settings_for("embedded", task.name, **changes), **options)

        yield from tried(grid.rates, grid.confident, grid.iterations, seed, run, lambda labels: labels == classes)


def tried(
    rates: Sequence[float],
    confident: Sequence[int],
    iterations: int,
    seed: int,
    run: Callable[[dict[str, Any]], Result],
    right: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[dict[str, Any]]:
    """The accuracy in % of each cell after each iteration. run: the method, given what changes of its settings; right: of labels (N,),
    which are correct, (N,). Without adapt there is one cell, and a draw changes nothing."""
    for rate, count in product(rates, confident):
        if rate == 0 and count != confident[0]:
            continue
        for draw in DRAWS if rate else DRAWS[:1]:
            changes: dict[str, Any] = {"iterations": iterations, "confident": count, "adapt": rate > 0, "seed": seed, "draw": draw}
            changes |= {"lr": rate, "lr_projection": rate} if rate else {}
            for t, step in enumerate(run(changes).history, start=1):
                accuracy = round(100 * float(right(step["labels"]).double().mean()), 2)
                yield {"rate": rate, "confident": count, "iterations": t, "seed": seed, "draw": draw, "accuracy": accuracy}


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells in the order of the rule, the best first: `accuracy` after smoothing, `spread` between draws, and whether it `counts`."""
    frame = frame[(frame.rate == 0) | (frame.iterations > 1)]  # the first iterate has not adapted yet
    mean = frame.groupby([*CELL, "seed"]).accuracy.mean().groupby(CELL).mean()
    spread = frame.groupby([*CELL, "seed"]).accuracy.var().groupby(CELL).mean() ** 0.5
    cells = []
    for (rate, confident, t), raw in zip(mean.index.to_list(), mean, strict=True):
        rates = sorted({r for r, c, _ in mean.index if c == confident and r > 0}) if rate else [0]
        beside = rates[max(0, rates.index(rate) - 1) : rates.index(rate) + 2]
        around = [key for key in product(beside, [confident], (t - 1, t, t + 1)) if key in mean.index]
        cell: dict[str, Any] = {"rate": rate, "confident": confident, "iterations": t, "alone": raw}
        cells.append(cell | {"accuracy": mean[around].mean(), "spread": spread[rate, confident, t] if rate else 0.0})
    table = pd.DataFrame(cells)
    table["counts"] = table.spread <= SPREAD
    return table.sort_values(["counts", "accuracy"], ascending=False, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.workshop.choose", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=GRIDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    grid = GRIDS[arguments.dataset]
    file, rows = arguments.out or grid.file, []
    for seed in arguments.seeds:
        for row in accuracies(grid, seed):
            rows.append(row)
        write_atomically(file, pd.DataFrame(rows).to_csv(index=False))
        print(f"encoder {seed} is done", flush=True)
    table = chosen(pd.DataFrame(rows))
    print(table.round(2).head(12).to_string(index=False))
    print("the best cell that adapts:", table[table.rate > 0].iloc[0][CELL].to_dict())


if __name__ == "__main__":
    main()
