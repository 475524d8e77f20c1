"""Files that are either whole or absent, hashes of what is in them, and YAML that says each thing once."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = Path(__file__).parent
_CHECKOUT = (PACKAGE.parent / "data_manifests").is_dir()
# Where relative paths begin: the repository, or where an installed package is used.
ROOT = PACKAGE.parent if _CHECKOUT else Path.cwd()
MERGED = "tag:yaml.org,2002:merge"  # what a mapping of YAML takes over from another may be given again
IMAGE_SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def shipped(path: str) -> Path:
    """A file or folder of the repository that an installed package carries too: `data_manifests`, `notebooks`, `results/published.csv`."""
    return (PACKAGE.parent if _CHECKOUT else PACKAGE / "shipped") / path


@contextmanager
def replacing(file: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `file` that takes its place when the block ends well: a reader sees the old content or the
    new, never a part. sync: also after a power cut, which takes as long as the disk needs."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        yield Path(name)
        if sync:
            with open(name, "rb") as stream:
                os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # of a full disk, which names no file
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise


def closed_to(folder: Path) -> Path | None:
    """The nearest folder above `folder`, or itself, that exists, if nothing can be written in it; else None."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return None if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else there


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write a whole file in one step, as `replacing` does."""
    with replacing(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def save_tensors(file: Path, tensors: "dict[str, Tensor]", *, sync: bool = True) -> None:
    """Write a safetensors file in one step, as `replacing` does. Raises OSError, with the file, where it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with replacing(file, sync=sync) as temporary:
            save_file(tensors, temporary)
    except SafetensorError as error:  # such as of a full disk
        raise OSError(f"{file}: cannot be written: {error}") from error


def load_tensors(file: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file. Raises ValueError, with the file, if it is not whole, and OSError if it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with open(file, "rb") as stream:  # an error here names the file
        size = stream.seek(0, os.SEEK_END)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged or cut off: {size:,} bytes that are no whole safetensors file ({error})") from error


def sha256(file: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Once:
    """Makes a YAML loader refuse a key that is given twice, of which it would keep the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if key.tag != MERGED):
            name, line = repr(self.construct_object(key, deep=True)), key.start_mark.line + 1  # type: ignore[attr-defined]
            if name in lines:
                raise ValueError(f"line {line}: {name} is given twice, first in line {lines[name]}; leave one of them")
            lines[name] = line
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(Once, yaml.SafeLoader):
    """Its errors show the place, as those of the faster one in C do not."""


def yaml_of(text: str) -> Any:
    """What YAML says. Raises ValueError, with the line, for a key that is given twice, and yaml.YAMLError for what is no YAML."""
    return yaml.load(text, _Loader)
