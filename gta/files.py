"""Files that are either whole or absent, and hashes of what is in them."""

import hashlib
import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent  # of the repository: notebooks give paths relative to it
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write to a temporary file beside `file`, then rename: a reader sees the old content or the new, never a part."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256(file: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
