"""Choose the embedded settings on imagined hands: `python -m gta.embedded.choose` rewrites `choice.csv`.

Digits in imagined hands (`gta.embedded.glyphs`), one for each encoder, stand in for handwriting, so that no setting is
taken from the handwritten digits. The strength of a hand's habits was set, once, to where the encoders' label-free
measures (cosine to the nearest neighbour, agreement with it, confidence) are about those on the unlabelled handwriting.
A grid of learning rates, five encoders, one run of 30 iterations each; the accuracy of every iterate is that of a shorter
run, since an iteration does not know how many follow.
"""

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from gta import encoders, experiments
from gta.attributes import Bank
from gta.embedded.glyphs import DIGITS, NAMES, render
from gta.files import write_atomically
from gta.generate import describe
from gta.images import load_images
from gta.loop import run
from gta.tasks import glyph_augmentation, load

RATES = (3e-6, 1e-5, 3e-5, 1e-4)
ITERATIONS = (1, 5, 10, 15, 20, 30)
IMAGES = 1200


def hand_of_digits(seed: int) -> tuple[list, torch.Tensor]:
    """uint8 images (8, 8, 3) of digits in one hand, and their classes."""
    generator = torch.Generator().manual_seed(1000 + seed)
    classes = torch.randint(len(DIGITS), (IMAGES,), generator=generator)
    names = torch.tensor([NAMES.index(name) for name in DIGITS])
    return list(render(names[classes], "hand", generator, hand=1000 + seed).permute(0, 2, 3, 1).numpy()), classes


def accuracies(seed: int, rate: float) -> list[dict]:
    """One run's accuracy after each of `ITERATIONS`."""
    hand, classes = hand_of_digits(seed)
    encoder = encoders.load("embedded", seed=seed)
    task = load("digits")  # for its names and sentences
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    settings = experiments.settings_for("embedded", iterations=max(ITERATIONS), lr=rate, lr_projection=rate, seed=seed)
    images = load_images(hand, encoder)
    with experiments.language_model("fieldguide", 1000 + seed) as llm:
        result = run(
            encoder, images, DIGITS, settings, attributes=describe(bank, llm), llm=llm, augment=glyph_augmentation(32), progress=False
        )
    right = [100 * float((step["labels"] == classes).float().mean()) for step in result.history]
    return [{"rate": rate, "iterations": t, "seed": seed, "accuracy": round(right[t - 1], 2)} for t in ITERATIONS]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("choice.csv"))
    arguments = parser.parse_args()
    frame = pd.DataFrame([row for rate, seed in product(RATES, arguments.seeds) for row in accuracies(seed, rate)])
    write_atomically(arguments.out, frame.to_csv(index=False))
    table = frame.pivot_table(index="rate", columns="iterations", values="accuracy")
    print(table.round(2).to_string())
    rate, iterations = map(float, table.stack().idxmax())  # type: ignore[arg-type]
    print(f"best mean over seeds: rate {rate:g}, iterations {iterations:.0f}")
