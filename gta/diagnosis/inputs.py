"""Read what a diagnosis begins with: the answers of a labeller, the truth about a sample of them, and words. All of it is untrusted."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gta.names import nearest

IMAGE, ANSWER = ("path", "image"), "prediction"


@dataclass(frozen=True)
class Answers:
    """Of n images: files; names, as the CSV has them; labels, the labeller's answers; doubt: float (n,), 1 - margin or 1 - confidence, or
    None where the CSV has neither; truth: {row: true label} of the images whose truth is known."""

    files: list[Path]
    names: list[str]
    labels: list[str]
    doubt: np.ndarray | None
    truth: dict[int, str] = field(default_factory=dict)


def read_answers(file: Path, images: Path, places: Mapping[str, Path] | None = None) -> Answers:
    """The answers of a CSV: `predictions.csv` of `gta label`, or one with the columns image (or path), label and prediction, whose label is
    the truth, empty where it is not known. A line without an answer is left out.

    images: the folder that paths are relative to, besides that of the CSV; places: {path: file} of what is known to lie elsewhere. Raises
    ValueError with the line, and FileNotFoundError.
    """
    columns, rows = _rows(file)
    image = next((name for name in IMAGE if name in columns), None)
    answer = ANSWER if ANSWER in columns else "label"
    if image is None or answer not in columns:
        raise ValueError(f"{file}: its first line is {','.join(columns)}; it needs path,label or image,label,prediction")
    measure = next((name for name in ("margin", "confidence") if name in columns), None)
    names: list[str] = []
    labels, files, doubt, truth = [], [], [], {}
    for line, row in rows:
        if not row[answer]:
            continue
        if answer == ANSWER and row.get("label"):
            truth[len(names)] = row["label"]
        files.append(_found(row[image], (images, file.parent), f"{file}, line {line}", places))
        names.append(row[image])
        labels.append(row[answer])
        if measure:
            doubt.append(_share(row[measure], f"{file}, line {line}: {measure}"))
    if not names:
        raise ValueError(f"{file}: no answer in it")
    return Answers(files, names, labels, 1 - np.array(doubt) if measure else None, truth)


def read_truth(file: Path, answers: Answers, images: Path) -> dict[int, str]:
    """{row of the answers: true label} from a CSV with the columns path and label. Labels may be of classes that no answer has.

    Raises ValueError, with the line, for an image without an answer, an empty label, and an image with two labels.
    """
    columns, rows = _rows(file)
    if missing := {"path", "label"} - set(columns):
        raise ValueError(f"{file}: no column {' or '.join(sorted(missing))} in its first line; it needs path,label")
    places = {path.resolve(): row for row, path in enumerate(answers.files)}
    known = dict(zip(answers.names, answers.files, strict=True))
    truth: dict[int, str] = {}
    for line, row in rows:
        where = f"{file}, line {line}"
        if not row["label"]:
            raise ValueError(f"{where}: {row['path']!r} has no label; leave the line out, or say what it shows")
        place = places.get(_found(row["path"], (images, file.parent), where, known).resolve())
        if place is None:
            raise ValueError(f"{where}: {row['path']!r} is not among the images that were labelled{nearest(row['path'], answers.names)}")
        if truth.setdefault(place, row["label"]) != row["label"]:
            raise ValueError(f"{where}: {row['path']!r} has two labels, {truth[place]!r} and {row['label']!r}")
    if not truth:
        raise ValueError(f"{file}: no labelled image in it")
    return truth


def read_words(file: Path) -> list[str]:
    """The user's words, one text a line, each once. Raises ValueError for a file without one."""
    words = list(dict.fromkeys(line for line in (" ".join(text.split()) for text in _text(file).splitlines()) if line))
    if not words:
        raise ValueError(f"{file}: no words in it; write one text a line, such as 'a red belly'")
    return words


def _rows(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV, and each line with its number; spaces around and between words are one space or none."""
    try:
        reader = csv.DictReader(io.StringIO(_text(file), newline=""))
        columns = list(reader.fieldnames or ())
        paths = {name for name in IMAGE if name in columns}
        return columns, list(_cells(reader, paths))
    except csv.Error as error:
        raise ValueError(f"{file}: no CSV: {error}") from None


def _cells(reader: csv.DictReader, paths: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for row in reader:
        cells = {key: value or "" for key, value in row.items() if key is not None}
        yield reader.line_num, {key: value if key in paths else " ".join(value.split()) for key, value in cells.items()}


def _found(name: str, folders: Iterable[Path], where: str, places: Mapping[str, Path] | None) -> Path:
    path = os.fsdecode(name.encode())  # the bytes of a path are UTF-8, whatever the locale
    tried = [folder / (places or {}).get(name, path) for folder in folders]
    found = next((one for one in tried if one.is_file()), None)
    if found is None:
        told = " or ".join(sorted({str(one.parent) for one in tried}))
        raise FileNotFoundError(f"{where}: no image {name!r} in {told}; --images names the folder that paths are relative to")
    return found


def _share(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise ValueError(f"{where} is {text!r}, and must be from 0 to 1")
    return value


def _text(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
