"""Features of images by an encoder that has not adapted yet, kept by image content in shards: only new images are encoded.

A shard is a safetensors file of at most `BLOCK` images: `keys` (n, 32) uint8, SHA-256 of the pixels that the encoder reads, and `features`
(n, d), unit rows. Any number of processes may encode the same images into the same folder at once, also on several machines that share it:
each takes the next shard that no other holds, by a lock on its file, and a killed one leaves what it finished.
"""

import hashlib
import sys
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from gta.encoders.image_encoder import ImageEncoder
from gta.encoders.images import Images
from gta.files import load_tensors, save_tensors

BLOCK = 2048  # images of a shard: what a killed process loses at most


def features_of(encoder: ImageEncoder, images: Images, folder: Path, progress: bool = True) -> Tensor:
    """Unit features (N, d) on the CPU; those that `folder` does not hold yet are encoded and added to it.

    Shards lie in a folder named by the weights, the preprocessing, the kind of device and the arithmetic; a damaged one is made again.
    """
    kind = f"{encoder.weights_sha256} {encoder.preprocessing} {encoder.device.type} {encoder.dtype}"
    shards = _Shards(encoder, images, Path(folder) / hashlib.sha256(kind.encode()).hexdigest()[:16])
    for file in sorted(shards.folder.glob("*.safetensors")):
        shards.read(file)
    blocks = [shards.keys[start : start + BLOCK] for start in range(0, len(shards.keys), BLOCK)]  # of all images: all processes cut alike
    left = len(shards.keys) - len(shards.held)
    with tqdm(total=left, desc="encoding", unit="image", delay=5, disable=not progress) as bar:
        for wait in (False, True):  # first what no other process holds; then what others held, mostly only to read it
            for block in blocks:
                if not shards.held.issuperset(block):
                    shards.take(block, wait)
                    bar.update(left - (len(shards.keys) - len(shards.held)) - bar.n)
    assert shards.features is not None
    return shards.features


class _Shards:
    """keys: of the images, each once; held: those that have features; features: (N, d), None until the first are known."""

    def __init__(self, encoder: ImageEncoder, images: Images, folder: Path):
        self.encoder, self.images, self.folder = encoder, images, folder
        self.rows: dict[bytes, list[int]] = {}  # copies of an image share one feature
        for row in range(len(images)):
            self.rows.setdefault(images.key(row), []).append(row)
        self.keys, self.held, self.features = list(self.rows), set[bytes](), None  # type: list[bytes], set[bytes], Tensor | None

    def read(self, file: Path) -> None:
        """Put the features of a shard in their places; nothing of a damaged one."""
        try:
            held = load_tensors(file)
            self._put([bytes(key) for key in held["keys"].numpy()], held["features"])
        except (OSError, KeyError, ValueError):
            return

    def take(self, block: list[bytes], wait: bool) -> None:
        """Read what another process has written of a block since, encode the rest, and write it. Nothing while another does so."""
        name = hashlib.sha256(b"".join(block)).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.safetensors"
        try:
            with FileLock(self.folder / f".{name}.lock", timeout=-1 if wait else 0):
                self.read(file)
                new = [key for key in block if key not in self.held]
                if new:
                    self._put(new, self.encoder.encode_images(self.images.pixels[[self.rows[key][0] for key in new]]).cpu())
                    self._write(file, block if file.exists() else new)
        except Timeout:
            return

    def _put(self, keys: list[bytes], features: Tensor) -> None:
        if self.features is None:
            self.features = features.new_empty(len(self.images), features.shape[1])
        for key, feature in zip(keys, features, strict=True):
            if key in self.rows:
                self.features[self.rows[key]] = feature
                self.held.add(key)

    def _write(self, file: Path, keys: list[bytes]) -> None:
        assert self.features is not None
        ids = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, 32)
        try:
            save_tensors(file, {"keys": ids, "features": self.features[[self.rows[key][0] for key in keys]]})
        except OSError as error:  # of a full disk
            print(f"features are not kept for later: {error}. The run goes on", file=sys.stderr)
