"""Read the user's input: images in a folder or a list, class names in a file, examples with labels. All input is untrusted."""

import csv
import io
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from gta.encoders.images import Images
from gta.files import IMAGE_SUFFIXES
from gta.names import nearest
from gta.settings import Checked


@dataclass(frozen=True)
class Found:
    """Images to read. paths: where they are; names: their names in the results, relative to `base`; left_out: (name, reason) of every
    other file that was found."""

    base: Path
    paths: list[Path]
    names: list[str]
    left_out: list[tuple[str, str]]

    def without(self, gone: Iterable[Path]) -> "Found":
        """The same without some files. Two paths to one file count as the same file."""
        files = {path.resolve() for path in gone}
        kept = [(path, name) for path, name in zip(self.paths, self.names, strict=True) if path.resolve() not in files]
        return Found(self.base, [path for path, _ in kept], [name for _, name in kept], self.left_out)


class Classes(Checked):
    """Class names and what the user says about them. template, sentence: texts of a class, without and with an attribute, None for
    those of the domain; domain: selects the questions to the language model (`gta/llm/prompts.yaml`); attributes: the user's phrases
    about a class, such as "a hooked bill"."""

    names: tuple[str, ...]
    template: str | None = None
    sentence: str | None = None
    domain: str | None = None
    attributes: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("names")
    @classmethod
    def _all_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(" ".join(name.split()) for name in names)
        if not names:
            raise ValueError("no class name in it; write one a line")
        seen: dict[str, int] = {}
        for number, name in enumerate(names, start=1):
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise ValueError(f"class {number} is {name!a}, which holds half a character and cannot be written")
            if any(unicodedata.category(letter) == "Cc" for letter in name):
                raise ValueError(f"class {number} is {name!a}, which holds a control character; is this a text file?")
            if not name:
                raise ValueError(f"class {number} has an empty name")
            if (first := seen.setdefault(alike(name), number)) != number:
                raise ValueError(f"classes {first} and {number} are both {name!r}; add what tells them apart, as in 'crane (bird)'")
        return names


