"""The nouns of WordNet 3.0, and ImageNet's classes among them with everything that they are kinds of.

The file `data.noun` has a line for each set of synonyms, as the manual page wndb(5WN) describes it: its offset, the file and the part of
speech, the number of words in hexadecimal, pairs of word and sense, the number of pointers, four fields for each, and after a bar the
gloss. The pointers `@` and `@i` lead to what it is a kind or an instance of. Lines that begin with two spaces are the licence.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """words: the synonyms; kinds: the offsets of what it is a kind or an instance of."""

    words: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A thing with a name, and the numbers of ImageNet's classes that are such a thing."""

    name: str
    classes: tuple[int, ...]


def read(text: str) -> dict[str, Noun]:
    """The nouns of a `data.noun` by their offsets. Raises ValueError, with the line, for another format."""
    nouns = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("  ") or not line:
            continue
        fields = line.partition(" | ")[0].split()
        try:
            words = int(fields[3], 16)
            pointers = fields[5 + 2 * words :]
            if len(pointers) != 4 * int(fields[4 + 2 * words]):
                raise ValueError("the number of pointers differs")
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} is none of WordNet's data.noun ({error}): {line[:60]!r}") from None
        kinds = [to for sign, to, part in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True) if sign[0] == "@" and part == "n"]
        nouns[fields[0]] = Noun(tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * words : 2]), tuple(kinds))
    return nouns


def licence(text: str) -> str:
    """The licence at the head of a `data.noun`, without its line numbers."""
    return "".join(f"{line[2:].partition(' ')[2].rstrip()}\n" for line in text.splitlines() if line.startswith("  "))


def nodes(nouns: dict[str, Noun], offsets: Sequence[str], names: Sequence[str]) -> list[Node]:
    """The classes by their own names, in order, then what they are kinds of, by its first word, in the order of offsets.

    offsets: of the classes; names: as a reader would say them. A class that others are kinds of is its own node alone.
    """
    under: dict[str, set[int]] = {}
    for number, offset in enumerate(offsets):
        waiting = list(nouns[offset].kinds)
        while waiting:
            above = waiting.pop()
            if number not in under.setdefault(above, set()):
                under[above].add(number)
                waiting += nouns[above].kinds
    kinds = sorted(under.keys() - set(offsets))
    classes = [Node(name, (number,)) for number, name in enumerate(names)]
    return classes + [Node(nouns[offset].words[0], tuple(sorted(under[offset]))) for offset in kinds]


def fingerprint(found: Sequence[Node]) -> str:
    """A hash of the nodes, the same for every copy of WordNet 3.0, whose files differ in pointers between other parts of speech."""
    return hashlib.sha256("\n".join(f"{node.name} {node.classes}" for node in found).encode()).hexdigest()
