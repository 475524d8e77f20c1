"""A run of the whole method to be killed: what it called, stage by stage, in `calls`, and what came out in `out.json`."""

import json
from pathlib import Path

import torch

from gta import encoders, loop
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.generate import describe, distinguish
from gta.llm import prompts
from gta.llm.ledger import Ledger
from gta.scores import results
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for


def work(folder: Path) -> None:
    torch.set_num_threads(1)
    stage = []

    def noted(name, function):
        def call(*arguments, **options):
            with open(folder / "calls", "a", encoding="utf-8") as stream:
                stream.write(f"{name} {' '.join(map(str, stage))}\n")
            return function(*arguments, **options)

        return call

    def once(method, name, do, true_once=loop._Method.once):
        stage[:] = [method.state.iteration, name]
        true_once(method, name, noted("stage", do))

    loop._Method.once = once
    Encoder.encode_images = noted("images", Encoder.encode_images)
    Encoder.encode_texts = noted("texts", Encoder.encode_texts)
    loop.adapt = noted("adapt", loop.adapt)

    task, encoder = tasks.load("digits#small-80-0"), encoders.load("embedded", device="cpu")
    settings = settings_for("embedded", iterations=3, margin=0.5)
    questions = prompts.load(task.domain)
    with language_model("fieldguide", 0, Ledger(folder / "ledger")) as llm:
        bank = describe(Bank.from_template(task.class_names, task.template, task.sentence), llm, questions)
        options = {"attributes": bank, "llm": llm, "questions": questions, "augment": task.augmentation(32), "progress": False}
        options["ask"] = noted("distinguish", distinguish)
        result = loop.run(encoder, task.images, task.class_names, settings, **options, checkpoints=folder / "state")
        (folder / "calls.llm").write_text(str(llm.usage.calls), encoding="utf-8")
    z = {("CLIP", ""): (result.clip, 0, ("CLIP", "")), ("GTA-CLIP", ""): (result.assignments, 0, ("CLIP", ""))}
    rows, _ = results.measure("zero_shot", task, "embedded", encoder, settings, z, z.keys(), source_hash="", status="done")
    out = {
        "z": result.assignments.numpy().tobytes().hex(),
        "bank": result.attributes.to_json(),
        "rows": [row.model_dump() for row in rows],
        "history": [{k: v for k, v in step.items() if not k.startswith("seconds") and k != "labels"} for step in result.history],
        "weights": {name: float(weight.double().sum()) for name, weight in result.encoder.model.state_dict().items()},
    }
    (folder / "out.json").write_text(json.dumps(out), encoding="utf-8")
