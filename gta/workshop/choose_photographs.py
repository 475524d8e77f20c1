"""Choose the settings for photographs, never on what is reported: `python -m gta.workshop.choose_photographs FOLDER --encoder FOLDER`.

FOLDER holds a sub-folder of photographs for each class: for `choice_photographs.csv` 1,000 images of CIFAR-10's training split. The rule is
that of `gta.workshop.choose`, with draws of the folder's images, without regard to their classes, in the place of encoders. It was written
down before a run was looked at, and so was this grid: the rates of `RATES`, 8 confident images of each class as in the paper, up to 5
iterations, from the names alone, since every folder has names. The logit scale stays the encoder's own. The range of rates is that of an
earlier trial with another text head, which had seen some of the test images.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from gta import encoders, loop
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.scores import results
from gta.state import Result
from gta.workshop.choose import CELL, chosen, tried
from gta.worlds.settings import settings_for

RATES = (0, 1e-5, 3e-5, 1e-4)  # of all parameters; 0: no adapt
CONFIDENT, ITERATIONS = 8, 5  # images of each class, and the most iterations
FILE = Path(__file__).with_name("choice_photographs.csv")


def accuracies(encoder: Encoder, folder: str, images: int, seed: int) -> Iterator[dict[str, Any]]:
    """On one draw of `images` photographs, the accuracy in % after each iteration of each run; an iteration does not know how many follow.

    The images are encoded once. Raises as `gta.data.tasks.load` does.
    """
    task = tasks.load(f"{folder}#small-{images}-{seed}")
    stored = load_images(task.images, encoder)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    options: dict[str, Any] = {"attributes": bank, "features": encoder.encode_images(stored.pixels), "progress": False}
    options["augment"] = task.augmentation(encoder.image_size)

    def run(changes: dict[str, Any]) -> Result:
        return loop.run(encoder, stored, task.class_names, settings_for(encoder.name, generate=False, **changes), **options)

    def right(labels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(results.correct(task.source, F.one_hot(labels.long(), len(task.class_names)).double()))

    yield from tried(RATES, (CONFIDENT,), ITERATIONS, seed, run, right)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.workshop.choose_photographs", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="with a sub-folder of photographs for each class, none of which is reported")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--images", type=int, default=300, help="of a draw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the draws")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    encoder, rows = encoders.load(arguments.encoder), []
    print(f"{encoder.image_size} pixels, weights {encoder.weights_sha256[:12]}, {torch.get_num_threads()} threads", flush=True)
    for seed in arguments.seeds:
        for row in accuracies(encoder, arguments.folder, arguments.images, seed):
            rows.append(row)
            if row["iterations"] == ITERATIONS:
                write_atomically(arguments.out, pd.DataFrame(rows).to_csv(index=False))
                print(f"images {seed}, rate {row['rate']:g}, draw {row['draw']}: {row['accuracy']:.1f} %", flush=True)
    table = chosen(pd.DataFrame(rows))
    print(table.round({"alone": 2, "accuracy": 2, "spread": 2}).to_string(index=False))
    print("the best cell that adapts:", table[table.rate > 0].iloc[0][CELL].to_dict())


if __name__ == "__main__":
    main()
