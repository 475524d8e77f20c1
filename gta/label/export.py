"""Labels in the forms of other tools: `python -m gta export`.

An export is a folder that appears in one step, whole. Until then it grows in a hidden folder beside, from which the same command goes on
after a kill. What is there already is never changed: a folder with the same content is fine, any other is an error.
"""

import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from gta.label.formats import FORMATS, Choices, Files
from gta.label.labelled import Labelled, read

COPY, LINK = "copy", "link"
WITH_IMAGES = ("imagefolder", "fiftyone")  # the forms that may hold the images themselves


def export(folder: Path, to: str, out: Path, media: str | None = None, images: Path | None = None, url: str | None = None) -> str:
    """Write the labels of a folder in the form `to`, a key of `FORMATS`, into the new folder `out`. Returns what to tell.

    media: `copy` or `link`, whether images become part of the export; images: the folder where they lie now, if not where they were
    labelled; url: what Label Studio reads before the path of an image. Raises ValueError and OSError that name the file.
    """
    if media and to not in WITH_IMAGES:
        raise ValueError(f"--{media}: the form {to} holds no images; it is for {' and '.join(WITH_IMAGES)}")
    if url is not None and to != "labelstudio":
        raise ValueError(f"--url is for labelstudio; the form {to} has no addresses")
    if out.suffix.lower() in (".csv", ".json", ".parquet", ".xml") and not out.is_dir():
        raise ValueError(f"--out {out}: an export is a folder; name one without {out.suffix}")
    labelled = read(folder, images)
    if media and labelled.base is not None and _among(out, labelled.base, folder):
        raise ValueError(
            f"--out {out} is in {labelled.base}, where the next run would label it too; name another folder, or one in {folder}"
        )
    files = FORMATS[to](labelled, Choices(media is not None, url))
    place(files, Path(os.path.abspath(out)), media == LINK)
    return _told(labelled, files, out, to)


def place(files: Files, out: Path, link: bool = False) -> None:
    """Make the folder `out` of {name: bytes, or an image to copy or to link to}, in one step; nothing where it is there already.

    Raises FileExistsError, with the file, where there is another folder or file, and OSError, with the mend, where one cannot be written.
    """
    part = out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{part}.lock")
    with FileLock(lock):
        try:
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                _same(files, out, link)
                return
            _fill(files, part, link)
            if out.exists():
                out.rmdir()
            part.replace(out)
        finally:
            lock.unlink(missing_ok=True)


def _same(files: Files, out: Path, link: bool) -> None:
    """Raise FileExistsError unless the folder holds the files and nothing else."""
    mend = "nothing is overwritten; name another --out, or move it away"
    if not out.is_dir():
        raise FileExistsError(f"{out}: a file; {mend}")
    for file in _within(out):
        if file.relative_to(out).as_posix() not in files:
            raise FileExistsError(f"{file}: no part of this export; {mend}")
    for name, content in files.items():
        if not _holds(out / name, content, link):
            raise FileExistsError(
                f"{out / name}: {'another content' if (out / name).exists() else 'missing, and other files are there'}; {mend}"
            )


def _fill(files: Files, part: Path, link: bool) -> None:
    """Bring our own hidden folder to what is wanted, whatever a killed run left in it."""
    for file in list(_within(part)):
        if file.relative_to(part).as_posix() not in files:
            file.unlink()
    for name, content in files.items():
        file = part / name
        if _holds(file, content, link):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif link:
                file.symlink_to(content.resolve())
            else:
                shutil.copy2(content, file)
        except OSError as error:
            what = "; --copy needs no links" if link else ""
            raise OSError(f"{file}: {error}{what}; what is done stays there, and the same command goes on") from error
    for place, inner, found in os.walk(part, topdown=False):  # folders of classes that no image has any more
        if not inner and not found and place != str(part):
            os.rmdir(place)


def _holds(file: Path, content: bytes | Path, link: bool) -> bool:
    """Whether a file is there and is what is wanted."""
    if isinstance(content, bytes):
        return file.is_file() and not file.is_symlink() and file.read_bytes() == content
    if link or file.is_symlink():
        return link and file.is_symlink() and file.readlink() == content.resolve()
    return file.is_file() and filecmp.cmp(content, file, shallow=False)


def _within(folder: Path) -> Iterator[Path]:
    for place, inner, files in os.walk(folder):
        yield from (Path(place) / name for name in files)
        yield from (Path(place) / name for name in inner if (Path(place) / name).is_symlink())


def _among(out: Path, base: Path, folder: Path) -> bool:
    """Whether `out` is in the folder of images, and not in the folder of results, which is passed over."""
    return out.resolve().is_relative_to(base.resolve()) and not out.resolve().is_relative_to(folder.resolve())


def _told(labelled: Labelled, files: Files, out: Path, to: str) -> str:
    reviewed, without = (sum(map(bool, of)) for of in ([row.reviewed for row in labelled.rows], [not row.label for row in labelled.rows]))
    lines = [f"{len(labelled.rows):,} images, {reviewed:,} of them reviewed, {without:,} without a label: {out}"]
    if to == "imagefolder" and len(files) == 1:
        lines.append("a listing alone; --copy or --link makes the folders")
    if to == "labelstudio" and labelled.base is not None:
        root = os.path.abspath(labelled.base)
        lines.append(
            f"Label Studio: LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={Path(root).parent};"
        )
        lines.append(f"a project with config.xml, {root} as its local storage, then import tasks.json")
    return "\n".join(lines)
