"""The unlabelled pool that students learn from in the studies: pictures that are no query images, and whose labels nobody reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator

from gta.data.tasks import CACHE
from gta.files import replacing, sha256
from gta.worlds import aviary, birds, digits
from gta.worlds.birds import SIZES, STYLES, draw, draw_look

EACH = 60  # pictures of each species


def pool(dataset: str, cache: Path = CACHE) -> list[np.ndarray]:
    """uint8 images, in a random order: of `aviary:3` and so on new pictures of its birds, as many of each species; of `digits` all that are
    no query images. cache: a folder that keeps what was drawn. Raises ValueError for another dataset."""
    name, _, number = dataset.partition(":")
    if name == "aviary":
        images: Sequence[np.ndarray] = list(_kept(aviary.world(int(number or 0)), cache))
    elif name == "digits":
        images = [image for split in ("train", "validation") for image in digits.load(split)[1]]
    else:
        raise ValueError(f"{dataset!r} has no unlabelled pool; known: digits, aviary")
    order = Generator(PCG64([8, len(images)])).permutation(len(images))
    return [images[i] for i in order.tolist()]


def _kept(world: aviary.World, cache: Path) -> np.ndarray:
    """The pictures of a world, uint8 (n, 64, 64, 3), drawn once for each version of the code that draws them."""
    code = "".join(sha256(Path(file))[:4] for file in (__file__, aviary.__file__, birds.__file__))
    file = cache / f"pool-{world.seed}-{code}.npy"
    if not file.exists():
        with replacing(file) as part, open(part, "wb") as stream:
            np.save(stream, np.stack(_birds(world)))
    return np.load(file)


def _birds(world: aviary.World) -> list[np.ndarray]:
    """Pictures as the world's own are drawn, with their looks and as many strays, from a stream of random numbers of their own."""
    style, rng = STYLES["field"], Generator(PCG64([world.seed, 2]))
    looks = [draw_look(style, rng) for _ in world.names]
    rng = Generator(PCG64([world.seed, 8]))
    pictures = []
    for species, look in zip(world.species, looks, strict=True):
        for _ in range(EACH):
            bird = species.copy()
            if rng.integers(100) < aviary.STRAYS:
                bird[-1] = (bird[-1] + rng.integers(1, SIZES[-1])) % SIZES[-1]
            pictures.append(draw(bird, style, look, rng))
    return pictures
