"""Features of images by an encoder that has not adapted yet, kept by image content: only new images are encoded."""

import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gta.encoders.image_encoder import ImageEncoder
from gta.encoders.images import Images
from gta.files import load_tensors, save_tensors

BLOCK = 2048  # images that a killed run loses at most


def features_of(encoder: ImageEncoder, images: Images, folder: Path, progress: bool = True) -> Tensor:
    """Unit features (N, d) on the CPU; those that `folder` does not hold yet are encoded and added to it.

    The file is named by the weights, the preprocessing, the kind of device and the arithmetic; a damaged one is made again.
    """
    kind = f"{encoder.weights_sha256} {encoder.preprocessing} {encoder.device.type} {encoder.dtype}"
    file = Path(folder) / f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}.safetensors"
    known = _read(file)
    keys = [images.key(row) for row in range(len(images))]
    new = [row for key, row in {key: row for row, key in enumerate(keys)}.items() if key not in known]
    bar = tqdm(total=len(new), desc="encoding", unit="image", delay=5, disable=not progress)
    for start in range(0, len(new), BLOCK):
        rows = new[start : start + BLOCK]
        features = encoder.encode_images(images.pixels[rows]).cpu()
        known |= {keys[row]: feature for row, feature in zip(rows, features, strict=True)}
        _write(file, known)
        bar.update(len(rows))
    bar.close()
    return torch.stack([known[key] for key in keys])


def _read(file: Path) -> dict[bytes, Tensor]:
    try:
        held = load_tensors(file)
        return {bytes(key.tolist()): feature for key, feature in zip(held["keys"], held["features"], strict=True)}
    except (OSError, KeyError, ValueError):
        return {}


def _write(file: Path, known: dict[bytes, Tensor]) -> None:
    keys = torch.tensor([list(key) for key in known], dtype=torch.uint8)
    try:
        save_tensors(file, {"keys": keys, "features": torch.stack(list(known.values()))})
    except OSError as error:  # of a full disk
        print(f"features are not kept for later: {error}. The run goes on", file=sys.stderr)
