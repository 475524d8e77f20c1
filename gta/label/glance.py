"""The first screen of the page: how many of each class, how sure, and what to do next."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

LARGEST = 8  # classes on the first screen; all of them stand below
ROUND, TO_JUDGE = 20, 50  # images of a review: to learn from, and drawn at random to judge the labels by


def glance(sizes: Sequence[Mapping], undecided: int) -> dict:
    """sizes: a row for each class, the largest first, with `count`; undecided: images with two classes that are nearly as likely."""
    rest = sizes[LARGEST:]
    return {"largest": sizes[:LARGEST], "more": len(rest), "in_more": sum(row["count"] for row in rest), "undecided": undecided}


def steps(out: Path, undecided: int, judged: bool, unlike: str) -> list[tuple[str, str]]:
    """What to do next, the most urgent first: (sentence, command or ""). judged: whether random images were reviewed."""
    folder = shlex.quote(str(out))
    found = []
    if unlike:
        found.append((f"Note that the sizes do not look like the list: {unlike}.", ""))
    if undecided:
        told = f"{undecided:,} images have two classes that are nearly as likely. Answer {ROUND} of them; the run learns from it:"
        found.append((told, f"python -m gta review {folder}"))
    if not judged:
        told = f"Nobody has reviewed a random part. {TO_JUDGE} answers say how many labels are wrong:"
        found.append((told, f"python -m gta review {folder} --by random --images {TO_JUDGE}"))
    found.append(("Look at the galleries and at what fits no class, then take the labels along: predictions.csv.", ""))
    return found
