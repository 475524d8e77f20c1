"""Names in sentences and to a reader's eye, and what a misspelt one was meant to be."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing where none is near: the end of an error message."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    match = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean {by_folded[match[0]]!r}?" if match else ""


def fill(sentence: str, **values: str) -> str:
    """The sentence with `{field}` replaced where the field is given: all at once, since a class may be called "{attribute}"."""
    return re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], field[0]), sentence)


def alike(name: str) -> str:
    """A key that is equal for names that look the same to a reader: with other capitals, or accents in one character or two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def printable(path: Path | str) -> str:
    """A path as valid text, whatever the locale: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
