"""A folder of short texts: a sub-folder for each class, and in it one UTF-8 `.txt` file for each text.

`FOLDER#PART` is a part of it (`gta.data.parts`), such as `FOLDER#small-200-0`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gta.data import folders, parts
from gta.names import printable

PREFIX = "texts:"  # of the source of a task


@dataclass(frozen=True)
class Texts:
    """What a method may see. ids: paths below the folder; class_names, in the order of their folders."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    class_names: tuple[str, ...]


def read(name: str) -> Texts:
    """The texts of a folder, or of a part of it, in the order of their paths.

    Raises ValueError, with the folder or the file, where there is no text, or one that is empty or not UTF-8, or too few for the part.
    """
    folder, files, names, _ = _opened(name)
    ids = tuple(printable(file.relative_to(folder)) for file in files)
    return Texts(ids, tuple(map(_text, files)), tuple(map(folders.class_name, names)))


def labels(source: str) -> np.ndarray:
    """The true classes, int (N,), of a source PREFIX + FOLDER, or of a part of it; -1 where the class is not among the names of the part.
    Only `gta.scores` asks, by way of `gta.data.tasks.query_labels`."""
    return _opened(source.removeprefix(PREFIX))[3]


def _opened(name: str) -> tuple[Path, list[Path], list[str], np.ndarray]:
    """The folder, the files of the texts, the names of the classes' folders, and the classes of the texts, int (N,)."""
    folder, part = parts.split(name)
    files, names = _files(Path(folder))
    labels = np.array([names.index(file.parent.name) for file in files])
    if part:
        cut = parts.cut(part, labels, len(names))
        files, names, labels = [files[i] for i in cut.rows], [names[j] for j in cut.classes], cut.labels(labels[cut.rows])
    return Path(folder), files, names, labels


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of all texts, and the names of their folders."""
    files = sorted(file for file in folder.glob("*/*.txt") if not file.name.startswith("."))
    if not files:
        raise ValueError(f"{folder}: no text; put one .txt file for each text into a sub-folder for each class")
    return files, sorted({file.parent.name for file in files})


def _text(file: Path) -> str:
    try:
        text = " ".join(file.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no UTF-8 text ({error.reason}); save it as UTF-8") from None
    if not text:
        raise ValueError(f"{file}: an empty text; remove it")
    return text
