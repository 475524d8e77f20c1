"""Read the user's input: images in a folder or a list, class names in a file, examples with labels. All input is untrusted."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from gta.data import folders
from gta.encoders.images import Images
from gta.files import IMAGE_SUFFIXES, yaml_of
from gta.label.tables import parsed
from gta.label.taxonomy import refuse_strangers
from gta.names import alike, nearest, printable
from gta.settings import Checked

VIDEO_SUFFIXES = {".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv"}
NO_READER = "a video; pip install 'gta-clip[video]' reads its frames"


@dataclass(frozen=True)
class Found:
    """Images to read. paths: where they are; names: their names in the results, relative to `base`; left_out: (name, reason) of every
    other file that was found; videos: (path, name) of those whose frames can be read (`gta.label.videos`)."""

    base: Path
    paths: list[Path]
    names: list[str]
    left_out: list[tuple[str, str]]
    videos: tuple[tuple[Path, str], ...] = ()

    def without(self, gone: Iterable[Path]) -> "Found":
        """The same without some files. Two paths to one file count as the same file."""
        files = {path.resolve() for path in gone}
        kept = [(path, name) for path, name in zip(self.paths, self.names, strict=True) if path.resolve() not in files]
        return replace(self, paths=[path for path, _ in kept], names=[name for _, name in kept])


class Classes(Checked):
    """Class names and what the user says about them. template, sentence: texts of a class, without and with an attribute, None for
    those of the domain; domain: selects the questions to the language model (`gta/llm/prompts.yaml`); attributes: the user's phrases
    about a class, such as "a hooked bill"; parents, ranks: the tree above the classes, as `gta.label.taxonomy.Taxonomy.of` takes it."""

    names: tuple[str, ...]
    template: str | None = None
    sentence: str | None = None
    domain: str | None = None
    attributes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    parents: dict[str, str] = Field(default_factory=dict)
    ranks: tuple[str, ...] = ()

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


def find_images(source: Path, besides: Path | None = None, links_to: Path | None = None) -> Found:
    """Find the images of a source: a folder (at any depth), a text file that lists images, or a single image.

    A text file has one path in each line (or NUL between paths, as `find -print0` writes them), relative to that file. What is an image
    is the rule of `gta.data.folders`. besides: a folder of results, which may be inside the folder of images and is skipped. links_to:
    a folder outside to which links may lead. Raises FileNotFoundError for a missing source, and ValueError if it has no image.
    """
    links = folders.Links()
    if source.is_dir():
        base, links = source, folders.Links.of(source, links_to)
        paths, left_out = folders.images(base, links, besides)
    elif source.is_file():
        base = source.parent
        met = dict.fromkeys([source] if source.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES else _listed(source))
        reasons = {path: folders.unfit(path, links) for path in met}
        paths = [path for path, reason in reasons.items() if reason is None]
        left_out = [(path, reason) for path, reason in reasons.items() if reason is not None]
    else:
        raise FileNotFoundError(f"{source}: neither a folder of images nor a file that lists some")
    left_out, videos = _with_videos(left_out, links)
    if not paths and not videos:
        raise ValueError(f"{source}: no image among {len(left_out)} files{_why(left_out, base)}")
    told = [(name_of(path, base), reason) for path, reason in left_out]
    return Found(base, paths, [name_of(path, base) for path in paths], told, tuple((path, name_of(path, base)) for path in videos))


def _with_videos(left_out: list[tuple[Path, str]], links: folders.Links) -> tuple[list[tuple[Path, str]], list[Path]]:
    """What is left out, and the videos among it; where nothing reads them they are left out with the mend."""
    kept: list[tuple[Path, str]] = []
    videos: list[Path] = []
    for path, reason in left_out:
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.is_dir():
            kept.append((path, reason))
        elif (why := folders.unfit(path, links, VIDEO_SUFFIXES)) is not None:
            kept.append((path, why))
        elif find_spec("av") is None:
            kept.append((path, NO_READER))
        else:
            videos.append(path)
    return kept, videos


def _why(left_out: list[tuple[Path, str]], base: Path) -> str:
    """Why there is no image, and what the user can do."""
    told = f": {folders.told(left_out, base)}" if left_out else ""
    if outside := next((path for path, reason in left_out if reason.endswith(folders.OUTSIDE)), None):
        return f"{told}; --links-to {printable(outside.resolve().parent)} follows such links"
    named = any(path.suffix.lower() in IMAGE_SUFFIXES for path, _ in left_out)
    return told if named else f"{told}; known by their suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}"


def read_classes(file: Path) -> Classes:
    """Read class names from a text file with one name in each line, or from YAML: a list, or a mapping with `classes` (a list, or names
    with their attributes, or with `attributes` and `parent`), `parents`, `ranks`, `template`, `sentence` and `domain`. Raises ValueError
    with the file and what is wrong in it."""
    text = _text(Path(file))
    try:
        if Path(file).suffix.lower() not in (".yaml", ".yml"):
            return Classes(names=tuple(line.strip() for line in text.splitlines() if line.strip()))
        return _from_yaml(yaml_of(text))
    except ValidationError as error:
        told = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()[:5]]
        raise ValueError(f"{file}: {'; '.join(what if where in ('', 'names') else f'{where}: {what}' for where, what in told)}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: {error}") from None


def read_labelled(file: Path, base: Path, names: Sequence[str], unanswered: bool = False) -> tuple[list[Path], list[int]]:
    """Read paths and class numbers from a CSV with the columns `path` (relative to the folder of images or to the CSV, or absolute) and
    `label`. unanswered: lines without a label are passed over. Raises ValueError, with the line, for an unknown class, a missing image,
    or an image with two labels."""
    given = parsed(_text(file), file, ("path", "label"))[1]
    rows = [(line, row["path"] or "", " ".join((row["label"] or "").split())) for line, row in given]
    found: dict[Path, tuple[Path, int]] = {}  # the key is the resolved path, so that two paths to one file are equal
    for line, text, label in rows:
        if unanswered and not label:
            continue
        name = os.fsdecode(text.encode())  # the bytes of a path are UTF-8, whatever the locale
        if label not in names:
            raise ValueError(f"{file}, line {line}: no class {label!r}{nearest(label, names)}")
        path = next((folder / name for folder in (base, file.parent) if (folder / name).is_file()), None)
        if path is None:
            raise ValueError(f"{file}, line {line}: no image {text!r} in {base} or {file.parent}")
        _, known = found.setdefault(path.resolve(), (path, names.index(label)))
        if known != names.index(label):
            raise ValueError(f"{file}, line {line}: {text!r} has two labels, {names[known]!r} and {label!r}")
    if not found and not unanswered:
        raise ValueError(f"{file}: no labelled image in it")
    return [path for path, _ in found.values()], [label for _, label in found.values()]


def _text(file: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark. Raises ValueError for a folder or another encoding."""
    if file.is_dir():
        raise ValueError(f"{file}: a folder; a text file is needed")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def name_of(path: Path, base: Path) -> str:
    """What the results call an image: its path in the folder of images, or the whole path of one that lies elsewhere."""
    return printable(path.relative_to(base) if path.is_relative_to(base) else path)


