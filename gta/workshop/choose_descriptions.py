"""Choose how LabelDesc is trained, never on what is reported: `python -m gta.workshop.choose_descriptions` writes a CSV for each part.

Images: synthetic hands and worlds of other birds, as in `gta.workshop.choose`. Short texts: docstrings of numpy, where those of scipy are
reported. The rule, written down before a run was looked at: the accuracy of a cell is its mean over the worlds and encoders, then the
mean with its neighbours in rate and passes; the best cell is taken. Of equal cells it is the first.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.data import short_texts
from gta.encoders import sentences
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.generate import describe
from gta.llm import prompts
from gta.peers import descriptions
from gta.workshop.choose import hand_of_digits, other_world
from gta.worlds import docstrings
from gta.worlds.fieldguide import language_model

HERE = Path(__file__).parent
RATES, PASSES = (1e-4, 1e-3, 1e-2), (10, 30, 100, 300)
TOWERS = {"images": (1e-4, 1e-3, 1e-2), "texts": (1e-6, 1e-5, 1e-4)}  # rates; a tower of texts sees one text a step, as in the paper
TOWER_PASSES, TOWER_BATCH = (10, 30), {"images": descriptions.BATCH, "texts": 1}
CELL = ["trained", "kind", "correction", "rate", "passes"]


def cells(
    part: str,
    encoder: Any,
    inputs: Tensor,
    labels: Tensor,
    kinds: dict[str, list[list[str]]],
    words: list[str],
    corrections: tuple,
    again: Sequence[str] = (),
) -> Iterator[dict]:
    """The accuracy of each cell. kinds: descriptions by kind, of which the tower is trained on the first; words: the label words of each
    class; again: texts that the trained tower reads once more."""
    start = encoder.encode_texts(words)

    def told(logits: Tensor, **cell: Any) -> dict:
        return {**cell, "accuracy": round(100 * float((logits.argmax(1).cpu() == labels).float().mean()), 2)}

    for (kind, texts), correction, rate, passes in product(kinds.items(), corrections, RATES, PASSES):
        cell: dict[str, Any] = {"rate": rate, "passes": passes, "correction": correction}
        yield told(descriptions.label_desc(encoder, inputs, texts, start, **cell), trained="head", kind=kind, **cell)
    kind, texts = next(iter(kinds.items()))
    for rate, passes in product(TOWERS[part], TOWER_PASSES):
        cell = {"rate": rate, "passes": passes}
        tuned = descriptions.train_tower(encoder, texts, words, batch=TOWER_BATCH[part], **cell)
        read = tuned.encode_texts(again) if again else inputs
        yield told(read @ tuned.encode_texts(words).T, trained="tower", kind=kind, correction="none", **cell)


def on_images(seed: int) -> Iterator[dict]:
    for name, world in {"digits": hand_of_digits, "aviary": other_world}.items():
        task, images, labels = world(seed)
        encoder = encoders.load("embedded", seed=seed, embedded=task.embedded)
        features = encoder.encode_images(load_images(images, encoder).pixels)
        bank = Bank.from_template(task.class_names, task.template, task.sentence)
        words = [of_class[0] for of_class in bank.texts]
        with language_model("fieldguide", 1000 + seed, facts=task.facts) as llm:
            bank = describe(bank, llm, prompts.load(task.domain))
        kinds = {kind: descriptions.described(bank, kind) for kind in ("sentences", "terms", "both")}  # type: ignore[arg-type]
        for cell in cells("images", encoder, features, labels, kinds, words, get_args(descriptions.Correction)):
            yield {"world": name, "seed": seed, **cell}


def on_texts(folder: Path) -> Iterator[dict]:
    docstrings.write(folder, "numpy")
    told, found = docstrings.described("numpy"), short_texts.read(str(folder))
    encoder = sentences.load()
    words = [docstrings.PATTERNS[0].format(name) for name in told]
    inputs = encoder.encode_texts(found.texts)
    truth = torch.from_numpy(short_texts.labels(str(folder)))
    for cell in cells("texts", encoder, inputs, truth, {"all": list(told.values())}, words, ("none", "means"), found.texts):
        yield {"world": "numpy", "seed": 0, **cell}


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells, the best first, with `accuracy` after smoothing and `alone` before."""
    mean = frame.groupby(["world", *CELL]).accuracy.mean().groupby(CELL).mean()
    table = []
    for key in mean.index.to_list():
        beside = []
        for i in (3, 4):  # the neighbours in rate and in passes
            axis = sorted({other[i] for other in mean.index if other[0] == key[0]})
            at = axis.index(key[i])
            beside.append(axis[max(0, at - 1) : at + 2])
        around = [(*key[:3], rate, passes) for rate, passes in product(*beside)]
        table.append({**dict(zip(CELL, key, strict=True)), "alone": mean[key], "accuracy": mean[around].mean()})
    return pd.DataFrame(table).sort_values(["trained", "accuracy"], ascending=[True, False], kind="stable", ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.workshop.choose_descriptions", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("images", "texts"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folder", type=Path, default=Path("runs/worlds/docstrings-numpy"), help="where docstrings are written")
    arguments = parser.parse_args()
    rows = [row for seed in arguments.seeds for row in on_images(seed)] if arguments.part == "images" else list(on_texts(arguments.folder))
    write_atomically(HERE / f"choice_descriptions_{arguments.part}.csv", pd.DataFrame(rows).to_csv(index=False))
    for _, of in chosen(pd.DataFrame(rows)).groupby("trained"):
        print(of.round({"accuracy": 2, "alone": 2}).head(8).to_string(index=False))


if __name__ == "__main__":
    main()
