"""The ledger: one file for each request to a language model, so that no answer is paid for twice.

The name of a file is the hash of everything that determines the answer: model, messages, schema, sampling settings, sample number. The
complete file is written after each attempt, so a run that is killed loses only the requests in progress.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock

from gta.files import write_atomically

Mode = Literal["record", "replay", "refresh"]


class LedgerMiss(LookupError):
    """Replay needs an answer that was never recorded. The message has the question and says how to record it."""


class Ledger:
    """A folder of requests and answers.

    mode: `record` uses recorded answers and asks the other questions; `replay` never asks; `refresh` asks every question again and
    keeps the earlier attempts as evidence.
    """

    def __init__(self, folder: Path | str, mode: Mode = "record"):
        if mode not in get_args(Mode):
            raise ValueError(f"ledger mode {mode!r}; known: {', '.join(get_args(Mode))}")
        self.folder, self.mode = Path(folder), mode
        self._asked: set[str] = set()  # requests of this object, which `refresh` does not ask again

    def find(self, request: Mapping[str, Any], about: str) -> dict[str, Any]:
        """The entry of a request, or a new one. Its `status` is `open` until it is `answered` or `gave_up`.

        Raises LedgerMiss in mode `replay` if no final answer is recorded, and ValueError, with the file, if the entry is damaged.
        """
        name = digest(request)
        file = self.folder / f"{name}.json"
        entry = _read(file) if file.exists() else {"about": about, "request": dict(request), "status": "open", "attempts": []}
        if self.mode == "replay" and entry["status"] == "open":
            raise LedgerMiss(
                f"{about}: no answer in {self.folder} ({file.name}), and mode 'replay' never asks; "
                f"record it by the same run with mode 'record' and an endpoint for {request['model']!r}"
            )
        if self.mode == "refresh" and name not in self._asked:
            # Earlier attempts stay readable, but they do not count as tries of this run.
            entry |= {"status": "open", "attempts": [], "earlier": [*entry.get("earlier", []), *entry["attempts"]]}
        return entry

    def held(self, request: Mapping[str, Any]) -> FileLock:
        """A lock on one request. If two processes ask the same question, only one pays, and both use its answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{digest(request)}.lock")

    def save(self, entry: Mapping[str, Any]) -> None:
        """Write a complete entry."""
        name = digest(entry["request"])
        write_atomically(self.folder / f"{name}.json", json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
        self._asked.add(name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All entries, in the order of their names."""
        return map(_read, sorted(self.folder.glob("[0-9a-f]*.json")))


def digest(request: Mapping[str, Any]) -> str:
    """The name of a request: a hash of its canonical JSON."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


def _read(file: Path) -> dict[str, Any]:
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        if digest(entry["request"]) != file.stem or not isinstance(entry["attempts"], list) or not entry["about"]:
            raise ValueError("its content does not fit its name")
        if entry["status"] not in ("open", "answered", "gave_up") or (entry["status"] == "answered" and not entry["answer"]):
            raise ValueError("its status does not fit its content")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a ledger entry ({error}): delete it to ask again") from error
    return entry
