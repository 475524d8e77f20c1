"""The one rule for a user's folder of images: which file is an image, which folder is a class, and why the rest is left out.

`gta label` and `predict`, folder datasets and the folders of peers all read through it. An image is a file with the suffix of an image
and at least one byte. A class is a sub-folder; its images may lie at any depth.
"""

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gta.encoders.decode import why_unread
from gta.files import IMAGE_SUFFIXES
from gta.names import alike, printable

# Folders that programs leave among a user's own: archives of macOS, network drives, Windows, disk checks.
NOT_THE_USERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
OUTSIDE = "that leads out of the folder"  # how the reason of a link ends that is not followed
POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Links:
    """Where links may lead. folders: resolved; None: anywhere."""

    folders: tuple[Path, ...] | None = None

    @classmethod
    def of(cls, base: Path, allowed: Path | None = None) -> "Links":
        """Links inside `base`, to where its own repository keeps contents (a snapshot of the Hub, DVC, git-annex), and to `allowed`."""
        base = base.resolve()
        stores = [base, base.parent / "blobs"]
        for above in (base, *base.parents):
            stores += [above / ".dvc/cache", above / ".git/annex/objects"]
            stores += [above.parent / "blobs"] if above.name == "snapshots" else []
        return cls((*stores, *([allowed.resolve()] if allowed else [])))

    def allow(self, path: Path) -> bool:
        return self.folders is None or any(path.resolve().is_relative_to(folder) for folder in self.folders)


def images(base: Path, links: Links, besides: Path | None = None) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The images below a folder, and every other file and closed folder with the reason. besides: a folder that is passed over."""
    kept: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    for path, reason in _walk(base, links, besides.resolve() if besides else None, {base.resolve(), *base.resolve().parents}):
        reason = reason or unfit(path, links)
        if reason is None:
            kept.append(path)
        else:
            left_out.append((path, reason))
    return kept, left_out


def classes(base: Path) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """The images of the sub-folders, each with the name of its sub-folder, in order; and what is left out, with the reason.

    Links are followed wherever they lead. Raises ValueError for two folders whose names look the same as names of classes, and where
    the sub-folders hold further folders of images alone, as those of splits do.
    """
    found, left_out = images(base, Links())
    inner: dict[str, set[str]] = {}
    for path in found:
        parts = path.relative_to(base).parts
        if len(parts) > 1:
            inner.setdefault(parts[0], set()).add(parts[1] if len(parts) > 2 else "")
    splits = [name for name, within in inner.items() if len(within) > 1]
    if splits and not any("" in within for within in inner.values()):
        deeper = Path(splits[0], min(inner[splits[0]]))
        raise ValueError(
            f"{base}: {', '.join(sorted(inner))} hold no image themselves, but folders of images, such as {deeper}; "
            f"name the folder whose sub-folders are the classes, such as {base / splits[0]}"
        )
    named: dict[str, str] = {}
    for name in sorted(inner):
        if (other := named.setdefault(alike(class_name(name)), name)) != name:
            raise ValueError(f"{base}: the folders {other!r} and {name!r} are one name, {class_name(name)!r}; rename one, or join them")
    left_out += [(path, "in no sub-folder, so of no class") for path in found if path.parent == base]
    closed = {path for path, _ in left_out}
    left_out += [(base / name, "a folder without an image") for name in _folders(base) if name not in inner and base / name not in closed]
    return sorted((path, path.relative_to(base).parts[0]) for path in found if path.parent != base), left_out


def class_name(folder: str) -> str:
    """The name of the class of a folder."""
    return printable(folder).replace("_", " ")


def told(left_out: Sequence[tuple[Path, str]], base: Path) -> str:
    """What was left out, in words: each reason with a number and an example."""
    examples = {reason: path for path, reason in reversed(left_out)}
    lines = []
    for reason, count in Counter(reason for _, reason in left_out).most_common():
        example = examples[reason]
        where = f" to {printable(example.resolve())}" if reason.endswith(OUTSIDE) else ""
        lines.append(f"{printable(example.relative_to(base))}{where}{f' and {count - 1:,} more' if count > 1 else ''} ({reason})")
    return ", ".join(lines)


def unfit(path: Path, links: Links, suffixes: Collection[str] = IMAGE_SUFFIXES) -> str | None:
    """Why a file is not used as an image, or as what has other suffixes, or None if it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in suffixes:
        return f"{path.suffix.lower() or 'without a suffix'}: no image by its name"
    if why := why_unread(path.suffix.lower()):
        return f"{path.suffix.lower()}: {why}"
    try:
        status = path.stat()
        outside = path.is_symlink() and not links.allow(path)
    except (OSError, RuntimeError) as error:
        return f"not there: {'a link to a file that is missing' if path.is_symlink() else getattr(error, 'strerror', error)}"
    if outside:
        return f"a link {OUTSIDE}"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    if not status.st_size:
        return "empty: it has no byte"
    if status.st_size < 1024 and path.read_bytes().startswith(POINTER):
        return "a pointer of Git LFS in place of the image; git lfs pull brings it"
    return None


def _walk(folder: Path, links: Links, besides: Path | None, seen: set[Path]) -> Iterator[tuple[Path, str | None]]:
    """Every file, and with a reason every folder that is not entered. seen: the folders that a link must not lead to again."""
    for place, inner, files in os.walk(folder, onerror=_raise):
        inner[:] = [name for name in inner if (Path(place) / name).resolve() != besides]
        closed = {name: reason for name in inner if (reason := _closed(Path(place) / name, links, seen))}
        linked = [name for name in inner if name not in closed and (Path(place) / name).is_symlink()]
        inner[:] = sorted(set(inner) - closed.keys() - set(linked))
        yield from ((Path(place) / name, closed.get(name)) for name in sorted([*files, *closed]))
        for name in sorted(linked):
            seen.add((Path(place) / name).resolve())
            yield from _walk(Path(place) / name, links, besides, seen)


def _closed(folder: Path, links: Links, seen: set[Path]) -> str | None:
    """Why a folder is not entered, or None."""
    if folder.name.startswith("."):
        return "hidden"
    if folder.name in NOT_THE_USERS:
        return "a folder of the system"
    if not folder.is_symlink():
        return None
    if not links.allow(folder):
        return f"a linked folder {OUTSIDE}"
    target = folder.resolve()
    inside = links.folders is not None and target.is_relative_to(links.folders[0])
    return "a linked folder, whose images are found where they are" if inside or target in seen else None


def _folders(base: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(base) if entry.is_dir())


def _raise(error: OSError) -> None:
    """Raise the error of a folder that cannot be read; `os.walk` would skip it silently."""
    raise error
