"""A copy of a dataset on the user's disk: where its files are, and which image of the published splits each file is.

Copies have different layouts: CoOp's folders, the released program's, one folder for each class, one flat folder, or a Hub
repository's parquet files or image folder with a column of file names. In every layout, the path in the published list identifies an
image.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import overload

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from pyarrow import ArrowInvalid

from gta.data import manifests, splits
from gta.data.manifests import Dataset
from gta.data.splits import Entry, spelling
from gta.files import IMAGE_SUFFIXES, ROOT

DATA = ROOT / "data"  # the default folder of copies


@dataclass(frozen=True)
class Cell:
    """An image in a parquet file: row `row` of the row group `group`."""

    file: Path
    group: int
    row: int
    column: str

    @property
    def bytes(self) -> bytes:
        return _group(self.file, self.group, self.column)[self.row].as_py()["bytes"]

    def open(self) -> Image.Image:
        return Image.open(BytesIO(self.bytes))


Item = Path | Cell


class Images(Sequence):
    """Lazy images: an item is a path, or a PIL image that is opened from a parquet file on access."""

    def __init__(self, items: Iterable[Item]):
        self.items = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, i: int) -> Path | Image.Image: ...
    @overload
    def __getitem__(self, i: slice) -> "Images": ...
    def __getitem__(self, i):
        if isinstance(i, slice):
            return Images(self.items[i])
        item = self.items[i]
        return item.open() if isinstance(item, Cell) else item


@dataclass(frozen=True)
class Copy:
    """A copy found on disk. base: its folder; files: all its files, relative to base; items: {name of an image: where it is}."""

    manifest: Dataset
    base: Path
    files: tuple[str, ...]
    items: dict[str, Item]

    @cached_property
    def splits(self) -> dict[str, list[Entry]]:
        """{split: entries} as published. Raises the errors of `gta.data.splits.read`."""
        return splits.read(self.manifest, self.base, self.files)

    @cached_property
    def where(self) -> dict[str, Item]:
        """{path of an entry: where its image is}, for the images that exist."""
        return _match(self.manifest, [entry for of_split in self.splits.values() for entry in of_split], self.items)

    @property
    def unused(self) -> list[str]:
        """Names of images that no split lists."""
        used = {id(item) for item in self.where.values()}
        left_out = self.manifest.left_out
        return sorted(name for name, item in self.items.items() if id(item) not in used and PurePosixPath(name).name not in left_out)


def find(manifest: Dataset, root: Path, training: bool = True) -> Copy:
    """Find the copy below `root`. It is in a known folder or in `root` itself: the first one with images and split lists, else the first
    one with images.

    training: False skips the folder `train` if folders are the split (ImageNet's has 1.3 million files).
    Raises FileNotFoundError, with the command that fetches the dataset, if there is no image.
    """
    root = Path(root).expanduser()
    inside = homes(manifest)
    passed_over = {*manifest.ignored, *(["train"] if manifest.rule == "val_folders" and not training else [])}
    found = []
    for base in [*(root / folder for folder in inside if (root / folder).is_dir()), root]:
        if base == root:
            passed_over |= {home for other in manifests.names() for home in homes(manifests.dataset(other))} - set(inside)
        files = tuple(_scan(base, passed_over))
        if items := _items(manifest, base, files):
            found.append(Copy(manifest, base, files, items))
            if splits.has_lists(manifest, files):
                return found[-1]
    if found:
        return found[0]
    raise FileNotFoundError(
        f"{manifest.name}: no image in {' or '.join(str(root / folder) for folder in inside)} or {root} itself; "
        f"`python -m gta data fetch {manifest.name} --root {root}` brings them or says how"
    )


def homes(manifest: Dataset) -> list[str]:
    """The top folders of a dataset in the known layouts."""
    return list(dict.fromkeys(folder.split("/")[0] for folder in manifest.layouts.values() if "/" in folder))


def _scan(base: Path, passed_over: set[str]) -> Iterable[str]:
    """Every file below a folder, relative to it, in order, without hidden files and files that macOS adds to archives."""
    for folder, inner, names in os.walk(base, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__MACOSX")) and name not in passed_over)
        within = Path(folder).relative_to(base)
        yield from ((within / name).as_posix() for name in sorted(names) if not name.startswith("."))


def _items(manifest: Dataset, base: Path, files: Sequence[str]) -> dict[str, Item]:
    items: dict[str, Item] = {file: base / file for file in files if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES}
    for file in files:
        match PurePosixPath(file).name:
            case "metadata.csv" | "metadata.jsonl":
                items |= _renamed(manifest, base, file, items)
            case name if name.endswith(".parquet"):
                items |= _cells(manifest, base / file)
    return items


def _renamed(manifest: Dataset, base: Path, file: str, items: dict[str, Item]) -> dict[str, Item]:
    """{original name: image} of a Hub image folder. Its metadata gives the name of each file and its original name."""
    read = pd.read_csv if file.endswith(".csv") else lambda path, dtype: pd.read_json(path, lines=True, dtype=dtype)
    frame = read(base / file, dtype=str)
    column = next((name for name in manifest.file_names if name in frame and name != "file_name"), None)
    if column is None or "file_name" not in frame:
        return {}
    folder = PurePosixPath(file).parent
    there = {original: (folder / name).as_posix() for name, original in zip(frame["file_name"], frame[column], strict=True)}
    # Remove the image under the name of its file: an image must not have two names.
    return {original: items.pop(name) for original, name in there.items() if name in items}


def _cells(manifest: Dataset, file: Path) -> dict[str, Item]:
    """{original name: image} of a parquet file. The names are in a column of file names, or beside the bytes of each image."""
    try:
        parquet = pq.ParquetFile(file)
    except ArrowInvalid as error:
        raise ValueError(f"{file} is no parquet file, or a part of one: {error}") from error
    columns = parquet.schema_arrow.names
    image = next((name for name in ("image", "img") if name in columns), None)
    if image is None:
        return {}
    given = next((name for name in manifest.file_names if name in columns), None)
    items: dict[str, Item] = {}
    for group in range(parquet.num_row_groups):
        names = parquet.read_row_group(group, columns=[given or f"{image}.path"]).column(0).to_pylist()
        for row, name in enumerate(names):
            text = name if given else (name or {}).get("path")
            # An image without a name matches no entry, but it counts: the number of images may show which split this is.
            items[f"{file.name}:{group}:{row}" if text is None else str(text)] = Cell(file, group, row, image)
    return items


@lru_cache(maxsize=4)
def _group(file: Path, group: int, column: str):
    return pq.ParquetFile(file).read_row_group(group, columns=[column]).column(0)


def _match(manifest: Dataset, entries: Sequence[Entry], items: dict[str, Item]) -> dict[str, Item]:
    """Match entries to items by the end of the path, else by class folder and name, else by the name alone.

    Class folder and name count only if all names are distinct or if the folder of the published path is the class; a name alone
    counts only if all names are distinct. Cars, for example, has two images called 00001.jpg, and copies that renumber its images.
    """
    by_stem = defaultdict(list)
    for name in sorted(items, key=lambda name: (name.count("/"), name)):
        by_stem[_stem(name)].append(name)
    distinct = len({_stem(entry.path) for entry in entries}) == len(entries)
    where = {}
    for entry in entries:
        whole, stem, c = _plain(entry.path), _stem(entry.path), manifest.classes[entry.label]
        folders = {spelling(name) for name in (c.name, c.folder, PurePosixPath(c.folder).name)}
        by_class = distinct or _folder(entry.path) in folders
        candidates = by_stem[stem]
        best = next((name for name in candidates if f"/{_plain(name)}".endswith(f"/{whole}")), None)
        if best is None and by_class:
            best = next((name for name in candidates if _folder(name) in folders), None)
        if best is None and distinct and len(candidates) == 1:
            best = candidates[0]
        if best is not None:
            where[entry.path] = items[best]
    return where


def _plain(path: str) -> str:
    """A path without the suffix of an image, because ids in Hub copies have no suffix."""
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else path


def _stem(path: str) -> str:
    return _plain(path).rpartition("/")[2]


def _folder(path: str) -> str:
    """The spelling of the folder of a path."""
    return spelling(path.rpartition("/")[0].rpartition("/")[2])


def open_copy(name: str, root: str | Path | None = None, training: bool = True) -> Copy:
    """The copy of a dataset of the paper below `root`, by default `data` in the repository."""
    return find(manifests.dataset(name), Path(root) if root is not None else DATA, training)
