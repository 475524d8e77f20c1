"""What a labelled folder says of each image: the lines of `predictions.csv`, and the answers of reviewers, which win."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from gta.label import answers, tables

FACTS = "state/review.json"  # what `gta.label.kept`, which needs torch, leaves of a run
FIRST = ("path", "label", "reviewed", "reviewer", "time", "predicted")  # columns of a table of rows, before those of `predictions.csv`
AGAIN = "label the folder again"


@dataclass(frozen=True)
class Row:
    """path: the image, as `predictions.csv` names it; label: the reviewer's, else the model's, "" where there is none; reviewed: the
    reviewer's answer, "" without one; predicted: the model's label; more: the other columns of `predictions.csv`."""

    path: str
    label: str
    reviewed: str
    reviewer: str
    time: str
    predicted: str
    more: dict[str, str]

    @property
    def confidence(self) -> float | None:
        """The model's, in its own label."""
        return float(self.more["confidence"]) if self.more.get("confidence") else None

    def ranking(self) -> list[tuple[str, float]]:
        """The label with its confidence, then what else is known, the likelier first. A reviewer's label has 1 and stands alone."""
        if self.reviewed:
            return [(self.label, 1.0)] if self.label else []
        confidence = self.confidence or 0.0
        second = self.more.get("runner_up", "")
        rest = max(0.0, confidence - float(self.more.get("margin") or 0))
        return [(self.label, confidence), *([(second, rest)] if second else [])] if self.label else []


@dataclass(frozen=True)
class Labelled:
    """rows: of images; columns: names of the other columns; classes: all names, also of classes without an image; left_out: (path, reason);
    base: the folder that paths are relative to, None if nobody knows; places: {path: file}, of the run; maker: what made the labels."""

    rows: list[Row]
    columns: list[str]
    classes: list[str]
    left_out: list[tuple[str, str]]
    base: Path | None
    places: dict[str, Path]
    maker: str

    def place(self, path: str) -> Path:
        """Where an image lies now. Raises FileNotFoundError, with the mend, if nobody knows or it is gone."""
        known = self.places.get(path) or (None if self.base is None else self.base / path)
        for file in (known, None if self.base is None else self.base / _bytes_of(path)):
            if file is not None and file.is_file():
                return file
        raise FileNotFoundError(f"no image {path!r} in {self.base or 'any folder that is known'}; --images FOLDER says where they lie")

    def relative(self, path: str) -> str:
        """The path as the file system has it, relative to the folder of images where it lies there."""
        file = self.places.get(path)
        if file is not None and self.base is not None and file.is_relative_to(self.base):
            return str(file.relative_to(self.base))
        return _bytes_of(path)


def read(folder: Path, images: Path | None = None) -> Labelled:
    """Read what `gta label` and `review` left in a folder. images: where the images lie now, if not where they were.

    Raises FileNotFoundError where there are no labels, and ValueError, with file and line, for what is not as it was written.
    """
    file = folder / "predictions.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not there; `python -m gta label IMAGES ... --out {folder}` makes it")
    facts = json.loads((folder / FACTS).read_bytes()) if (folder / FACTS).is_file() else {}
    said = answers.standing(answers.read(folder / answers.FILE))
    columns, lines = _table(file)
    rows = [_row(line, said.pop(line["path"], None)) for line in lines]
    rows += [_row({"path": path}, answer) for path, answer in said.items()]  # of images that a later run learnt from
    names = [*facts.get("class_names", []), *(row.label for row in rows), *(row.more.get("runner_up", "") for row in rows)]
    classes = dict.fromkeys(filter(None, names))
    left_out = (
        [(line["path"], line["reason"]) for line in _table(folder / "left_out.csv")[1]] if (folder / "left_out.csv").is_file() else []
    )
    base, places = images, {}
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"--images {images}: no such folder")
    if images is None and facts:
        source = Path(facts["options"]["images"])
        base, places = source if source.is_dir() else source.parent, {name: Path(place) for name, place in facts["images"]}
    encoder = facts["options"]["encoder"] if facts else ""
    encoder = Path(encoder).name if Path(encoder).is_absolute() else encoder  # of a folder of this machine its name
    others = [column for column in columns if column not in FIRST]
    return Labelled(rows, others, list(classes), left_out, base, places, f"gta {encoder}".strip())


def _row(line: dict[str, str], answer: answers.Answer | None) -> Row:
    more = {name: value for name, value in line.items() if name not in FIRST}
    predicted = line.get("label", "")
    if answer is None:
        return Row(line["path"], predicted, "", "", "", predicted, more)
    label = "" if answer.label in (answers.NONE, answers.UNSURE) else answer.label
    return Row(answer.path, label, answer.label, answer.reviewer, answer.time, predicted, more)


def _table(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and lines of a CSV of ours. Raises ValueError, with the line, for one that is not whole."""
    columns, rows = tables.read(file, ("path",), AGAIN)
    for line, row in rows:
        if row.keys() != set(columns) or None in row.values():
            raise ValueError(f"{file}, line {line}: not the {len(columns)} columns of its first line; {AGAIN}")
    return columns, [{name: cell or "" for name, cell in row.items()} for _, row in rows]


def _bytes_of(path: str) -> str:
    """The path as the file system has it, where its bytes that are no UTF-8 were written with backslashes (`gta.names.printable`)."""
    return os.fsdecode(re.sub(rb"\\x([89a-f][0-9a-f])", lambda code: bytes.fromhex(code[1].decode()), path.encode()))
