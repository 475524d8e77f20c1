"""Small things that tests of several rooms need: a row, a count of encoded images, a tiny CLIP, a full disk, a Latin-1 locale."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gta.encoders.image_encoder import ImageEncoder
from gta.scores.rows import Row

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def row(**changes):
    values = dict(run_id="a", table="t", dataset="d", backbone="b", method="CLIP", seed=0, n_correct=1, n_total=3, accuracy=33.3333)
    values |= dict(baseline="CLIP", gain=0, gain_low=-1, gain_high=1, seconds=1, device="cpu", versions="v", weights="w", source_hash="s")
    return Row(**{**values, **changes})


def counted(monkeypatch):
    """How many images each call encodes."""
    calls, encode = [], ImageEncoder.encode_images

    def count(self, pixels, *arguments, **options):
        calls.append(len(pixels))
        return encode(self, pixels, *arguments, **options)

    monkeypatch.setattr(ImageEncoder, "encode_images", count)
    return calls


@contextmanager
def full_beyond(size: int) -> Iterator[None]:
    """A full disk: no file of this process can grow beyond so many bytes in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def latin_1(folder: Path) -> dict[str, str]:
    """The variables of a Latin-1 locale, which Debian's localedef makes in the folder; skips in words where there is none to make."""
    if not shutil.which("localedef"):
        pytest.skip("localedef is missing (Debian: apt install locales), so there is no Latin-1 locale to try")
    made = subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")], capture_output=True)
    if made.returncode and not (folder / "en_US.ISO-8859-1").is_dir():
        pytest.skip("localedef has no en_US or no ISO-8859-1 (Debian: apt install locales)")
    given = {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    asked = [sys.executable, "-c", "import locale; print(locale.getencoding())"]
    found = subprocess.run(asked, env={**os.environ, **given}, capture_output=True, encoding="ascii", check=True).stdout.strip()
    assert found == "ISO-8859-1", "else this would be the locale C"
    return given
