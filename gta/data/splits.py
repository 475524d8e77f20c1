"""The images of a dataset's splits and their classes, read from the published lists.

There are four rules: `split_json`, a file of [path, label, name] triples (CoOp and its followers); `aircraft_lists` and `cub_lists`,
the official text files; `val_folders`, ImageNet's folders, one for each class. Only the last one reads the folders of a copy. Each rule
gives {split: entries}, sorted by path, so that the order of images is the same for every copy and does not reveal classes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gta.data.manifests import Dataset, SplitFile
from gta.names import nearest

SPLITS = ("train", "val", "test")


class Entry(NamedTuple):
    """An image of a split. path: its path in the published list, which is its id; label: its class."""

    path: str
    label: int


class MissingLists(FileNotFoundError):
    """The copy does not contain the lists of its splits."""

    def __init__(self, manifest: Dataset, base: Path, lists: str):
        command = f"`python -m gta data verify {manifest.name} --root {base}` says where to get them"
        super().__init__(f"{manifest.name}: no {lists} below {base}; {command}")


def read(manifest: Dataset, base: Path, files: Iterable[str]) -> dict[str, list[Entry]]:
    """Read {split: entries, sorted by path} from the lists among `files`, which are relative to `base`.

    Raises MissingLists if a list is absent, and ValueError if a list is not the paper's or does not match the manifest.
    """
    rules = {"split_json": _split_json, "aircraft_lists": _aircraft_lists, "cub_lists": _cub_lists, "val_folders": _val_folders}
    splits = rules[manifest.rule](manifest, base, sorted(files, key=lambda file: (file.count("/"), file)))
    splits = {split: sorted(entry for entry in splits[split] if Path(entry.path).name not in manifest.left_out) for split in SPLITS}
    paths = [entry.path for split in SPLITS for entry in splits[split]]
    if len(set(paths)) != len(paths):
        twice = next(path for path in sorted(set(paths)) if paths.count(path) > 1)
        raise ValueError(f"{manifest.name}: {twice} is listed twice")
    return splits


def has_lists(manifest: Dataset, files: Iterable[str]) -> bool:
    """Whether the files include all lists of a dataset's splits."""
    names = {file.rpartition("/")[2] for file in files}
    return set(_lists(manifest)) <= names


def is_the_pinned(file: Path, pin: SplitFile) -> bool:
    """Whether a split file has the hash of the published one. It is False if the manifest gives no hash."""
    content = file.read_bytes()
    if pin.sha256:
        return hashlib.sha256(content).hexdigest() == pin.sha256
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == pin.git_blob


def parse_json(file: Path, manifest: Dataset | None = None) -> dict[str, list[Entry]]:
    """The entries of a split file, in its order. If a manifest is given, labels and names are checked against its classes."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        splits = {split: [(str(path), int(label), str(name)) for path, label, name in data[split]] for split in SPLITS}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no split file of [path, label, name] under train, val and test: {error!r}") from error
    if manifest is not None:
        for path, label, name in (entry for split in SPLITS for entry in splits[split]):
            _check_class(manifest, file, path, label, name)
    return {split: [Entry(path, label) for path, label, _ in splits[split]] for split in SPLITS}


def spelling(name: str) -> str:
    """A name in lower case, with single spaces instead of underscores."""
    return " ".join(name.replace("_", " ").casefold().split())


def _check_class(manifest: Dataset, file: Path, path: str, label: int, name: str) -> None:
    if not 0 <= label < len(manifest.classes):
        raise ValueError(f"{file}: {path} has label {label}, {manifest.name} has {len(manifest.classes)} classes")
    expected = manifest.classes[label]
    if spelling(name) not in (spelling(expected.name), spelling(expected.folder)):
        raise ValueError(f"{file}: label {label} is {expected.name!r} in the paper's order, but {path} says {name!r}")


def _lists(manifest: Dataset) -> tuple[str, ...]:
    """The files that hold a dataset's splits. ImageNet has none: its folders are the splits."""
    match manifest.rule:
        case "split_json":
            assert manifest.split_file is not None
            return (manifest.split_file.name,)
        case "aircraft_lists":
            return tuple(f"images_variant_{split}.txt" for split in SPLITS)
        case "cub_lists":
            return "images.txt", "image_class_labels.txt", "train_test_split.txt"
        case _:
            return ()


