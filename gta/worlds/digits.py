"""scikit-learn's 1,797 handwritten digits (UCI) in fixed splits.

Of every 9 images of a class, the first is for training, the fifth for validation, and the others are query images.
`python -m gta.worlds.digits FOLDER` writes all of them as image files, with a file of class names, as input for labelling.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from gta.encoders.encoder import EMBEDDED
from gta.worlds.glyphs import DIGITS

ENCODERS = EMBEDDED  # encoders that know printed characters, one for each seed


def load(split: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image ids, uint8 images (n, 8, 8), light on dark, and labels (n,) of `query`, `train` or `validation`."""
    digits = load_digits()
    rank = np.zeros(len(digits.target), dtype=int)
    for label in range(len(DIGITS)):
        of_class = digits.target == label
        rank[of_class] = np.arange(of_class.sum()) % 9
    rows = np.flatnonzero({"query": (rank != 0) & (rank != 4), "train": rank == 0, "validation": rank == 4}[split])
    images = _grey(digits.images[rows])
    return [f"digits/{row:04d}" for row in rows], images, digits.target[rows]


def write(folder: Path) -> None:
    """Write `images/0000.png` to `images/1796.png` and `classes.txt`. File names do not reveal the class of an image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(_grey(load_digits().images)):
        Image.fromarray(image).save(folder / f"images/{row:04d}.png")
    (folder / "classes.txt").write_text("\n".join(DIGITS) + "\n", encoding="utf-8")


def _grey(images: np.ndarray) -> np.ndarray:
    return np.round(images * (255 / 16)).astype(np.uint8)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
