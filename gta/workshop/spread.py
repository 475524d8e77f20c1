"""How much the result of adapt varies with the seed that draws its images and texts: `python -m gta.workshop.spread`.

It rewrites `spread.csv`: five encoders, four sampling seeds, and two learning rates, the chosen one and three times it. The method
runs only transduct and adapt, with class names as the only texts. This is a report on the handwritten digits; no setting is chosen
from it.
"""

from itertools import product
from pathlib import Path

import pandas as pd

from gta import encoders
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.loop import run
from gta.scores import results
from gta.studies.parameters import ONCE
from gta.worlds.settings import EMBEDDED, settings_for


def accuracies(seed: int, rate: float, sampling: int) -> dict:
    """Accuracy in percent of the first iterate, which is TransCLIP, and of the last iterate."""
    task, encoder = tasks.load("digits"), encoders.load("embedded", seed=seed)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    settings = settings_for("embedded", generate=False, lr=rate, lr_projection=rate, seed=sampling)
    images, augment = load_images(task.images, encoder), task.augmentation(encoder.image_size)
    first = run(encoder, images, task.class_names, settings_for("embedded", **ONCE), attributes=bank, progress=False)
    last = run(encoder, images, task.class_names, settings, attributes=bank, augment=augment, progress=False)
    scores = [round(100 * float(results.correct(task.source, z.assignments).mean()), 2) for z in (first, last)]
    return {"encoder": seed, "rate": rate, "sampling": sampling, "transclip": scores[0], "adapted": scores[1]}


if __name__ == "__main__":
    chosen = EMBEDDED["lr"]
    frame = pd.DataFrame([accuracies(*cell) for cell in product(range(5), (chosen, 3 * chosen), range(4))])
    write_atomically(Path(__file__).with_name("spread.csv"), frame.to_csv(index=False))
    frame["gain"] = frame.adapted - frame.transclip
    print(frame.groupby(["rate", "encoder"]).gain.agg(["mean", "min", "max"]).round(1).to_string())