def _listed(file: Path) -> Iterator[Path]:
    content = file.read_bytes()
    for line in content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            yield file.parent / os.fsdecode(line if b"\0" in content else line.strip())


def _from_yaml(data: object) -> Classes:
    if isinstance(data, list):
        data = {"classes": data}
    if not isinstance(data, dict) or "classes" not in data:
        raise ValueError("a list of class names is needed, or a mapping with `classes`")
    given = {str(key): value for key, value in data.items() if key != "classes"}
    if wrong := {"names", "attributes"} & given.keys():
        raise ValueError(f"unknown field {min(wrong)!r}; attributes stand under the name of their class in `classes`")
    classes = data["classes"]
    parents = given.pop("parents", None) or {}
    if isinstance(classes, dict):
        told = {" ".join(str(name).split()): _of_class(name, of) for name, of in classes.items()}
        given["attributes"] = {name: phrases for name, (phrases, _) in told.items() if phrases}
        parents = _with_parents(parents, {name: parent for name, (_, parent) in told.items() if parent is not None})
        classes = list(classes)
    if not isinstance(classes, list):
        raise ValueError("`classes` is neither a list of names nor a mapping from names to attributes")
    for number, name in enumerate(classes, start=1):
        if not isinstance(name, str):
            raise ValueError(f"class {number} is {name!r}, which YAML reads as {type(name).__name__}; put quotes around it")
    found = Classes(names=tuple(classes), parents=_with_parents(parents, {}), **given)
    refuse_strangers(found.names, found.parents)
    return found


def _of_class(name: object, of: object) -> tuple[object, object]:
    """What stands under the name of a class: its attributes and its parent, which may be None."""
    if not isinstance(of, dict):
        return of, None
    if wrong := of.keys() - {"attributes", "parent"}:
        raise ValueError(f"class {name!r}: unknown field {min(map(str, wrong))!r}; it may have attributes and parent")
    return of.get("attributes"), of.get("parent")


def _with_parents(parents: object, of_classes: dict[str, object]) -> dict[str, str]:
    """{child: parent} of `parents` and of the classes. Raises ValueError for what is no name, and for a child with two parents."""
    if not isinstance(parents, dict):
        raise ValueError("`parents` is no mapping from a name to its parent")
    found: dict[str, str] = {}
    for child, parent in [*parents.items(), *of_classes.items()]:
        for name in (child, parent):
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"parent of {child!r}: {name!r} is {type(name).__name__}, not a name; put quotes around it")
        child, parent = (" ".join(name.split()) for name in (child, parent))
        if found.setdefault(child, parent) != parent:
            raise ValueError(f"{child!r} has two parents, {found[child]!r} and {parent!r}; leave one of them")
    return found


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
