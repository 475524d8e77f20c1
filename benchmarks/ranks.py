"""What the taxonomy of `python -m gta label` is worth: how often the rank that is given is right, on the families of the aviary.

    python benchmarks/ranks.py            # results/benchmarks/ranks.csv; about a minute of one core
    python benchmarks/ranks.py --smoke    # one world, two floors, under runs/smoke

Five worlds of eight families with four species each, an encoder of its own for each, labelled with the field guide. A row is a rule:

species, family   always an answer at that rank: the likeliest species, and the family with the largest sum
floor F           the deepest name whose summed z is above F; an image for which not even a family is gets no answer
temperature       the same floor on z at the temperature that is best for the labels of the world (`gta.scores.calibration`): what a
                  calibrated z would give. It needs every label, and is no rule that a user has.

answered          images that get an answer, in %;  right: of these, in %, the species or family of the truth
species           images answered with a species, in %;  species_right: of these, in %
bits              log2(32 / classes under the answer) of right answers, 0 of wrong ones and of none, mean over all images: at most 5
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from label import label, load
from torch import Tensor

from gta.data import tasks
from gta.files import write_atomically
from gta.label.taxonomy import Taxonomy
from gta.labels import answer
from gta.scores.calibration import fitted_temperature, log_of, with_temperature
from gta.worlds.aviary import SIBLINGS
from measuring import begun, place, stamped

FLOORS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def main() -> None:
    smoke = begun(__doc__).smoke
    torch.set_num_threads(1)
    rows = []
    for seed in range(1 if smoke else 5):
        task = load("aviary", seed)
        z = label(task, list(task.images), task.class_names, seed, "fieldguide", {}).assignments
        truth = torch.as_tensor(tasks.query_labels(task.source))  # for scoring alone
        for row in rules(z, truth, task.class_names, FLOORS[::5] if smoke else FLOORS):
            rows.append({"dataset": task.source, "seed": seed, **row})
    frame = pd.DataFrame(rows)
    print(frame.groupby("rule", sort=False).mean(numeric_only=True).drop(columns="seed").round(1).to_string())
    write_atomically(place("ranks", smoke), stamped(frame).to_csv(index=False))


def rules(z: Tensor, truth: Tensor, names: tuple[str, ...], floors: tuple[float, ...]) -> Iterator[dict]:
    """A row for each rule. z: (N, 32); truth: int (N,)."""
    tree = Taxonomy.of(names, {name: f"family {j // SIBLINGS}" for j, name in enumerate(names)}, ["family", "species"])
    yield {"rule": "species", **scored(tree, answer(z), truth)}
    yield {"rule": "family", **scored(tree, tree.sums(z)[:, tree.classes :].argmax(1) + tree.classes, truth)}
    logits = log_of(z.numpy())
    best = torch.from_numpy(with_temperature(logits, fitted_temperature(logits, truth.numpy())))
    for floor in floors:
        tree = Taxonomy.of(names, tree.parents, tree.ranks, floor)
        yield {"rule": f"floor {floor}", **scored(tree, tree.deepest(z)[0], truth)}
        yield {"rule": f"floor {floor}, temperature", **scored(tree, tree.deepest(best)[0], truth)}


def scored(tree: Taxonomy, nodes: Tensor, truth: Tensor) -> dict[str, float]:
    """The measures of answers, int (N,), -1 for none."""
    nodes_of, labels = nodes.numpy(), truth.numpy()
    right = np.array([node in tree.lineages[label] for node, label in zip(nodes_of, labels, strict=True)])
    answered, species = nodes_of >= 0, (nodes_of >= 0) & (nodes_of < tree.classes)
    under = np.where(species, 1, SIBLINGS)
    return {
        "answered": percent(answered),
        "right": percent(right[answered]),
        "species": percent(species),
        "species_right": percent(right[species]),
        "bits": round(float((np.log2(tree.classes / under) * right).mean()), 3),
    }


def percent(of: np.ndarray) -> float:
    return round(100 * float(of.mean()), 3) if len(of) else float("nan")


if __name__ == "__main__":
    main()
