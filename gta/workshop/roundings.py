"""Check that a run gives the same result with other rounding errors: `python -m gta.workshop.roundings` (about five minutes).

One machine simulates others. Older instructions or two threads change the order of sums in matrix products, and so the last digits;
weights can also differ in their 13th digit. A run on the digits and one on the aviary must give the same number of correct labels after
every iteration. Weights that differ in the 7th digit show the effect of float32; that difference is only reported.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn import functional as F

from gta import encoders, loop
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import load_images
from gta.generate import describe
from gta.llm import prompts
from gta.scores import results
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
# For each simulated machine: environment variables, threads, and relative noise on the weights.
ROUNDINGS: dict[str, tuple[dict[str, str], int, float]] = {
    "as it is": ({}, 1, 0.0),
    "older instructions": (OLDER, 1, 0.0),
    "two threads": ({}, 2, 0.0),
    "weights + 1e-13": ({}, 1, 1e-13),
}
FLOAT32: tuple[str, tuple[dict[str, str], int, float]] = ("weights + 1e-7", ({}, 1, 1e-7))
DATASETS = ("digits", "aviary:0")


def counts(dataset: str, threads: int, noise: float, iterations: int | None = None) -> list[int]:
    """The number of correct labels after every iteration of GTA-CLIP, with the encoder of seed 0."""
    if threads > 1:
        Encoder.threads = nullcontext  # type: ignore[assignment,method-assign]  # otherwise a tiny encoder uses only one
    torch.set_num_threads(threads)
    task = tasks.load(dataset)
    encoder = encoders.load("embedded", embedded=task.embedded, device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.model.parameters():
            weight *= 1 + noise * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    questions = prompts.load(task.domain)
    settings = settings_for("embedded", task.name, **({"iterations": iterations} if iterations else {}))
    with language_model("fieldguide", 0, facts=task.facts) as llm:
        bank = describe(Bank.from_template(task.class_names, task.template, task.sentence), llm, questions)
        images, augment = load_images(task.images, encoder), task.augmentation(encoder.image_size)
        options: dict[str, Any] = {"attributes": bank, "llm": llm, "questions": questions, "augment": augment, "progress": False}
        result = loop.run(encoder, images, task.class_names, settings, **options)
    labelled = (F.one_hot(step["labels"].long(), len(task.class_names)) for step in result.history)
    return [int(results.correct(task.source, z).sum()) for z in labelled]


def elsewhere(dataset: str, environment: dict[str, str], threads: int, noise: float, iterations: int | None = None) -> list[int]:
    """`counts` in a new process, whose environment variables change its rounding."""
    asked = json.dumps([dataset, threads, noise, iterations])
    command = [sys.executable, "-m", "gta.workshop.roundings", "--counts", asked]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gta.workshop.roundings", description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, help="by default those of the embedded settings")
    parser.add_argument("--counts", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.counts:
        print(json.dumps(counts(*given.counts)))
        return 0
    differ = 0
    for dataset in DATASETS:
        found = {name: elsewhere(dataset, *rounding, given.iterations) for name, rounding in [*ROUNDINGS.items(), FLOAT32]}
        for name, right in found.items():
            same = right == found["as it is"]
            differ += not same and name in ROUNDINGS
            print(f"{dataset:10} {name:20} {'same' if same else 'DIFFERS' if name in ROUNDINGS else 'differs'}   {right}", flush=True)
    return differ


if __name__ == "__main__":
    sys.exit(main())
