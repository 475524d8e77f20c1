"""CSV files: those of results, and those that a user brings."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

Rows = list[tuple[int, dict[str, str | None]]]


def table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """CSV text: a line of columns, then the rows."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def read(file: Path, needed: Sequence[str], mend: str = "") -> tuple[list[str], Rows]:
    """`parsed` of a file in UTF-8, with or without a byte order mark. Raises ValueError, with the file, for another encoding too."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no CSV in UTF-8: {error}") from None
    return parsed(text, file, needed, mend)


def parsed(text: str, file: Path, needed: Sequence[str], mend: str = "") -> tuple[list[str], Rows]:
    """The columns of a CSV, and of each row the number of its last line and {column: cell}, None for a cell that a short row lacks.

    file: whose text it is; needed: columns that must be there; mend: what to do where one is not. Raises ValueError, with the file, where
    one is not, and for what is no CSV.
    """
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = list(reader.fieldnames or ())
        if missing := set(needed) - set(columns):
            what = f"no column {' or '.join(sorted(missing))} in its first line"
            raise ValueError(f"{file}: {what}; {mend or 'it needs ' + ','.join(needed)}")
        return columns, [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{file}: no CSV: {error}") from None
