"""What people said of images: `reviews.csv` beside `predictions.csv`, a line an answer. Lines are added and never changed.

The last line of a reviewer about an image is that reviewer's answer; a line without a label takes it back. Of several reviewers the one
who answered last counts. A label is a class, or `NONE` where the image shows none of the classes, or `UNSURE`.
"""

import codecs
import csv
import errno
import io
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from filelock import FileLock

FILE = "reviews.csv"
NONE, UNSURE, TAKEN_BACK = "(none)", "(unsure)", ""
SHOWN = 20  # disagreements of two reviewers that are listed


@dataclass(frozen=True)
class Answer:
    """path: of the image, as in `predictions.csv`; time: in UTC, ISO 8601; chosen_by: why the image was shown (`gta.label.choosing`)."""

    path: str
    label: str
    reviewer: str
    time: str
    chosen_by: str


COLUMNS = tuple(field.name for field in fields(Answer))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(file: Path) -> list[Answer]:
    """All lines in their order; none where there is no file. A last line that a power cut tore is passed over. Raises ValueError, with
    the line, for one that is not as `append` writes it."""
    if not file.exists():
        return []
    rows, torn = _rows(file)
    if torn is not None:
        print(f"{file}: its last line is torn and is passed over", file=sys.stderr)
    return [Answer(*row) for row in rows]


def append(file: Path, answers: Iterable[Answer]) -> None:
    """Add lines in one write, under a lock, and wait for the disk. Raises OSError where that fails; the file is then as it was before."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(astuple(answer) for answer in answers)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        torn = _rows(file)[1] if file.exists() else None
        if torn is not None:
            os.truncate(file, torn)
        there = file.read_bytes() if file.exists() else b""
        head = "" if there.endswith(b"\n") else "\n" if there else ",".join(COLUMNS) + "\n"
        line = (head + text.getvalue()).encode()
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))  # there was no room for all of it
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, len(there))
            raise
        finally:
            os.close(handle)


def of_reviewers(answers: Iterable[Answer]) -> dict[tuple[str, str], Answer]:
    """{(path, reviewer): the answer}, those that were taken back left out, in the order in which they were given."""
    last: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        last.pop((answer.path, answer.reviewer), None)
        if answer.label != TAKEN_BACK:
            last[answer.path, answer.reviewer] = answer
    return last


def standing(answers: Iterable[Answer]) -> dict[str, Answer]:
    """{path: the answer that counts}."""
    return {path: answer for (path, _), answer in of_reviewers(answers).items()}


def compare(answers: Sequence[Answer]) -> str:
    """How often each two reviewers agree about images that both answered, Cohen's kappa (Educ. Psychol. Meas. 1960), and where they do
    not. `NONE` and `UNSURE` count as labels. Raises ValueError where no two reviewers answered the same image."""
    last = of_reviewers(answers)
    of: dict[str, dict[str, str]] = {}
    for (path, reviewer), answer in last.items():
        of.setdefault(reviewer, {})[path] = answer.label
    told = []
    for a, b in combinations(of, 2):
        both = [path for path in of[a] if path in of[b]]
        if both:
            told += _compared(a, b, [(path, of[a][path], of[b][path]) for path in both])
    if not told:
        who = ", ".join(map(repr, of)) or "nobody"
        raise ValueError(f"no image was answered by two reviewers (there are answers of {who}); --again with another --reviewer shows them")
    return "\n".join(told)


def _compared(a: str, b: str, rows: list[tuple[str, str, str]]) -> list[str]:
    from sklearn.metrics import cohen_kappa_score  # a second to load, and a run that labels reads answers too

    differ = [row for row in rows if row[1] != row[2]]
    labels = {label for _, *of in rows for label in of}
    kappa = cohen_kappa_score([row[1] for row in rows], [row[2] for row in rows]) if len(labels) > 1 else None
    said = f"kappa {kappa:.2f}" if kappa is not None else "kappa is not defined where all answers are one label"
    agreed = len(rows) - len(differ)
    head = f"{a!a} and {b!a} agree about {agreed:,} of {len(rows):,} images ({100 * agreed / len(rows):.0f} %), {said}"
    more = [f"  and {len(differ) - SHOWN:,} more"] if len(differ) > SHOWN else []
    return [head, *(f"  {path!a}: {first!a}, {second!a}" for path, first, second in differ[:SHOWN]), *more]


def _rows(file: Path) -> tuple[list[list[str]], int | None]:
    """The lines below the head, and where a torn last one begins, in bytes."""
    raw = file.read_bytes()
    lines = list(io.StringIO(raw.decode("utf-8-sig", "replace"), newline=""))
    reader, rows, begins = csv.reader(lines), [], [0]
    for row in reader:
        rows.append(row)
        begins.append(reader.line_num)
    torn = None
    if rows and rows[-1] and _is_torn(rows[-1], "".join(lines[begins[-2] :])):
        torn = len("".join(lines[: begins[-2]]).encode()) + (3 if raw.startswith(codecs.BOM_UTF8) else 0)
        rows.pop()
    if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(f"{file}: its first line is not {','.join(COLUMNS)}; mend that line, or move the file away")
    for row, line in zip(rows, begins[1:], strict=False):
        if row and len(row) != len(COLUMNS):
            raise ValueError(f"{file}, line {line}: {len(row)} columns where {len(COLUMNS)} are needed ({','.join(COLUMNS)})")
    return [row for row in rows[1:] if row], torn


def _is_torn(row: list[str], text: str) -> bool:
    """Whether a last line ends before its end, or before the quote that closes a name with a line break."""
    if len(row) < len(COLUMNS) and text.count('"') % 2 == 1:
        return True
    return not text.endswith("\n") and (len(row) < len(COLUMNS) or not row[-1])
