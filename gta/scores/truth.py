"""Compare the statements and labels of a run with the truth, which is completely known for a world of the aviary.

This module uses labels and facts that no method may see. It explains results; nothing is chosen from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import load_images
from gta.labels import answer
from gta.loop import run
from gta.scores.rows import read_table
from gta.settings import Settings
from gta.worlds import aviary
from gta.worlds.aviary import NAMELESS, PHRASES, SIBLINGS, World
from gta.worlds.birds import ATTRIBUTES


def attribute_accuracy(encoder: Encoder, pixels: Tensor, birds: np.ndarray) -> pd.Series:
    """For each attribute, the percentage of images whose nearest text among its values is the true one.

    pixels: uint8 (N, 3, H, W); birds: int (N, 10), the true values of each image.
    """
    features = encoder.encode_images(pixels)
    right = {}
    for k, (attribute, values) in enumerate(zip(ATTRIBUTES, PHRASES, strict=True)):
        nearest = (features @ encoder.encode_texts([f"{NAMELESS} with {value}" for value in values]).T).argmax(1).cpu().numpy()
        right[attribute] = 100 * float((nearest == birds[:, k]).mean())
    return pd.Series(right)


def says_apart(world: World, species: int) -> str:
    """A species, and its facts that are not true of all its siblings."""
    first = species // SIBLINGS * SIBLINGS
    shared = set.intersection(*(set(world.facts[name]) for name in world.names[first : first + SIBLINGS]))
    return f"{world.names[species]}: {', '.join(fact for fact in world.facts[world.names[species]] if fact not in shared)}"


def examples(world: World, columns: int) -> list[int]:
    """The first `columns` query images of each species of the first family."""
    labels = world.labels("query")
    return [int(i) for species in range(SIBLINGS) for i in np.flatnonzero(labels == species)[:columns]]


def statements(world: World, bank: Bank) -> pd.DataFrame:
    """Every statement of a bank: its class, phrase, the class that it is against, its iteration, and whether it is true."""
    rows = [
        {"name": name, "phrase": said.text.partition(" with ")[2], "against": said.against, "iteration": said.iteration}
        for name, of_class in zip(bank.class_names, bank.attributes, strict=True)
        for said in of_class
        if said.source != "template"
    ]
    frame = pd.DataFrame(rows, columns=["name", "phrase", "against", "iteration"])
    return frame.assign(true=[phrase in world.facts[name] for name, phrase in zip(frame.name, frame.phrase, strict=True)])


def coverage(world: World, bank: Bank) -> pd.DataFrame:
    """For each asked pair: whether the classes are siblings, in how many attributes they truly differ, and how many of these differences
    are named by a true statement about one of them, before the first question and at the end of the run."""
    start, end = (statements(world, of) for of in (bank.at(-1), bank))
    rows = []
    for iteration, a, b, count in bank.asked:
        names = world.names[a], world.names[b]
        differences = [(PHRASES[k][world.species[a, k]], PHRASES[k][world.species[b, k]]) for k in _differing(world, a, b)]
        told = {when: _told(frame, names, differences) for when, frame in (("before", start), ("after", end))}
        pair = {"iteration": iteration, "pair": " / ".join(names), "images": count, "siblings": a // SIBLINGS == b // SIBLINGS}
        rows.append({**pair, "differences": len(differences), **told})
    return pd.DataFrame(rows, columns=["iteration", "pair", "images", "siblings", "differences", "before", "after"])


def _differing(world: World, a: int, b: int) -> list[int]:
    return np.flatnonzero(world.species[a] != world.species[b]).tolist()


def _told(frame: pd.DataFrame, names: tuple[str, str], differences: list[tuple[str, str]]) -> int:
    said = [set(frame.phrase[frame.name == name]) for name in names]
    return sum(any(value in of for value, of in zip(values, said, strict=True)) for values in differences)


def without_errors(world: World, bank: Bank) -> Bank:
    """The bank without its wrong statements. A class without other statements keeps the sentence of its name."""
    empty = Bank.from_template(bank.class_names, bank.template, bank.sentence)
    kept = [
        tuple(a for a in of_class if a.source == "template" or a.text.partition(" with ")[2] in world.facts[name])
        for name, of_class in zip(bank.class_names, bank.attributes, strict=True)
    ]
    begins = [any(a.iteration is None for a in of_class) for of_class in kept]
    attributes = tuple(k if first else (*t, *k) for k, t, first in zip(kept, empty.attributes, begins, strict=True))
    return replace(bank, attributes=attributes)


def said(folder: Path) -> dict[str, np.ndarray]:
    """The labels (N,) of each method of a run, from the files of the run."""
    with np.load(folder / "predictions.npz") as predictions:
        rows = read_table(folder / "rows.csv")
        return {", ".join(filter(None, (row.method, row.variant))): predictions[f"{row.run_id}.top5"][:, 0] for row in rows}


def errors_by_family(world: World, labelled: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """For each method, the percentages of images that are labelled correctly, as a sibling, and as another family. labelled: (N,) each."""
    truth = world.labels("query")
    rows = {}
    for method, classes in labelled.items():
        right, family = classes == truth, classes // SIBLINGS == truth // SIBLINGS
        rows[method] = {"right": right.mean(), "a sibling": (family & ~right).mean(), "another family": (~family).mean()}
    return 100 * pd.DataFrame(rows).T


@dataclass(frozen=True)
class Study:
    """Results about one run on one world: `errors_by_family`, `coverage` and `statements`; attributes: their accuracy `before` and
    `after` adaptation; accuracy: of GTA-CLIP in percent; without_errors: the same, replayed without the wrong statements."""

    errors: pd.DataFrame
    coverage: pd.DataFrame
    statements: pd.DataFrame
    attributes: pd.DataFrame
    accuracy: float
    without_errors: float


def study(folder: Path, seed: int, settings: Settings, cache: Path = tasks.CACHE) -> Study:
    """Read the results of a run of `notebooks/zero_shot.ipynb`, and replay GTA-CLIP from its bank, with and without wrong statements."""
    world, task, bank = aviary.world(seed), tasks.load(f"aviary:{seed}", cache=cache), Bank.load(folder / "attributes.json")
    encoder = encoders.load("embedded", seed=settings.seed, embedded=task.embedded)
    images, augment, truth = load_images(task.images, encoder), task.augmentation(encoder.image_size), world.labels("query")
    results = [
        run(encoder, images, task.class_names, settings, attributes=of, augment=augment, progress=False)
        for of in (bank, without_errors(world, bank))
    ]
    accuracies = [100 * float((answer(result.assignments).numpy() == truth).mean()) for result in results]
    of_encoders = {"before": encoder, "after": results[0].encoder}
    attributes = pd.DataFrame({when: attribute_accuracy(of, images.pixels, world.birds("query")) for when, of in of_encoders.items()})
    return Study(errors_by_family(world, said(folder)), coverage(world, bank), statements(world, bank), attributes, *accuracies)


def of_all(studies: Sequence[Study]) -> pd.DataFrame:
    """One row for each world: asked pairs, siblings among them, their true differences and how many of them were named before and after;
    first statements and asked statements, and how many of each are wrong; accuracy with and without the wrong ones."""
    rows = []
    for one in studies:
        pairs, first = one.coverage, one.statements.iteration.isna()
        row = {"pairs": len(pairs), "siblings": pairs.siblings.sum()} | pairs[["differences", "before", "after"]].sum().to_dict()
        for when, part in (("first", one.statements[first]), ("asked", one.statements[~first])):
            row |= {f"{when} statements": len(part), f"{when} wrong": (~part.true).sum()}
        rows.append(row | {"accuracy": round(one.accuracy, 1), "without errors": round(one.without_errors, 1)})
    return pd.DataFrame(rows).rename_axis("world")


def mean_errors(studies: Sequence[Study]) -> pd.DataFrame:
    """The mean of `errors_by_family` over worlds, sorted by the percentage of correct labels."""
    return pd.concat([one.errors for one in studies]).groupby(level=0).mean().sort_values("right")


def attributes_by_world(studies: Sequence[Study]) -> pd.DataFrame:
    """The accuracy of each attribute before and after adaptation. Index: (attribute, world)."""
    order = [(attribute, world) for attribute in ATTRIBUTES for world in range(len(studies))]
    return pd.concat({world: one.attributes for world, one in enumerate(studies)}).swaplevel().loc[order]
