"""Checkpoints of a run: what it has found out so far, on disk after every stage.

A checkpoint is a small JSON file. Its name holds its own hash, and it names groups of tensors by theirs. A group that did not
change since the last checkpoint is not written again, so weights cost their size once an iteration. A file with another hash
is damaged: it is passed over, and the checkpoint before it is used.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gta.files import load_tensors, save_tensors, sha256, write_atomically

Group = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """facts: anything that JSON holds; groups: named groups of tensors, on the CPU."""

    facts: dict[str, Any]
    groups: dict[str, Group]


class Checkpoints:
    """The checkpoints in a folder. keep: how many of the last stay; trail: whether milestones stay too, without weights."""

    def __init__(self, folder: Path | str, *, keep: int = 2, trail: bool = False):
        if keep < 1:
            raise ValueError(f"keep: at least 1 checkpoint must be kept, not {keep}")
        self.folder, self._keep, self._trail = Path(folder), keep, trail
        self._written: dict[str, tuple[Group, str]] = {}

    def within(self, name: str) -> "Checkpoints":
        """Checkpoints that are kept alike, in a sub-folder."""
        return Checkpoints(self.folder / name, keep=self._keep, trail=self._trail)

    def save(self, facts: Mapping[str, Any], groups: Mapping[str, Group], device: torch.device, milestone: bool = False) -> None:
        """Write a checkpoint, then remove those that are no longer kept. A full disk ends no run: it is reported, and the last
        good checkpoint stays."""
        try:
            hashes = {name: self._write(name, group) for name, group in groups.items()}
            body = json.dumps({"facts": facts, "groups": hashes, "place": _place(device), "milestone": milestone})
            number = max((_number(file) for file in self._manifests()), default=-1) + 1
            write_atomically(self.folder / f"{number:06d}-{_hash(body)}.json", body)
            self._prune()
        except OSError as error:
            kept = self._manifests()
            last = f"the last good one is {kept[-1]}" if kept else "there is none yet"
            print(f"checkpoint not written: {error}. The run goes on; {last}", file=sys.stderr)

    def latest(self, device: torch.device) -> Checkpoint | None:
        """The last whole checkpoint, or None. Prints which damaged ones it passed over, and whether the machine, the device, torch or
        the number of threads is another one, which may change the last digits of what follows."""
        for file in reversed(self._manifests()):
            try:
                body = self._read(file)
                checkpoint = Checkpoint(body["facts"], {name: self._load(digest) for name, digest in body["groups"].items()})
            except (ValueError, OSError) as error:
                print(f"checkpoint passed over: {error}; the one before it is used", file=sys.stderr)
                continue
            here = _place(device)
            differs = [f"{key} {body['place'].get(key)} then, {here[key]} now" for key in here if body["place"].get(key) != here[key]]
            if differs:
                print(f"{file}: made elsewhere ({'; '.join(differs)}): the result may differ in its last digits", file=sys.stderr)
            return checkpoint
        return None

    def trail(self) -> Iterator[Checkpoint]:
        """The milestones in their order, without weights. Raises ValueError for a damaged one."""
        for file in self._manifests():
            body = self._read(file)
            if body["milestone"]:
                yield Checkpoint(body["facts"], {n: self._load(digest) for n, digest in body["groups"].items() if n != "weights"})

    def _manifests(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*-*.json"))

    def _read(self, file: Path) -> dict[str, Any]:
        body = file.read_text(errors="replace", encoding="utf-8")
        if _hash(body) != file.stem.split("-")[1]:
            raise ValueError(f"{file} is not what was written")
        return json.loads(body)

    def _write(self, name: str, group: Group) -> str:
        if name in self._written and self._written[name][0] is group and self._file(self._written[name][1]).exists():
            return self._written[name][1]
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.new"  # not synced: a torn one would be passed over
        save_tensors(file, {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, sync=False)
        digest = sha256(file)
        file.replace(self._file(digest))
        self._written[name] = (group, digest)
        return digest

    def _load(self, digest: str) -> Group:
        file = self._file(digest)
        if not file.exists() or sha256(file) != digest:
            raise ValueError(f"{file} is {'damaged' if file.exists() else 'missing'}")
        return load_tensors(file)

    def _file(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"

    def _prune(self) -> None:
        manifests = self._manifests()
        needed = set()
        for file in manifests[::-1]:
            recent = file in manifests[-self._keep :]
            try:
                body = self._read(file)
            except ValueError:
                body = {"milestone": False, "groups": {}}
            if not (recent or (self._trail and body["milestone"])):
                file.unlink()
                continue
            needed |= {digest for name, digest in body["groups"].items() if recent or name != "weights"}
        for file in self.folder.glob("*.safetensors"):
            if file.stem not in needed:
                file.unlink()


def _place(device: torch.device) -> dict[str, str | int]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "machine": f"{platform.node()} {platform.machine()}",
        "device": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _number(file: Path) -> int:
    return int(file.name.split("-")[0])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
