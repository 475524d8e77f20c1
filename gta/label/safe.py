"""Names of folders and files that every file system takes, for names that people and classes have."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from gta.names import alike

LONGEST = 100  # bytes of a name; a file system takes 255, and a whole path on Windows has 260 characters
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)  # devices of Windows, whatever the suffix


def safe_names(names: Iterable[str], taken: Iterable[str] = (), suffixes: bool = False) -> dict[str, str]:
    """{name: a name for a file or folder}, no two alike on a file system that ignores capitals.

    A name that can be a file keeps it. In any other what cannot stand in a name becomes "_", and `/`, the level of a folder, "__". Where
    two would be alike, or one is cut, the first 8 digits of the SHA-256 of the original are added. taken: names that are not free;
    suffixes: what follows the last dot stays at the end.
    """
    used, chosen = {alike(name) for name in taken}, {}
    for name in sorted(set(names), key=lambda name: (_plain(name) != name, name)):
        stem, suffix = (name, "")
        if suffixes:
            suffix = PurePosixPath(name).suffix
            stem = name.removesuffix(suffix) if suffix else name
        plain, end = _plain(stem), "".join(letter for letter in suffix if letter.isalnum() or letter == ".")
        found, digest, digits = f"{plain}{end}", hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest(), 8
        if len(found.encode()) > LONGEST:
            found = f"{_cut(plain, LONGEST - len(end.encode()) - 9)}-{digest[:8]}{end}"
        while alike(found) in used:
            found = f"{_cut(plain, LONGEST - len(end.encode()) - digits - 1)}-{digest[:digits]}{end}"
            digits += 1
        used.add(alike(found))
        chosen[name] = found
    return chosen


def _plain(name: str) -> str:
    """The name without what a file system or a shell reads otherwise; one that is a device of Windows begins with "_"."""
    text = unicodedata.normalize("NFC", name).replace("/", "__")
    text = "".join(
        "_" if letter in '<>:"\\|?*' or unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter for letter in text
    )
    text = text.strip(" .") or "_"
    return f"_{text}" if RESERVED.fullmatch(text) else text


def _cut(text: str, most: int) -> str:
    """At most so many bytes of the text, as whole characters."""
    return text.encode()[:most].decode("utf-8", "ignore").rstrip(" .")