def _find(files: Iterable[str], name: str) -> str | None:
    """Of the files with a name, the one nearest to the root, or None."""
    return next((file for file in files if file.rpartition("/")[2] == name), None)


def _needed(manifest: Dataset, base: Path, files: list[str]) -> list[Path]:
    lists = _lists(manifest)
    found = [_find(files, name) for name in lists]
    if missing := [name for name, file in zip(lists, found, strict=True) if file is None]:
        raise MissingLists(manifest, base, ", ".join(missing))
    return [base / file for file in found if file is not None]


def _split_json(manifest: Dataset, base: Path, files: list[str]) -> Mapping[str, list[Entry]]:
    pin = manifest.split_file
    assert pin is not None
    (file,) = _needed(manifest, base, files)
    if not is_the_pinned(file, pin):
        counts = {split: len(entries) for split, entries in parse_json(file).items()}
        raise ValueError(f"{file} is not the paper's split file: its hash is another; it lists {counts}")
    return parse_json(file, manifest)


def _lines(file: Path) -> list[tuple[str, str]]:
    """The pairs of a text file with lines "KEY VALUE"."""
    pairs = [line.strip().partition(" ") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if wrong := [key for key, space, _ in pairs if not space]:
        raise ValueError(f"{file}: {wrong[0]!r} has no value in its line")
    return [(key, value) for key, _, value in pairs]


def _aircraft_lists(manifest: Dataset, base: Path, files: list[str]) -> Mapping[str, list[Entry]]:
    lists = _needed(manifest, base, files)
    labels = {name: label for label, name in enumerate(manifest.class_names)}
    splits = {}
    for split, file in zip(SPLITS, lists, strict=True):
        entries = _lines(file)
        if unknown := [name for _, name in entries if name not in labels]:
            raise ValueError(f"{file}: {unknown[0]!r} is no variant{nearest(unknown[0], labels)}")
        splits[split] = [Entry(f"images/{image}.jpg", labels[name]) for image, name in entries]
    return splits


def _cub_lists(manifest: Dataset, base: Path, files: list[str]) -> Mapping[str, list[Entry]]:
    """Read CUB's lists. train_test_split.txt has 1 for train; labels start at 1."""
    images, classes, is_train = (dict(_lines(file)) for file in _needed(manifest, base, files))
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for image, path in images.items():
        if image not in classes or is_train.get(image) not in ("0", "1"):
            raise ValueError(f"{manifest.name}: image {image} ({path}) has no class or no split in the official lists below {base}")
        label = int(classes[image]) - 1
        _check_class(manifest, base / "image_class_labels.txt", path, label, path.partition("/")[0])
        splits["train" if is_train[image] == "1" else "test"].append(Entry(path, label))
    return splits


def _val_folders(manifest: Dataset, base: Path, files: list[str]) -> Mapping[str, list[Entry]]:
    """Read ImageNet's folders: val/FOLDER/FILE are the test images, train/FOLDER/FILE are the training images."""
    labels = {c.folder: label for label, c in enumerate(manifest.classes)}
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for file in files:
        *_, split, folder, _ = ["", "", *file.split("/")]
        if split in ("train", "val") and folder in labels and file.lower().endswith((".jpeg", ".jpg")):
            path = "/".join(file.split("/")[-3:])
            splits["train" if split == "train" else "test"].append(Entry(path, labels[folder]))
    if not splits["test"]:
        raise MissingLists(manifest, base, f"folder val/{manifest.classes[0].folder} with images")
    return splits
