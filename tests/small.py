"""Small things that tests of several rooms need: a row, a count of encoded images, a CLIP of a few thousand weights, a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from gta.encoders.encoder import Encoder
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
    calls, encode = [], Encoder.encode_images

    def count(self, pixels, *arguments, **options):
        calls.append(len(pixels))
        return encode(self, pixels, *arguments, **options)

    monkeypatch.setattr(Encoder, "encode_images", count)
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
