"""A run of the method by one of several processes that share it."""

import os
from pathlib import Path

import torch

from gta import encoders, loop
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.parallel import crew
from gta.worlds.settings import settings_for


def everything(model, settings):
    """All parameters learn: the scale of the logits too, and one that nothing reads."""
    return [{"params": list(model.parameters()), "lr": settings.lr}]


def run(batch_size, groups=None):
    """What a run on 80 digits says in numbers, in float64: z, the weights before and after it, and what each pass of adapt did."""
    torch.set_num_threads(1)
    task, encoder = tasks.load("digits#small-80-0"), encoders.load("embedded", device="cpu")
    encoder.model.unread = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    settings = settings_for("embedded", iterations=3, confident=2, batch_size=batch_size)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    options = {"attributes": bank, "augment": task.augmentation(32), "groups": groups, "progress": False}
    result = loop.run(encoder, task.images, task.class_names, settings, **options)
    adapted = [{name: step[name] for name in ("loss", "fall", "groups")} for step in result.history[:-1]]
    before, weights = (dict(one.model.state_dict()) for one in (encoder, result.encoder))
    return {"z": result.assignments, "before": before, "weights": weights, "adapted": adapted}


def work(place: int, size: int, port: int, out: Path, *asked) -> None:
    """Process `place` of `size`. They find each other by variables of the environment, as torchrun gives them."""
    os.environ.update(RANK=f"{place}", LOCAL_RANK=f"{place}", WORLD_SIZE=f"{size}", MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}")
    with crew() as leads:
        if leads:
            torch.save(run(*asked), out)
