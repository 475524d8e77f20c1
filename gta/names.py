"""What a misspelt name was meant to be."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing where none is near: the end of an error message."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    match = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean {by_folded[match[0]]!r}?" if match else ""
