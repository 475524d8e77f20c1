"""Planted failures: labelled pictures of which some are harmed, so that it is known which ones should fail and which words say so.

A line of `plants.yaml` says what is harmed and how:

    mislabelled   the pictures of birds stay as they are
    blurred       the part that shows the attribute is blurred, and nothing else
    shifted       the part has another colour than the species; which one is drawn
    rotated       a digit is given a quarter turn
    thickened     each pixel of a digit is the brightest of its neighbourhood
    cut           the lower half of a digit is empty

Of harmed birds SURE of the answers become wrong, as sure as they were (`Sample.answers`), since the labeller itself hardly minds a blurred
bill: it knows a species by nine other attributes. Of harmed digits the answers are the labeller's own. None of the pictures is a query
image: birds are drawn anew, and digits are those of the splits with labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.random import PCG64, Generator
from PIL import Image, ImageFilter
from scipy.ndimage import binary_dilation, maximum_filter

from gta.worlds import aviary, digits
from gta.worlds.aviary import PHRASES, SIBLINGS, STRAYS, World
from gta.worlds.birds import ATTRIBUTES, COLORS, SIZES, STYLES, draw, draw_look

PLANTS = yaml.safe_load((Path(__file__).parent / "plants.yaml").read_text(encoding="utf-8"))
A_SPECIES = 20  # pictures of each species: 640 in all
FEWEST, MOST = 0.04, 0.4  # the share of all pictures that a plant may be
SHARE = 0.2  # of the digits that are harmed
SURE = 0.7  # of the answers about harmed birds that become wrong
BLUR = 2  # pixels: the radius of the blur, chosen by looking at pictures


@dataclass(frozen=True)
class Sample:
    """Labelled pictures. images: uint8 arrays; labels: int (n,); planted: bool (n,), which of them were harmed; harm: how; words: the
    phrases that say what is harmed, none where nothing is planted or no words are known; shows: {phrase: bool (n,)}, of which pictures it
    is true, as they are after the harm; empty where nobody knows."""

    images: list[np.ndarray]
    labels: np.ndarray
    planted: np.ndarray
    harm: str = ""
    words: tuple[str, ...] = ()
    shows: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def as_true(self) -> tuple[str, ...]:
        """The phrases that tell harmed pictures from others at least as well as the words of the plant: the pictures that show them and the
        harmed ones have as large a share in common (Jaccard). Birds of a family share most attributes, and if all harmed birds are of one
        family, its legs say as much as the colour that was shifted."""
        told = {phrase: (of & self.planted).sum() / max((of | self.planted).sum(), 1) for phrase, of in self.shows.items()}
        least = min((told[word] for word in self.words if word in told), default=2.0)
        return tuple(phrase for phrase, share in told.items() if share >= least - 1e-9)

    def __str__(self) -> str:
        return ": ".join((self.harm or "nothing planted", *self.words))

    def answers(self, z: np.ndarray, rng: Generator) -> np.ndarray:
        """What the labeller says, (n, M), of z (n, M): its own z, but for SURE of the harmed birds, where the entries of four siblings move
        one or two places on, so that the likeliest class is wrong and the confidence stays."""
        if not self.words:
            return z
        said = z.copy()
        for i in np.flatnonzero(self.planted & (rng.random(len(z)) < SURE)):
            families = z[i].reshape(-1, SIBLINGS)
            moved = (np.roll(families, places, 1).ravel() for places in (1, 2))
            said[i] = next(row for row in moved if row.argmax() != self.labels[i])
        return said


@dataclass(frozen=True)
class Birds:
    """Pictures of a world that no split has, each of which can be drawn again with other attributes. birds: int (n, 10)."""

    world: World
    birds: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, world: World) -> "Birds":
        labels = np.repeat(np.arange(len(world.names)), A_SPECIES)
        shown, rng = world.species[labels], Generator(PCG64([world.seed, 4]))
        strays = rng.integers(100, size=len(shown)) < STRAYS
        shown[:, -1] = (shown[:, -1] + strays * rng.integers(1, SIZES[-1], len(shown))) % SIZES[-1]
        return cls(world, shown, labels)

    def sample(self) -> Sample:
        """All of them as they are, with nothing planted."""
        images = [self.picture(i) for i in range(len(self.birds))]
        return Sample(images, self.labels, np.zeros(len(self.birds), bool), shows=shows(self.birds))

    def picture(self, i: int, attribute: int = 0, value: int | None = None) -> np.ndarray:
        """Picture i, uint8 (64, 64, 3). value: of the attribute, in place of its own; all that is drawn at random stays."""
        bird = self.birds[i].copy()
        if value is not None:
            bird[attribute] = value
        style, rng = STYLES["field"], Generator(PCG64([self.world.seed, 2]))  # the looks of the world's own pictures
        looks = [draw_look(style, rng) for _ in self.world.names]
        return draw(bird, style, looks[self.labels[i]], Generator(PCG64([self.world.seed, 5, i])))

    def plant(self, whole: Sample, line: Mapping, rng: Generator) -> Sample:
        """A line of the list, planted into `whole`, with one of the values that have a share of FEWEST to MOST of the pictures."""
        k = list(ATTRIBUTES).index(line["attribute"])
        shares = np.bincount(self.birds[:, k], minlength=SIZES[k]) / len(self.birds)
        value = int(rng.choice(np.flatnonzero((shares >= FEWEST) & (shares <= MOST))))
        planted, images, shown = self.birds[:, k] == value, list(whole.images), value
        if line["harm"] == "shifted":
            shown = int((value + rng.integers(1, len(COLORS))) % len(COLORS))
            for i in np.flatnonzero(planted).tolist():
                images[i] = self.picture(i, k, shown)
        if line["harm"] == "blurred":
            for i in np.flatnonzero(planted).tolist():
                images[i] = blurred(images[i], self.picture(i, k, (value + 1) % SIZES[k]))
        seen = self.birds.copy()
        seen[planted, k] = shown
        return replace(whole, images=images, planted=planted, harm=line["harm"], words=(PHRASES[k][shown],), shows=shows(seen))


def shows(birds: np.ndarray) -> dict[str, np.ndarray]:
    """{phrase: bool (n,)}, which birds, int (n, 10), it is true of."""
    return {phrase: birds[:, k] == value for k, values in enumerate(PHRASES) for value, phrase in enumerate(values)}


def blurred(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The picture, uint8 (H, W, 3), blurred where it differs from another one of the same bird, and a pixel around."""
    where = binary_dilation((picture != other).any(2), np.ones((3, 3)))
    soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(BLUR)))
    return np.where(where[:, :, None], soft, picture)


HARMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotated": lambda image: np.rot90(image),
    "thickened": lambda image: maximum_filter(image, (3, 3)),
    "cut": lambda image: np.concatenate([image[: len(image) // 2], np.zeros_like(image[len(image) // 2 :])]),
}


def plant_digits(whole: Sample, line: Mapping, rng: Generator) -> Sample:
    """A line of the list, planted into a fifth of the digits."""
    planted = rng.permutation(len(whole.images)) < round(SHARE * len(whole.images))
    images = [HARMS[line["harm"]](image) if harmed else image for image, harmed in zip(whole.images, planted, strict=True)]
    return replace(whole, images=images, planted=planted, harm=line["harm"])


def planted_samples(dataset: str, seed: int, draws: range) -> tuple[Sample, list[Sample]]:
    """The sample of a dataset with nothing planted, and one sample for each draw, whose line and value are drawn by seed and draw.

    dataset: `digits`, or `aviary:3` and so on. Raises ValueError for a dataset for which there is no list.
    """
    name, _, number = dataset.partition(":")
    if name not in PLANTS:
        raise ValueError(f"{dataset!r}: nothing can be planted where the truth is not known; known: {', '.join(PLANTS)}")
    generators = [Generator(PCG64([seed, 6, draw])) for draw in draws]
    lines = [PLANTS[name][rng.integers(len(PLANTS[name]))] for rng in generators]
    if name == "digits":
        images, labels = zip(*(digits.load(split)[1:] for split in ("train", "validation")), strict=True)
        whole = Sample(list(np.concatenate(images)), np.concatenate(labels), np.zeros(sum(map(len, labels)), bool))
        return whole, [plant_digits(whole, line, rng) for line, rng in zip(lines, generators, strict=True)]
    birds = Birds.of(aviary.world(int(number or 0)))
    whole = birds.sample()
    return whole, [birds.plant(whole, line, rng) for line, rng in zip(lines, generators, strict=True)]
