"""A folder of short texts: a sub-folder for each class, and in it one UTF-8 `.txt` file for each text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gta.data import folders
from gta.names import printable

PREFIX = "texts:"  # of the source of a task


@dataclass(frozen=True)
class Texts:
    """What a method may see. ids: paths below the folder; class_names, in the order of their folders."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    class_names: tuple[str, ...]


def read(folder: Path) -> Texts:
    """The texts of a folder, in the order of their paths.

    Raises ValueError, with the folder or the file, where there is no text, or one that is empty or not UTF-8.
    """
    files, names = _files(Path(folder))
    ids = tuple(printable(file.relative_to(folder)) for file in files)
    return Texts(ids, tuple(map(_text, files)), tuple(map(folders.class_name, names)))


def labels(source: str) -> np.ndarray:
    """The true classes, int (N,), of a source PREFIX + FOLDER. Only `gta.scores` asks, by way of `gta.data.tasks.query_labels`."""
    files, names = _files(Path(source.removeprefix(PREFIX)))
    return np.array([names.index(file.parent.name) for file in files])


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
