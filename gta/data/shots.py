"""Few-shot sampling: the labelled images of each class.

The images of a class are sorted by the SHA-256 of dataset, seed and published path. So the draw is the same on every platform, for
every copy of the data and for every order of files, and the images of 2 shots include those of 1 shot.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gta.data.splits import Entry

MOST_VALIDATION = 4  # the largest number of validation images of a class; gamma is chosen on them


def draw(dataset: str, entries: Iterable[Entry], shots: int, seed: int, after: int = 0) -> list[Entry]:
    """Draw `shots` entries of each class, or all if a class has fewer, in the order of class and draw.

    after: skips the first `after` entries of each class, so that two draws have no image in common.
    """
    of_class: dict[int, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: hashlib.sha256(f"{dataset} {seed} {entry.path}".encode()).digest()):
        of_class[entry.label].append(entry)
    return [entry for label in sorted(of_class) for entry in of_class[label][after : after + shots]]


def split(dataset: str, splits: dict[str, list[Entry]], shots: int, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Support entries from `train`, and min(4, shots) validation entries of each class, from `val` or else the rest of `train`."""
    support = draw(dataset, splits["train"], shots, seed)
    enough = min(MOST_VALIDATION, shots)
    if splits["val"]:
        return support, draw(dataset, splits["val"], enough, seed)
    return support, draw(dataset, splits["train"], enough, seed, after=shots)


def read_index(file: Path, splits: dict[str, list[Entry]]) -> tuple[list[Entry], list[Entry]]:
    """Support and validation entries of a published index file (of cross_modal_adaptation: `indices/DATASET/shot_K-seed_S.json`).

    The end of its path identifies an image. Raises ValueError, with file and image, if an image is not in that split or has another
    label.
    """
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
        listed = [[(str(item["impath"]), int(item["label"])) for item in data[part]["data"]] for part in ("train", "val")]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no few-shot index file: {error!r}") from error
    found = []
    for part, images in zip(("train", "val"), listed, strict=True):
        known = {entry.path: entry for entry in splits[part] or splits["train"]}
        found.append([_entry(known, path, label, f"{file}, {part}") for path, label in images])
    return found[0], found[1]


def _entry(known: dict[str, Entry], path: str, label: int, where: str) -> Entry:
    parts = path.replace("\\", "/").split("/")
    tails = ("/".join(parts[-k:]) for k in range(len(parts), 0, -1))
    entry = next((known[tail] for tail in tails if tail in known), None)
    if entry is None:
        raise ValueError(f"{where}: {path} is not in that split of this dataset")
    if entry.label != label:
        raise ValueError(f"{where}: {path} has label {label}, in the split {entry.label}")
    return entry
