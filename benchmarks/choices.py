"""Measurements behind two choices, each a small table in results/benchmarks.

python benchmarks/choices.py views        # random crops from the file or from a kept original
python benchmarks/choices.py compile      # what torch.compile gains in encoding, and what it costs first
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from adapt import SEED, photographs
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resized_crop
from transduct import best, table

from gta import encoders
from gta.encoders.decode import decode
from gta.encoders.images import _original
from gta.files import ROOT, write_atomically

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def views() -> list[dict]:
    """One random crop to 224 pixels of a photograph, decoded from its file or taken from a kept original of up to c times 224 pixels
    on its shorter side: milliseconds, megabytes kept, and how far the crop's pixels are from those of the crop of the file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in ((500, 375), (1600, 1200)):
            photographs(folder / str(size[0]), 20, size)
            files = sorted((folder / str(size[0])).glob("*.jpg"))

            def view(image: np.ndarray, i: int) -> torch.Tensor:
                """A random part of 8 % to 100 % of the area, the same part of the photograph at any resolution."""
                chance, (_, h, w) = np.random.default_rng(i), image.shape
                side = np.sqrt(chance.uniform(0.08, 1))
                top, left = chance.uniform(0, 1 - side, 2)
                box = [round(v) for v in (top * h, left * w, side * h, side * w)]
                return resized_crop(torch.from_numpy(image), *box, [224, 224], InterpolationMode.BICUBIC, antialias=True)

            def whole(file) -> np.ndarray:
                with Image.open(file) as image:
                    return np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()

            truth = [view(whole(file), i).float() for i, file in enumerate(files)]
            seconds = best(lambda files=files: [view(whole(file), i) for i, file in enumerate(files)], 3, "cpu")
            rows.append({"photograph": f"{size[0]} x {size[1]}", "from": "file", "ms": 1000 * seconds / 20, "mb": 0.0, "difference": 0.0})
            for c in (1, 1.5, 2, 3):
                for i, file in enumerate(files):
                    np.save(folder / f"{i}.npy", _original(decode(file)[0], round(112 * c)))
                kept = [folder / f"{i}.npy" for i in range(20)]
                seconds = best(lambda kept=kept: [view(np.load(file), i) for i, file in enumerate(kept)], 3, "cpu")
                difference = np.mean([float((view(np.load(f), i).float() - truth[i]).abs().mean()) for i, f in enumerate(kept)])
                row = {"ms": 1000 * seconds / 20, "mb": kept[0].stat().st_size / 1e6, "difference": float(difference)}
                rows.append({"photograph": f"{size[0]} x {size[1]}", "from": f"original, {c} x 224", **row})
    return rows


def compiled() -> list[dict]:
    """Images a second of an image tower as it is and compiled, and the seconds of the first call, which compiles."""
    rows = []
    for name in ("ViT-B/32", "ViT-B/16", "RN50"):
        encoder = encoders.load(name, pretrained="random", device=DEVICE)
        pixels = torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8)
        row = {"backbone": name, "images_per_second": 64 / best(lambda e=encoder, p=pixels: e.encode_images(p), 3, DEVICE)}
        encoder.model.visual.compile()
        start = time.perf_counter()
        encoder.encode_images(pixels)
        row["first_call_seconds"] = time.perf_counter() - start
        row["images_per_second_compiled"] = 64 / best(lambda e=encoder, p=pixels: e.encode_images(p), 3, DEVICE)
        rows.append(row | {"gain": row["images_per_second_compiled"] / row["images_per_second"]})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("choice", choices=["views", "compile"])
    choice = parser.parse_args().choice
    found = {"views": views, "compile": compiled}[choice]()
    for row in found:
        print(" ".join(f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()))
    place = {"device": DEVICE, "threads": torch.get_num_threads(), "seed": SEED, "torch": torch.__version__}
    write_atomically(ROOT / f"results/benchmarks/{choice}.csv", table([row | place for row in found]))
