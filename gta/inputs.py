"""What a user hands over: images in a folder or a list, class names in a file, examples with labels. All of it is untrusted."""

import csv
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from gta.files import IMAGE_SUFFIXES
from gta.names import nearest
from gta.settings import Checked


@dataclass(frozen=True)
class Found:
    """Images to read. paths: where they are; names: what results call them, relative to `base`; left_out: (name, reason) of
    every other file that was met."""

    base: Path
    paths: list[Path]
    names: list[str]
    left_out: list[tuple[str, str]]

    def without(self, gone: Iterable[Path]) -> "Found":
        """The same without some files, whatever path leads to them."""
        files = {path.resolve() for path in gone}
        kept = [(path, name) for path, name in zip(self.paths, self.names, strict=True) if path.resolve() not in files]
        return Found(self.base, [path for path, _ in kept], [name for _, name in kept], self.left_out)


class Classes(Checked):
    """Class names and what is known of them. template, sentence: a class as a text, and with an attribute, None for those of the
    domain; domain: whose questions a language model is asked (`gta/prompts.yaml`); attributes: phrases that a user has for a
    class, such as "a hooked bill"."""

    names: tuple[str, ...] = Field(min_length=1)
    template: str | None = None
    sentence: str | None = None
    domain: str | None = None
    attributes: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("names")
    @classmethod
    def _all_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(" ".join(name.split()) for name in names)
        seen: dict[str, int] = {}
        for number, name in enumerate(names, start=1):
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise ValueError(f"class {number} is {name!a}, which holds half a character and cannot be written")
            if not name:
                raise ValueError(f"class {number} has an empty name")
            if (first := seen.setdefault(name.casefold(), number)) != number:
                raise ValueError(f"classes {first} and {number} are both {name!r}; add what tells them apart, as in 'crane (bird)'")
        return names


def find_images(source: Path) -> Found:
    """The images of a folder at any depth, or those that a text file lists, a path a line (or with NUL between, as `find
    -print0` writes them), relative to that file. A single image is a list of one.

    What is an image is told by its suffix. Hidden files and links that lead out of the folder are left out, with the
    reason. Raises FileNotFoundError for a missing source, ValueError where it has no image.
    """
    if source.is_dir():
        base, met = source, _walk(source)
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
    """Class names, one a line, or YAML: a list, or a mapping with `classes` (a list, or names with their attributes), `template`,
    `sentence`, `domain`. Raises ValueError naming the file and what is wrong in it."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    try:
        if Path(file).suffix.lower() not in (".yaml", ".yml"):
            return Classes(names=tuple(line.strip() for line in text.splitlines() if line.strip()))
        return _from_yaml(yaml.safe_load(text))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}".removeprefix(": ") for e in error.errors()[:5]]
        raise ValueError(f"{file}: {'; '.join(told)}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: {error}") from None


def read_labelled(file: Path, base: Path, names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Paths and class numbers of a CSV with the columns `path` (relative to the folder of images, or to the CSV, or absolute)
    and `label`. Raises ValueError naming the line for an unknown class, a missing image, or one image under two labels."""
    with open(file, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := {"path", "label"} - set(reader.fieldnames or ()):
            raise ValueError(f"{file}: no column {' or '.join(sorted(missing))} in its first line; it needs path,label")
        rows = [(reader.line_num, row["path"] or "", " ".join((row["label"] or "").split())) for row in reader]
    found: dict[Path, int] = {}
    for line, name, label in rows:
        if label not in names:
            raise ValueError(f"{file}, line {line}: no class {label!r}{nearest(label, names)}")
        path = next((folder / name for folder in (base, file.parent) if (folder / name).is_file()), None)
        if path is None:
            raise ValueError(f"{file}, line {line}: no image {name!r} in {base} or {file.parent}")
        if found.setdefault(path, names.index(label)) != names.index(label):
            raise ValueError(f"{file}, line {line}: {name!r} has two labels, {names[found[path]]!r} and {label!r}")
    if not found:
        raise ValueError(f"{file}: no labelled image in it")
    return list(found), list(found.values())


def printable(path: Path | str) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _name(path: Path, base: Path) -> str:
    return printable(path.relative_to(base) if path.is_relative_to(base) else path)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        closed = [name for name in folders if name.startswith(".") or (Path(place) / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(closed))
        yield from (Path(place) / name for name in sorted([*files, *closed]))


def _raise(error: OSError) -> None:
    """A folder that cannot be read is not left out in silence."""
    raise error


def _listed(file: Path) -> Iterator[Path]:
    content = file.read_bytes()
    for line in content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            yield file.parent / os.fsdecode(line if b"\0" in content else line.strip())


def _unfit(path: Path, base: Path | None) -> str | None:
    """Why a file is none of the images, None where it is one. base: the folder that links must not leave."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return "a linked folder" if path.is_dir() else f"{path.suffix.lower() or 'without a suffix'}: no image by its name"
    try:
        kind = path.stat().st_mode
        outside = base is not None and path.is_symlink() and not path.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError) as error:
        return f"not there: {error.strerror if isinstance(error, OSError) else error}"
    if outside:
        return "a link that leads out of the folder"
    return None if stat.S_ISREG(kind) else "no regular file"


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
