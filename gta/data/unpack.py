"""Unpack downloaded archives safely: an archive can write only into its folder.

An archive is refused if it contains an absolute path, a `..`, a link, a device, a duplicate name, or more bytes than allowed. Its members
go into a temporary folder, which is used only if all members are valid.
"""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
NOISE = ("__MACOSX", ".DS_Store", "._")  # files that macOS adds


class BadArchive(ValueError):
    """An archive is broken, too large, or would write outside of its folder."""


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVES)


@contextmanager
def unpacked(archive: Path, beside: Path, max_bytes: int) -> Iterator[Path]:
    """Unpack an archive, and the archives in it, into a temporary folder below `beside`, which is removed afterwards.

    max_bytes: the largest unpacked size of all members together. Raises BadArchive, with archive and member.
    """
    beside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=beside, prefix=".unpack-"))
    try:
        left = _unpack(archive, folder, max_bytes)
        for inner in sorted(file for file in folder.rglob("*") if file.is_file() and is_archive(file.name)):
            left = _unpack(inner, inner.parent, left)
            inner.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into(source: Path, target: Path) -> None:
    """Move every file of a folder into another one. Existing files are replaced."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def _unpack(archive: Path, folder: Path, left: int) -> int:
    """Unpack into a folder. left: how many bytes are allowed; returns how many are still allowed afterwards."""
    try:
        for name, content in _members(archive):
            path = PurePosixPath(name)
            if any(part.startswith(NOISE) for part in path.parts):
                continue
            _check_name(archive, name)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with content as stream, open(target, "xb") as out:
                while chunk := stream.read(min(1 << 20, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise BadArchive(f"{archive}: more bytes than allowed, at {name!r}")
                    out.write(chunk)
    except FileExistsError as error:
        raise BadArchive(f"{archive}: {Path(error.filename).relative_to(folder)} is there twice") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise BadArchive(f"{archive}: {error}") from error
    return left


def _check_name(archive: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise BadArchive(f"{archive}: {name!r} would be written outside of its folder")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file of an archive. Raises BadArchive for a member that is not a file or a folder."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise BadArchive(f"{archive}: {info.filename!r} is a link or a device")
                if info.is_dir():
                    _check_name(archive, info.filename)
                else:
                    yield info.filename, zipped.open(info)
        return
    with tarfile.open(archive, "r|*") as tar:  # a stream: members are read once, in order
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                raise BadArchive(f"{archive}: {member.name!r} is a link or a device")
            content = tar.extractfile(member)
            assert content is not None
            yield member.name, content