def alike(name: str) -> str:
    """A key that is equal for names that look the same to a reader: with other capitals, or accents in one character or two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_images(source: Path, besides: Path | None = None) -> Found:
    """Find the images of a source: a folder (at any depth), a text file that lists images, or a single image.

    A text file has one path in each line (or NUL between paths, as `find -print0` writes them), relative to that file. The suffix
    decides what is an image. Hidden files and links that lead out of the folder are left out, with the reason. besides: a folder of
    results, which may be inside the folder of images and is skipped. Raises FileNotFoundError for a missing source, and ValueError
    if it has no image.
    """
    if source.is_dir():
        base, met = source, _walk(source, besides.resolve() if besides else None)
    elif source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        base, met = source.parent, iter([source])
    elif source.is_file():
        base, met = source.parent, _listed(source)
    else:
        raise FileNotFoundError(f"{source}: neither a folder of images nor a file that lists some")
    paths, left_out = [], []
    for path in dict.fromkeys(met):
        reason = _unfit(path, base if source.is_dir() else None)
        if reason is None:
            paths.append(path)
        else:
            left_out.append((_name(path, base), reason))
    if not paths:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{source}: no image among {len(left_out)} files; known by their suffixes: {known}")
    return Found(base, paths, [_name(path, base) for path in paths], left_out)


def read_classes(file: Path) -> Classes:
    """Read class names from a text file with one name in each line, or from YAML: a list, or a mapping with `classes` (a list, or names
    with their attributes), `template`, `sentence` and `domain`. Raises ValueError with the file and what is wrong in it."""
    text = _text(Path(file))
    try:
        if Path(file).suffix.lower() not in (".yaml", ".yml"):
            return Classes(names=tuple(line.strip() for line in text.splitlines() if line.strip()))
        return _from_yaml(yaml.safe_load(text))
    except ValidationError as error:
        told = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()[:5]]
        raise ValueError(f"{file}: {'; '.join(what if where in ('', 'names') else f'{where}: {what}' for where, what in told)}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: {error}") from None


def read_labelled(file: Path, base: Path, names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Read paths and class numbers from a CSV with the columns `path` (relative to the folder of images or to the CSV, or absolute) and
    `label`. Raises ValueError, with the line, for an unknown class, a missing image, or an image with two labels."""
    try:
        reader = csv.DictReader(io.StringIO(_text(file), newline=""))
        if missing := {"path", "label"} - set(reader.fieldnames or ()):
            raise ValueError(f"{file}: no column {' or '.join(sorted(missing))} in its first line; it needs path,label")
        rows = [(reader.line_num, row["path"] or "", " ".join((row["label"] or "").split())) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{file}: no CSV: {error}") from None
    found: dict[Path, tuple[Path, int]] = {}  # the key is the resolved path, so that two paths to one file are equal
    for line, name, label in rows:
        if label not in names:
            raise ValueError(f"{file}, line {line}: no class {label!r}{nearest(label, names)}")
        path = next((folder / name for folder in (base, file.parent) if (folder / name).is_file()), None)
        if path is None:
            raise ValueError(f"{file}, line {line}: no image {name!r} in {base} or {file.parent}")
        _, known = found.setdefault(path.resolve(), (path, names.index(label)))
        if known != names.index(label):
            raise ValueError(f"{file}, line {line}: {name!r} has two labels, {names[known]!r} and {label!r}")
    if not found:
        raise ValueError(f"{file}: no labelled image in it")
    return [path for path, _ in found.values()], [label for _, label in found.values()]


def printable(path: Path | str) -> str:
    """A path as valid text: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _text(file: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark. Raises ValueError for a folder or another encoding."""
    if file.is_dir():
        raise ValueError(f"{file}: a folder; a text file is needed")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def _name(path: Path, base: Path) -> str:
    return printable(path.relative_to(base) if path.is_relative_to(base) else path)


def _walk(folder: Path, besides: Path | None) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if (Path(place) / name).resolve() != besides]
        closed = [name for name in folders if name.startswith(".") or (Path(place) / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(closed))
        yield from (Path(place) / name for name in sorted([*files, *closed]))


def _raise(error: OSError) -> None:
    """Raise the error of a folder that cannot be read; `os.walk` would skip it silently."""
    raise error


def _listed(file: Path) -> Iterator[Path]:
    content = file.read_bytes()
    for line in content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            yield file.parent / os.fsdecode(line if b"\0" in content else line.strip())


def _unfit(path: Path, base: Path | None) -> str | None:
    """Why a file is not used as an image, or None if it is. base: the folder that links must not leave."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return "a linked folder" if path.is_dir() else f"{path.suffix.lower() or 'without a suffix'}: no image by its name"
    try:
        told = path.stat()
        outside = base is not None and path.is_symlink() and not path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError) as error:
        return f"not there: {error.strerror if isinstance(error, OSError) else error}"
    if outside:
        return "a link that leads out of the folder"
    if not stat.S_ISREG(told.st_mode):
        return "no regular file"
    return None if told.st_size else "empty: it has no byte"


def _from_yaml(data: object) -> Classes:
    if isinstance(data, list):
        data = {"classes": data}
    if not isinstance(data, dict) or "classes" not in data:
        raise ValueError("a list of class names is needed, or a mapping with `classes`")
    given = {str(key): value for key, value in data.items() if key != "classes"}
    if wrong := {"names", "attributes"} & given.keys():
        raise ValueError(f"unknown field {min(wrong)!r}; attributes stand under the name of their class in `classes`")
    classes = data["classes"]
    if isinstance(classes, dict):
        given["attributes"] = {" ".join(str(name).split()): phrases for name, phrases in classes.items() if phrases}
        classes = list(classes)
    if not isinstance(classes, list):
        raise ValueError("`classes` is neither a list of names nor a mapping from names to attributes")
    for number, name in enumerate(classes, start=1):
        if not isinstance(name, str):
            raise ValueError(f"class {number} is {name!r}, which YAML reads as {type(name).__name__}; put quotes around it")
    return Classes(names=tuple(classes), **given)


def readable(found: Found, images: Images) -> tuple[list[int], list[tuple[str, str]]]:
    """The numbers of the found images that could be read, and all files without a label, with a reason that says what to do."""
    kept = [i for i in range(len(found.paths)) if i not in images.skipped]
    return kept, [*found.left_out, *((found.names[i], _told(reason)) for i, reason in images.skipped.items())]


def _told(reason: str) -> str:
    """The error of the image library in plain words."""
    if "decompression bomb" in reason:
        pixels, limit = (int(number) for number in re.findall(r"\d+", reason)[:2])
        return f"too large: {pixels:,} pixels, more than {limit:,}; save it smaller"
    if reason.startswith("cannot identify image file"):
        return "no image inside: the file is damaged, or its suffix is wrong; save the image again as PNG or JPEG"
    return reason
