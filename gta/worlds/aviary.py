"""The aviary: worlds of 32 bird species in families of 4, one world for each seed. Everything about a world is known.

A species has a value for each attribute and differs from its siblings in one or two attributes. It has a hollow name: a word that the
encoders can read but that has no meaning for them. The pictures of a world are PNG files with one folder for each species, and an index
of what they show. Their bytes depend only on the seed: they are drawn with integers and stored without compression, because
compression differs between versions of zlib.
"""

import csv
import io
import random
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator
from PIL import Image

from gta.files import closed_to, sha256, write_atomically
from gta.worlds import birds
from gta.worlds.birds import ATTRIBUTES, SIZES, STYLES, draw, draw_look

ENCODERS = Path(__file__).with_name("bird_encoders")  # encoders that know birds but no species of a world, one for each seed
FAMILIES, SIBLINGS = 8, 4
PICTURES = {"query": 30, "train": 20}  # of each species: images to label, and images with labels
STREAM = {"query": 5, "train": 6}  # of random numbers, one a split: no picture is in both
STRAYS = 20  # percent of the pictures that show a bird outside of its habitat

PHRASES = list(ATTRIBUTES.values())
BIRD, SENTENCE = "a picture of the bird {}", "a picture of the bird {name} with {attribute}"
NAMELESS = "a bird"

_ONSETS = (
    "bar",
    "cor",
    "dul",
    "fen",
    "gar",
    "hob",
    "jal",
    "kel",
    "lum",
    "mor",
    "nev",
    "ost",
    "pel",
    "quil",
    "rus",
    "sab",
    "tar",
    "urd",
    "vel",
    "wim",
)
_ENDS = ("bin", "dle", "kin", "lo", "mer", "nix", "ra", "ret")
NAMES = random.Random(0).sample([onset + end for onset in _ONSETS for end in _ENDS], 160)
KNOWN, HOLLOW = NAMES[:64], NAMES[64:144]  # names in pretraining: of one species each, and of any bird


def draw_species(rng: Generator, families: int, besides: np.ndarray | None = None) -> np.ndarray:
    """Draw different birds, int (families * SIBLINGS, 10): in each family a first bird, and birds that differ from it in one attribute.

    No bird is among `besides`, (n, 10).
    """
    others = np.empty((0, len(SIZES)), int) if besides is None else besides
    while True:
        species = np.repeat(rng.integers(SIZES, size=(families, len(SIZES))), SIBLINGS, 0)
        for bird in (bird for row, bird in enumerate(species) if row % SIBLINGS):
            k = rng.integers(len(SIZES))
            bird[k] = (bird[k] + rng.integers(1, SIZES[k])) % SIZES[k]
        together = np.concatenate([species, others])
        if len(np.unique(together, axis=0)) == len(together):
            return species


@cache
def known_species() -> np.ndarray:
    """The species that pretraining names, int (64, 10)."""
    return draw_species(Generator(PCG64(0)), len(KNOWN) // SIBLINGS)


@dataclass(frozen=True)
class World:
    """names: the 32 species, family by family; species: their attribute values, int (32, 10); seed: of the world."""

    seed: int
    names: tuple[str, ...]
    species: np.ndarray

    @property
    def facts(self) -> dict[str, list[str]]:
        """All true facts about each species."""
        return {name: phrases(bird) for name, bird in zip(self.names, self.species, strict=True)}

    def labels(self, split: str) -> np.ndarray:
        """The species of each picture of `query` or `train`, int (n,)."""
        return np.repeat(np.arange(len(self.names)), PICTURES[split])

    def birds(self, split: str) -> np.ndarray:
        """The attribute values in each picture, int (n, 10): those of its species, except the habitat of strays."""
        shown = self.species[self.labels(split)]
        rng = Generator(PCG64([self.seed, 1, STREAM[split]]))
        strays = rng.integers(100, size=len(shown)) < STRAYS
        shown[:, -1] = (shown[:, -1] + strays * rng.integers(1, SIZES[-1], len(shown))) % SIZES[-1]
        return shown

    def pictures(self, split: str) -> list[np.ndarray]:
        """The pictures of a split, uint8 (SIDE, SIDE, 3) each, in the style `field`."""
        style, rng = STYLES["field"], Generator(PCG64([self.seed, 2]))
        looks = [draw_look(style, rng) for _ in self.names]
        rng = Generator(PCG64([self.seed, 3, STREAM[split]]))
        return [draw(bird, style, looks[c], rng) for bird, c in zip(self.birds(split), self.labels(split), strict=True)]

    def files(self, split: str) -> list[str]:
        """The paths of the pictures in the folder of the world."""
        return [f"{split}/{name}/{k:02d}.png" for name in self.names for k in range(PICTURES[split])]


@cache
def world(seed: int) -> World:
    """The world of a seed. Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"aviary:{seed}: the seed of a world is 0 or more")
    rng = Generator(PCG64([seed, 0]))
    names = [HOLLOW[i] for i in rng.permutation(len(HOLLOW))[: FAMILIES * SIBLINGS]]
    return World(seed, tuple(names), draw_species(rng, FAMILIES, known_species()))


def phrases(bird: np.ndarray) -> list[str]:
    """The ten attributes of a bird in words."""
    return [of[value] for of, value in zip(PHRASES, bird, strict=True)]


def write(of: World, cache: Path) -> Path:
    """Write the world's folder below `cache`: pictures, and `index.csv` with the content and the SHA-256 of each.

    A complete folder is kept; otherwise the whole folder is drawn again. Its name contains a hash of the drawing code. Raises OSError,
    with the variable that moves `cache`, where nothing can be written there.
    """
    code = "".join(sha256(Path(file)) for file in (__file__, birds.__file__))
    folder = Path(cache) / f"aviary-{of.seed}-{code[:4]}{code[64:68]}"
    if _is_whole(folder):
        return folder
    elsewhere = "the variable GTA_WORLDS names another folder for worlds"
    if (closed := closed_to(folder)) is not None:
        raise OSError(f"the world aviary:{of.seed} has no place in {str(cache)!r}: nothing can be written in {closed}; {elsewhere}")
    Path(cache).mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=cache, prefix=f".{folder.name}."))
    try:
        _fill(of, part)
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        if not folder.exists():  # another process may have been faster
            part.rename(folder)
    except OSError as error:  # of a full disk
        raise OSError(f"the world aviary:{of.seed} cannot be written in {str(cache)!r}: {error}; {elsewhere}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _fill(of: World, folder: Path) -> None:
    text = io.StringIO()
    index = csv.writer(text, lineterminator="\n")
    index.writerow(["file", "sha256", "species", "family", *ATTRIBUTES])
    for split in PICTURES:
        for file, picture, bird, label in zip(of.files(split), of.pictures(split), of.birds(split), of.labels(split), strict=True):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / file, compress_level=0)
            index.writerow([file, sha256(folder / file), of.names[label], label // SIBLINGS, *phrases(bird)])
    write_atomically(folder / "index.csv", text.getvalue())


def _is_whole(folder: Path) -> bool:
    try:
        rows = list(csv.DictReader((folder / "index.csv").read_text(encoding="utf-8").splitlines()))
        return all(sha256(folder / row["file"]) == row["sha256"] for row in rows)
    except (FileNotFoundError, NotADirectoryError):
        return False
