"""scikit-learn's 1,797 handwritten digits (UCI), split for good: every 9th of a class trains, the 5th of 9 validates."""

import numpy as np
from sklearn.datasets import load_digits

from gta.embedded.glyphs import DIGITS


def load(split: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image ids, uint8 images (n, 8, 8), light on dark, and labels (n,) of `query`, `train` or `validation`."""
    digits = load_digits()
    rank = np.zeros(len(digits.target), dtype=int)
    for label in range(len(DIGITS)):
        of_class = digits.target == label
        rank[of_class] = np.arange(of_class.sum()) % 9
    rows = np.flatnonzero({"query": (rank != 0) & (rank != 4), "train": rank == 0, "validation": rank == 4}[split])
    images = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    return [f"digits/{row:04d}" for row in rows], images, digits.target[rows]
