"""What a result was made from, by content: hashes of sources and files, kept in a stamp beside the result.

A stamp claims "these outputs are what these inputs, parameters and sources make". Beside it lies an empty marker, exactly
while the claim holds: the batch engine looks for markers alone, never at file times, and makes again what has none. A
change that is undone gives the marker back.
"""

import ast
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gta.files import ROOT, sha256, write_atomically


def _code(file: Path) -> str:
    if file.suffix != ".ipynb":
        return file.read_text()
    cells = json.loads(file.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _imported(code: str) -> set[Path]:
    """Files of the `gta` package that a piece of code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {ROOT / name.replace(".", "/") for name in names if name.split(".")[0] == "gta"}
    return {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()}


def sources(entry: Path) -> list[Path]:
    """A notebook or module, and every file of the package that it imports, directly or not."""
    found, waiting = set(), [Path(entry).resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported(_code(file))
    return sorted(found)


def source_hash(entry: Path) -> str:
    """Of the sources that a notebook or module runs; the text of a notebook counts, since a reader sees it."""
    digest = hashlib.sha256()
    for file in sources(entry):
        digest.update(f"{file.relative_to(ROOT)} {sha256(file)}\n".encode())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Step:
    """One step of a batch: what it makes from what, and where its stamp lies."""

    stamp: Path
    entry: Path
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()
    parameters: Mapping = field(default_factory=dict)

    def _claim(self) -> dict:
        hashes = [{str(file): sha256(file) for file in files} for files in (self.inputs, self.outputs)]
        return {"source_hash": source_hash(self.entry), "parameters": dict(self.parameters), "inputs": hashes[0], "outputs": hashes[1]}

    @property
    def marker(self) -> Path:
        """The empty file that is there while the claim holds."""
        return Path(self.stamp).with_suffix(".ok")

    def finish(self) -> None:
        """Write the stamp and the marker, after the outputs. Raises FileNotFoundError where one is missing."""
        write_atomically(self.stamp, json.dumps(self._claim(), indent=1, sort_keys=True) + "\n")
        self.marker.touch()

    def refresh(self) -> str | None:
        """Set or remove the marker; what no longer holds, or None. Outputs and stamp stay as they are."""
        reason = self._what_is_false()
        if reason is None and not self.marker.exists():
            self.marker.touch()
        elif reason is not None:
            self.marker.unlink(missing_ok=True)
        return reason

    def _what_is_false(self) -> str | None:
        if not Path(self.stamp).exists():
            return "not made yet"
        try:
            claimed, actual = json.loads(Path(self.stamp).read_text()), self._claim()
        except FileNotFoundError as error:
            return f"{error.filename} is missing"
        except json.JSONDecodeError:
            return "the stamp is unreadable"
        changed = [key for key in actual if claimed.get(key) != json.loads(json.dumps(actual[key]))]
        return f"{', '.join(changed)} changed" if changed else None


def publish(steps: Iterable[Step], base: Path, results: Path, index: Sequence[Mapping[str, str]]) -> None:
    """Copy the outputs of complete steps from `base` into `results`, with their claims and an index of tables and figures.

    Raises ValueError where the claim of a step does not hold: what is not complete is not published.
    """
    claims = {}
    for step in steps:
        if reason := step.refresh():
            raise ValueError(f"{step.stamp}: {reason}; what is not complete is not published")
        claim = json.loads(Path(step.stamp).read_text())
        for file in step.outputs:
            write_atomically(results / file.relative_to(base), file.read_bytes())
            claims[str(file.relative_to(base))] = claim
    write_atomically(results / "provenance.json", json.dumps(claims, indent=1, sort_keys=True) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, index[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(index)
    write_atomically(results / "index.csv", text.getvalue())
