"""Names in sentences, and what a misspelt one was meant to be."""

import difflib
import re
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing where none is near: the end of an error message."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    match = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean {by_folded[match[0]]!r}?" if match else ""


def fill(sentence: str, **values: str) -> str:
    """The sentence with `{field}` replaced where the field is given: all at once, since a class may be called "{attribute}"."""
    return re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], field[0]), sentence)
