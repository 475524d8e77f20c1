"""Check whether a copy of a dataset is the paper's, and report all problems in one table.

The checks: the published lists; the number of images of each split and class; images that are missing, cannot be decoded or differ
from the fetched bytes; and whether the counts are those of a known other copy. The report holds only counts and names, no accuracy
and no label of a single image.
"""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm.auto import tqdm

from gta.data import copies, lock, manifests, splits
from gta.data.copies import Cell, Copy, Item
from gta.data.manifests import Dataset
from gta.files import sha256

SHOWN = 5  # examples of each problem in the table


@dataclass
class Report:
    """found, expected: images of each split; problems: (what, how many, which); notes: the same for harmless findings."""

    manifest: Dataset
    base: Path
    found: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return not self.problems

    def problem(self, what: str, which: Iterable[str]) -> None:
        """Add a problem of some images, if there are any."""
        which = list(which)
        if which:
            more = f" and {len(which) - SHOWN:,} more" if len(which) > SHOWN else ""
            self.problems.append((what, len(which), ", ".join(which[:SHOWN]) + more))

    def __str__(self) -> str:
        counts = ", ".join(f"{split} {self.found.get(split, 0):,} of {n:,}" for split, n in self.expected.items() if n)
        known = ", ".join(f"{n} {level}" for level, n in self.manifest.known.items())
        lines = [f"{self.manifest.name} in {self.base}: {counts}; facts: {known}"]
        lines += [f"  not verified: {fact} ({text})" for fact, text in self.manifest.unverified.items()]
        rows = [(kind, *row) for kind, of_kind in (("problem", self.problems), ("note", self.notes)) for row in of_kind]
        width = max((len(what) for _, what, _, _ in rows), default=0)
        lines += [f"  {kind:8}{what:{width}}{n:>10,}  {which}" for kind, what, n, which in rows]
        return "\n".join([*lines, "ready" if self.ready else f"not the paper's: {len(self.problems)} problems"])


def verify(name: str, root: Path, decode: bool = True) -> Report:
    """Check the copy of a dataset below `root`.

    decode: True also opens every image and compares its bytes with the fetched ones; False skips ImageNet's training images. Raises
    ValueError for an unknown dataset. A missing copy raises nothing; it is a problem in the report.
    """
    manifest = manifests.dataset(name)
    expected = dict(manifest.splits)
    expected["train"] -= len(manifest.left_out)
    report = Report(manifest, Path(root), expected=expected)
    try:
        copy = copies.find(manifest, Path(root), training=decode)
        report.base = copy.base
    except FileNotFoundError as error:
        report.problems.append(("no images", 0, str(error)))
        return report
    try:
        _count(copy, report)
    except (ValueError, splits.MissingLists) as error:
        report.problems.append(("lists of the split", 0, f"{error}\n{_help_with_lists(manifest)}".strip()))
        report.problems += _variants(copy)
        return report
    if report.problems:
        report.problems += _variants(copy)
    if decode:
        _look(copy, report)
    if unused := copy.unused:
        report.notes.append(("in no split, not used", len(unused), ", ".join(unused[:SHOWN])))
    return report


def _count(copy: Copy, report: Report) -> None:
    """Compare images with the published lists: report missing images, and classes with too few or too many."""
    for split, entries in copy.splits.items():
        if split == "train" and not entries and report.manifest.rule == "val_folders":
            report.notes.append(("train: not looked at, or not there", 0, "few-shot runs need it, zero-shot runs do not"))
            continue
        there = [entry for entry in entries if entry.path in copy.where]
        report.found[split] = len(there)
        report.problem(f"{split}: missing", (entry.path for entry in entries if entry.path not in copy.where))
        listed, found = (Counter(entry.label for entry in of) for of in (entries, there))
        short = [f"{c.name} {found[i]}/{listed[i]}" for i, c in enumerate(report.manifest.classes) if found[i] != listed[i]]
        report.problem(f"{split}: classes short of images", short)
        if len(entries) != report.expected[split]:
            report.problems.append((f"{split}: {len(entries):,} images listed", len(entries), f"the paper has {report.expected[split]:,}"))
            report.problem(f"{split}: classes without images", (c.name for i, c in enumerate(report.manifest.classes) if not listed[i]))


def _variants(copy: Copy) -> list[tuple[str, int, str]]:
    """Find known other copies by their number of test images: in a split file that is not the published one, in a folder or parquet
    file named after a split, or in the whole copy."""
    counts = Counter[int]()
    for file in copy.files:
        if PurePosixPath(file).name.startswith("split_") and file.endswith(".json"):
            try:
                counts[len(splits.parse_json(copy.base / file)["test"])] += 1
            except ValueError:
                continue
    of_split = Counter[str]()
    for name, item in copy.items.items():
        words = {item.file.name.partition("-")[0]} if isinstance(item, Cell) else set(PurePosixPath(name).parts[:-1])
        of_split.update(words & {"test", "val", "valid", "validation"})
    counts.update(dict.fromkeys(of_split.values(), 1))
    counts[len(copy.items)] += 1
    return [
        ("another copy than the paper's", variant.test, f"{variant.test:,} images: {variant.what} ({variant.evidence})")
        for variant in copy.manifest.variants
        if variant.test in counts
    ]


def _help_with_lists(manifest: Dataset) -> str:
    if manifest.split_file and manifest.split_file.url:
        return f"the split file is at {manifest.split_file.url}; `python -m gta data fetch {manifest.name} --root ROOT` adds it"
    return manifest.steps or "the official archive holds the lists"


def _look(copy: Copy, report: Report) -> None:
    """Decode every image of the splits, and compare its hash with the hash at the fetch."""
    sums = lock.read_sums(copy.base)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = sorted(copy.where)
        seen = pool.map(lambda name: _fault(name, copy.where[name], sums), names)
        faults = dict(zip(names, tqdm(seen, total=len(names), desc=copy.manifest.name, unit="image", leave=False), strict=True))
    for what in ("not the bytes that were fetched", "cannot be decoded"):
        report.problem(what, (name for name, fault in faults.items() if fault == what))
    if reason := lock.differs(copy.manifest.name, copy.base):
        report.problems.append(("lock", 0, reason))


def _fault(name: str, item: Item, sums: dict[str, str]) -> str | None:
    if isinstance(item, Path) and name in sums and sha256(item) != sums[name]:
        return "not the bytes that were fetched"
    try:
        with item.open() if isinstance(item, Cell) else Image.open(item) as image:
            image.draft("RGB", (32, 32))  # reads all bytes of a JPEG, but decodes few pixels
            image.load()
    except Exception:  # Pillow raises many kinds of errors for broken files
        return "cannot be decoded"
    return None
