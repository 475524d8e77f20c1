"""Lock files: a record of what was fetched, so that later fetches and runs can check that the data are the same.

`SHA256SUMS` is in the folder of the images. It has one line for each image of the splits, and `sha256sum --check` can read it if the
images keep their published paths. `data_manifests/lock/DATASET.json` pins that file, the archives, the revision and the counts.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gta.data import manifests
from gta.data.copies import Cell, Copy, Item
from gta.files import sha256, write_atomically
from gta.settings import Checked

SUMS = "SHA256SUMS"


class Archive(Checked):
    """Hash and size of a fetched file."""

    sha256: str
    bytes: int


class Lock(Checked):
    """The first fetch of a dataset. sums: SHA-256 of its `SHA256SUMS`."""

    dataset: str
    source: str
    archives: dict[str, Archive]
    counts: dict[str, int]
    sums: str


def file(dataset: str) -> Path:
    return manifests.FOLDER / "lock" / f"{dataset}.json"


def read(dataset: str) -> Lock | None:
    """The lock of a dataset, or None before its first fetch. Raises ValueError, with the file, if it cannot be read."""
    if not file(dataset).exists():
        return None
    try:
        return Lock.model_validate_json(file(dataset).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file(dataset)} is not a lock file; delete it, and the next fetch writes a new one: {error}") from error


def write(lock: Lock) -> None:
    write_atomically(file(lock.dataset), json.dumps(lock.model_dump(), indent=1) + "\n")


def write_sums(copy: Copy) -> str:
    """Write `SHA256SUMS` of the images of the splits. Returns the hash of that file."""
    names = sorted(copy.where)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(lambda name: _hash(copy.where[name]), names)
    text = "".join(f"{digest}  {name}\n" for digest, name in zip(hashes, names, strict=True))
    write_atomically(copy.base / SUMS, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_sums(base: Path) -> dict[str, str]:
    """{published path: hash} of a copy. It is empty for a copy that was not fetched."""
    if not (base / SUMS).exists():
        return {}
    lines = (base / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def differs(dataset: str, base: Path) -> str | None:
    """Why the fetched copy in `base` is not the locked one, or None. It is None for a copy that was not fetched."""
    locked = read(dataset)
    if locked is None or not (base / SUMS).exists() or sha256(base / SUMS) == locked.sums:
        return None
    return f"{base / SUMS} is not the one that {file(dataset)} pins: the copy was fetched from other bytes, or changed"


def archive_differs(dataset: str, archives: Mapping[str, Archive]) -> str | None:
    """A sentence about an archive that differs from the locked one of the same name, or None."""
    locked = read(dataset)
    for name, archive in archives.items():
        if locked and name in locked.archives and locked.archives[name] != archive:
            return f"{name} is not the file that was fetched first: {archive} instead of {locked.archives[name]} ({file(dataset)})"
    return None


def _hash(item: Item) -> str:
    if isinstance(item, Cell):
        return hashlib.sha256(item.bytes).hexdigest()
    return sha256(item)
