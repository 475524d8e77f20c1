"""The hash of the code behind a result: of a notebook or module, and of every file of the package that it reaches.

A run and its checkpoints carry this hash. No run reaches what only starts runs (`gta/batch`), so an edit there makes no run
stale.
"""

import ast
import hashlib
import json
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from gta.files import PACKAGE, sha256

SOURCES = PACKAGE.parent  # names of sources are relative to it


def _code(file: Path) -> str:
    if file.suffix != ".ipynb":
        return file.read_text(encoding="utf-8")
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _reached(file: Path) -> set[Path]:
    """Files of the `gta` package that a notebook or module imports, and those beside it that it names: a style, a template, facts."""
    if file.suffix not in (".py", ".ipynb"):
        return set()
    names, beside = set(), set()
    for node in ast.walk(ast.parse(_code(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"\w+(\.\w+)+", str(node.value)):
            beside.add(file.with_name(str(node.value)))
    paths = {SOURCES / name.replace(".", "/") for name in names if name.split(".")[0] == "gta"}
    imported = {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()}
    return imported | {file for file in beside if file.suffix != ".py" and file.is_file()}


def sources(entry: Path) -> list[Path]:
    """A notebook or module, and every file of the package that it reaches: that it imports or names, directly or not."""
    return _sources(entry, _reached)


def _sources(entry: Path, reached: Callable[[Path], set[Path]]) -> list[Path]:
    found, waiting = set(), [Path(entry).resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += reached(file)
    return sorted(found)


def source_hash(entry: Path) -> str:
    """The hash of `sources(entry)`. The text of a notebook counts, since a reader sees it; so do comments."""
    return Hashes().sources(Path(entry))


class Hashes:
    """The hashes of files at one moment. Each file is read once, however many steps of a batch use it."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.file = cache(sha256)
        self.sources = cache(self._of_sources)
        self._reached = cache(_reached)

    def _of_sources(self, entry: Path) -> str:
        digest = hashlib.sha256()
        for file in _sources(entry, self._reached):
            digest.update(f"{file.relative_to(SOURCES)} {self.file(file)}\n".encode())
        return digest.hexdigest()[:12]
