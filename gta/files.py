"""Files that are either whole or absent, and hashes of what is in them."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).parent
_CHECKOUT = (PACKAGE.parent / "data_manifests").is_dir()
# Where relative paths begin: the repository, or where an installed package is used.
ROOT = PACKAGE.parent if _CHECKOUT else Path.cwd()
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


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
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write a whole file in one step, as `replacing` does."""
    with replacing(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(file: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
