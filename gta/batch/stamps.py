"""Stamps: files with the hashes of the sources and inputs that a result was made from.

A stamp claims "these outputs are what these inputs, parameters and sources make". An empty marker file lies beside it exactly while
the claim is true. The batch engine looks only at markers, never at file times, and makes every step without a marker. If a change is
undone, the marker comes back.
"""

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gta.files import write_atomically
from gta.hashes import Hashes


@dataclass(frozen=True)
class Step:
    """One step of a batch: its outputs, what it makes them from, and the path of its stamp."""

    stamp: Path
    entry: Path
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()
    parameters: Mapping = field(default_factory=dict)

    def _made_from(self, now: Hashes) -> dict:
        return {"source_hash": now.sources(self.entry), "inputs": {str(file): now.file(file) for file in self.inputs}}

    def _claim(self, now: Hashes) -> dict:
        outputs = {str(file): now.file(file) for file in self.outputs}
        return {**self._made_from(now), "parameters": dict(self.parameters), "outputs": outputs}

    @property
    def marker(self) -> Path:
        """The empty file that exists while the claim is true."""
        return Path(self.stamp).with_suffix(".ok")

    def begin(self) -> dict:
        """Hashes of sources and inputs before the work starts, for `finish`."""
        return self._made_from(Hashes())

    def finish(self, begun: Mapping | None = None) -> None:
        """Write the stamp and the marker, after the outputs.

        Raises FileNotFoundError if a file is missing, and ValueError if sources or inputs changed since `begin`: it is then unknown
        which version made the outputs.
        """
        claim = self._claim(Hashes())
        if begun and (changed := [key for key in begun if claim[key] != begun[key]]):
            raise ValueError(f"{', '.join(changed)} changed while {self.stamp.stem} was made, from {self.entry}: make it again")
        write_atomically(self.stamp, json.dumps(claim, indent=1, sort_keys=True) + "\n")
        self.marker.touch()

    def refresh(self, now: Hashes | None = None) -> str | None:
        """Set or remove the marker. Returns why the claim is false, or None if it is true. Outputs and stamp stay as they are.

        now: hashes that many steps share, if they are checked together.
        """
        now = now or Hashes()
        reason = self._what_is_false(now)
        if reason and self.stamp.exists() and self.stamp.stat().st_mtime >= now.begun:
            reason = self._what_is_false(Hashes())  # another batch wrote the stamp since `now` began: hash again
        if reason is None and not self.marker.exists():
            self.marker.touch()
        elif reason is not None:
            self.marker.unlink(missing_ok=True)
        return reason

    def _what_is_false(self, now: Hashes) -> str | None:
        if not Path(self.stamp).exists():
            return "not made yet"
        try:
            claimed, actual = json.loads(Path(self.stamp).read_text(encoding="utf-8")), self._claim(now)
        except FileNotFoundError as error:
            return f"{error.filename} is missing"
        except json.JSONDecodeError:
            return "the stamp is unreadable"
        changed = [key for key in actual if claimed.get(key) != json.loads(json.dumps(actual[key]))]
        return f"{', '.join(changed)} changed" if changed else None


def publish(
    steps: Iterable[tuple[Step, Sequence[Path]]],
    base: Path,
    results: Path,
    index: Sequence[Mapping[str, str]],
    within: Collection[str] | None = None,
) -> None:
    """Copy the named outputs of each step from `base` to `results`, with their claims and an index of tables and figures.

    A file that an earlier call copied and this one does not is removed; within: only in these folders of `results`. Raises ValueError
    if the claim of a step is false, because only complete results are published.
    """
    claims: dict[str, dict] = {}
    now, before = Hashes(), results / "provenance.json"
    for step, outputs in steps:
        if reason := step.refresh(now):
            raise ValueError(f"{step.stamp}: {reason}; what is not complete is not published")
        claim = json.loads(Path(step.stamp).read_text(encoding="utf-8"))
        claims |= {str(file.relative_to(base)): claim for file in outputs}
    for file in claims:
        write_atomically(results / file, (base / file).read_bytes())
    earlier: dict = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    for file in earlier.keys() - claims.keys():
        if within is None or file.split("/")[0] in within:
            (results / file).unlink(missing_ok=True)
        else:
            claims[file] = earlier[file]
    write_atomically(before, json.dumps(claims, indent=1, sort_keys=True) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, index[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(index)
    write_atomically(results / "index.csv", text.getvalue())
