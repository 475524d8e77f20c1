"""What is known of the paper's datasets and what of them is here, as tables and labelled pictures for a page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gta.data import copies, manifests, shots, verify
from gta.data.splits import SPLITS, MissingLists
from gta.files import ROOT


def chosen(names: str) -> tuple[str, ...]:
    """`all`, or names with commas between. Raises ValueError, with the nearest name, for one that is no dataset of the paper."""
    picked = manifests.names() if names == "all" else tuple(name.strip() for name in names.split(","))
    return tuple(manifests.dataset(name).name for name in picked)


def overview(names: Iterable[str]) -> pd.DataFrame:
    """A row a dataset: classes, images a split, template, and how many of its facts are verified, inferred, from memory."""
    rows = []
    for manifest in map(manifests.dataset, names):
        sizes = {split: f"{size:,}" if size else "" for split, size in manifest.splits}
        row = {"dataset": manifest.name, "title": manifest.title, "classes": len(manifest.classes)}
        rows.append(row | sizes | {"template": manifest.template} | dict(manifest.known))
    return pd.DataFrame(rows).set_index("dataset")


def provenance(name: str) -> pd.DataFrame:
    """A row a fact of a manifest: how it is known, and by what."""
    manifest = manifests.dataset(name)
    told = {fact: text.partition(": ") for fact, text in (manifest.evidence | manifest.parts).items()}
    return pd.DataFrame([(fact, level, how) for fact, (level, _, how) in told.items()], columns=["fact", "known", "how"]).set_index("fact")


def present(names: Iterable[str], root: Path) -> pd.DataFrame:
    """A row a dataset: whether a copy below `root` is the paper's, how many images it has, and what to do where it is not."""
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
    """Labelled training images of classes that are spread over a dataset, and the name of each one's class.

    As many as a copy below `root` has: an incomplete one shows what is there, a missing one nothing.
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
