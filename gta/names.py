"""Names in sentences and to a reader's eye; what a misspelt one was meant to be; which is given twice."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

MERGED = "tag:yaml.org,2002:merge"  # what a mapping takes over from another may be given again


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


class Once:
    """Makes a YAML loader refuse a key that is given twice, of which it would keep the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if key.tag != MERGED):
            name, line = repr(self.construct_object(key, deep=True)), key.start_mark.line + 1  # type: ignore[attr-defined]
            if name in lines:
                raise ValueError(f"line {line}: {name} is given twice, first in line {lines[name]}; leave one of them")
            lines[name] = line
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(Once, yaml.SafeLoader):
    """Its errors show the place, as those of the faster one in C do not."""


def yaml_of(text: str) -> Any:
    """What YAML says. Raises ValueError, with the line, for a key that is given twice, and yaml.YAMLError for what is no YAML."""
    return yaml.load(text, _Loader)
