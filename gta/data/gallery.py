"""Tables and example images for a page: what is known about the paper's datasets, and which of them are on this machine."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gta.data import copies, manifests, shots, verify
from gta.data.splits import SPLITS, MissingLists
from gta.files import ROOT


def chosen(names: str) -> tuple[str, ...]:
    """The datasets that `all` or a comma-separated list names. Raises ValueError, with the nearest name, for an unknown dataset."""
    picked = manifests.names() if names == "all" else tuple(name.strip() for name in names.split(","))
    return tuple(manifests.dataset(name).name for name in picked)


def overview(names: Iterable[str]) -> pd.DataFrame:
    """One row for each dataset: classes, images of each split, template, and how many facts are verified, inferred or from memory."""
    rows = []
    for manifest in map(manifests.dataset, names):
        sizes = {split: f"{size:,}" if size else "" for split, size in manifest.splits}
        row = {"dataset": manifest.name, "title": manifest.title, "classes": len(manifest.classes)}
        rows.append(row | sizes | {"template": manifest.template} | dict(manifest.known))
    return pd.DataFrame(rows).set_index("dataset")


def provenance(name: str) -> pd.DataFrame:
    """One row for each fact of a manifest: its level of evidence, and the evidence."""
    manifest = manifests.dataset(name)
    told = {fact: text.partition(": ") for fact, text in (manifest.evidence | manifest.parts).items()}
    return pd.DataFrame([(fact, level, how) for fact, (level, _, how) in told.items()], columns=["fact", "known", "how"]).set_index("fact")


def present(names: Iterable[str], root: Path) -> pd.DataFrame:
    """One row for each dataset: whether the copy below `root` is the paper's, its number of images, and the command to run if not."""
    shown = root.relative_to(ROOT) if root.is_relative_to(ROOT) else root
    rows = []
    for name in names:
        report = verify.verify(name, root, decode=False)
        missing = not any(report.found.values())
        command = f"python -m gta data {'fetch' if missing else 'verify'} {name} --root {shown}"
        state = "ready" if report.ready else "missing" if missing else f"{len(report.problems)} problems"
        counts = {f"{split} here": f"{report.found.get(split, 0):,}" for split in SPLITS}
        rows.append({"dataset": name, "state": state, **counts, "command": "" if report.ready else command})
    return pd.DataFrame(rows).set_index("dataset")


def examples(name: str, root: Path, classes: int, images_a_class: int) -> tuple[Sequence, list[str]]:
    """Training images of classes spread over a dataset, and the class name of each image.

    An incomplete copy below `root` gives the images that exist, a missing copy gives none.
    """
    try:
        copy = copies.open_copy(name, root)
        train = [entry for entry in copy.splits["train"] if entry.path in copy.where]
    except (FileNotFoundError, MissingLists, ValueError):
        return [], []
    there = sorted({entry.label for entry in train})
    spread = {there[i * len(there) // classes] for i in range(classes)} if there else set()
    drawn = shots.draw(name, (entry for entry in train if entry.label in spread), images_a_class, seed=1)
    names = copy.manifest.class_names
    return copies.Images(copy.where[entry.path] for entry in drawn), [names[entry.label] for entry in drawn]
