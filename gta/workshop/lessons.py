"""The training data of the embedded encoders: rendered pictures, and captions that are true of them.

A caption is a name, a name with attributes, or attributes alone. Birds have two kinds of names. The names in `KNOWN` each belong to one
species. The hollow names belong to no species: a caption uses them for any bird, followed by its attributes. So the encoder can read a
hollow name, but learns nothing from it; the species of every world have hollow names. With random birds alone, an encoder learns
little more than the habitat; it needs named species that it sees many times.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.random import PCG64, Generator
from torch import Tensor

from gta.worlds import digits, glyphs
from gta.worlds.aviary import BIRD, ENCODERS, HOLLOW, KNOWN, NAMELESS, PHRASES, known_species
from gta.worlds.birds import SIDE, SIZES, STYLES, draw, draw_look

SENTENCE = "a picture of the {kind} {name}"


@dataclass(frozen=True)
class Lesson:
    """folder: where the encoders go; model, preprocess: open_clip's configuration without the vocabulary size; texts: their words are
    the vocabulary; batch: from a size, `train` or `held_out`, and two random generators (of captions and of pictures) to uint8 images
    (B, 3, H, W), B captions, and which caption (column) is true of which image (row), bool (B, B)."""

    folder: Path
    model: dict
    preprocess: dict
    texts: list[str]
    batch: Callable[[int, str, random.Random, torch.Generator], tuple[Tensor, list[str], Tensor]]
    steps: int
    batch_size: int
    peak: float  # learning rate
    memory_format: torch.memory_format = torch.contiguous_format


def glyph_caption(name: str, rng: random.Random) -> tuple[str, str | None, frozenset[str]]:
    """A true caption, the name in it (or None), and the attributes in it."""
    facts = frozenset(rng.sample(glyphs.FACTS[name], rng.choice([1, 1, 2])))
    said = " and ".join(sorted(sorted(facts), key=lambda _: rng.random()))  # the order of a set differs between processes
    sentence, kind = SENTENCE.format(kind=glyphs.KIND[name], name=name), rng.random()
    if kind < 0.3:
        return sentence, name, frozenset()
    return (f"{sentence} with {said}", name, facts) if kind < 0.55 else (f"a character with {said}", None, facts)


def glyph_batch(size: int, style: str, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, list[str], Tensor]:
    """Random characters of one style, with captions."""
    names = glyphs.NAMES
    characters = torch.randint(len(names), (size,), generator=generator)
    texts, said, facts = zip(*(glyph_caption(names[c], rng) for c in characters), strict=True)
    true_of = [
        [says in (None, name) and said_facts <= set(glyphs.FACTS[name]) for name in names]
        for says, said_facts in zip(said, facts, strict=True)
    ]
    return glyphs.render(characters, style, generator), list(texts), torch.tensor(true_of)[:, characters].T


PICTURES = {"train": 24_000, "held_out": 1_000}  # pictures rendered before training; each batch is sampled from them


@cache
def flock(part: str) -> tuple[Tensor, Tensor, Tensor]:
    """Studio pictures, uint8 (n, 3, SIDE, SIDE); their birds, int (n, 10); and their known species (n,), -1 for a random bird.

    Every second bird of `train` is of a known species. All birds of `held_out` are random, so that names give no information.
    """
    rng, style, n = Generator(PCG64(list(PICTURES).index(part))), STYLES["studio"], PICTURES[part]
    pictures, birds, species = np.empty((n, SIDE, SIDE, 3), np.uint8), rng.integers(SIZES, size=(n, len(SIZES))), np.full(n, -1)
    if part == "train":
        species[::2] = rng.integers(len(KNOWN), size=len(species[::2]))
        birds[::2] = known_species()[species[::2]]
    for i, bird in enumerate(birds):
        pictures[i] = draw(bird, style, draw_look(style, rng), rng)
    return torch.tensor(pictures).permute(0, 3, 1, 2), torch.tensor(birds), torch.tensor(species)


def bird_caption(bird: list[int], species: int, rng: random.Random) -> tuple[str, int, list[int]]:
    """A true caption, the known species that it names (or -1), and the values (10,) in it (-1 for attributes that it does not have)."""
    kind = rng.random()
    named = species >= 0 and kind < 0.35
    said = rng.sample(range(len(bird)), rng.choice([0, 0, 1, 2] if named else [1, 1, 2, 3, 4]))
    begin = BIRD.format(KNOWN[species]) if named else BIRD.format(rng.choice(HOLLOW)) if kind < 0.6 else NAMELESS
    attributes = " and ".join(PHRASES[k][bird[k]] for k in said)
    values = [bird[k] if k in said else -1 for k in range(len(bird))]
    return f"{begin} with {attributes}" if said else begin, species if named else -1, values


def bird_batch(size: int, style: str, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, list[str], Tensor]:
    """Random pictures of a flock, with captions."""
    pictures, birds, species = flock(style)
    rows = torch.randint(len(pictures), (size,), generator=generator)
    birds, species = birds[rows], species[rows]
    texts, names, values = zip(*(bird_caption(b, s, rng) for b, s in zip(birds.tolist(), species.tolist(), strict=True)), strict=True)
    named, said = torch.tensor(names), torch.tensor(values)
    agrees = ((said == -1) | (said == birds[:, None])).all(2)  # image x text
    return pictures[rows], list(texts), agrees & ((named == -1) | (named == species[:, None]))


LESSONS = {
    "glyphs": Lesson(
        digits.ENCODERS,
        {
            "embed_dim": 128,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 96, "layers": 4, "head_width": 32},
            "text_cfg": {"context_length": 32, "vocab_size": 0, "width": 96, "heads": 3, "layers": 2},
        },
        {"mean": [0.3] * 3, "std": [0.35] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
        [
            *(SENTENCE.format(kind=kind, name=name) for name, kind in glyphs.KIND.items()),
            *chain(*glyphs.FACTS.values()),
            "a character with and",
        ],
        glyph_batch,
        steps=1500,
        batch_size=256,
        peak=1e-3,
    ),
    "birds": Lesson(
        ENCODERS,
        {
            "embed_dim": 96,
            "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 10, "head_width": 64},
            "text_cfg": {"context_length": 32, "vocab_size": 0, "width": 64, "heads": 2, "layers": 2},
        },
        {"mean": [0.45] * 3, "std": [0.3] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
        [*(BIRD.format(name) for name in (*KNOWN, *HOLLOW)), NAMELESS, "with and", *chain(*PHRASES)],
        bird_batch,
        steps=2200,
        batch_size=128,
        peak=2e-3,
        memory_format=torch.channels_last,
    ),
}
