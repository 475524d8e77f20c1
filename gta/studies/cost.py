"""The cost table: what each method takes in seconds, memory and words of a language model, beside its accuracy."""

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from pydantic import Field

from gta.files import ROOT, write_atomically
from gta.llm.chat import ChatModel, Question, Reply
from gta.llm.ledger import Ledger
from gta.llm.sampling import identity
from gta.released import asking
from gta.scores.rows import Row
from gta.state import Result
from gta.studies.parameters import RunParameters
from gta.studies.study import Study

STAGES = ("encode", "transduct", "generate", "adapt")


class Cost(RunParameters):
    """Parameters of `notebooks/cost.ipynb`. price_prompt, price_answer: of a million tokens that the language model reads and
    writes."""

    price_prompt: float = Field(ge=0)
    price_answer: float = Field(ge=0)


class Counted:
    """A language model that remembers what it was asked, so that the ledger can say what the answers cost, whoever asked first."""

    def __init__(self, llm: ChatModel):
        self._llm, self.model = llm, llm.model
        self.asked: set[tuple[str, int]] = set()

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked |= {(question.text, question.sample) for question in questions}
        return self._llm.ask(questions)

    def paid(self, ledger: Ledger) -> dict[str, float]:
        """Calls, tokens sent and written, and seconds that the answers took one after the other, unusable answers included."""
        found = {"calls": 0.0, "prompt_tokens": 0.0, "answer_tokens": 0.0, "waiting": 0.0}
        for entry in ledger:
            request = entry["request"]
            if identity(request["model"], request["sampling"]) != self.model.removesuffix(asking.ALONE).removesuffix(asking.BY_PAIR):
                continue  # of another language model, whatever a preset adds to the name of this one
            if (request["messages"][-1]["content"], request["sample"]) not in self.asked:
                continue
            for attempt in entry["attempts"]:
                found["calls"] += 1
                found["prompt_tokens"] += attempt["prompt_tokens"]
                found["answer_tokens"] += attempt["completion_tokens"]
                found["waiting"] += attempt["seconds"]
        return found


def peak_memory() -> float:
    """Of this process so far, in MB: what it had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def peak_gpu_memory() -> float:
    """Of this process so far, in MB; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0


def by_stage(result: Result) -> dict[str, float]:
    """Seconds of each stage over all iterations; both transductions of an iteration are one stage."""
    return {stage: sum(step[key] for step in result.history for key in _keys(stage, step)) for stage in STAGES}


def _keys(stage: str, step: dict) -> list[str]:
    return [key for key in step if key.startswith(f"seconds_{stage}")]


def cost(study: Study, ledger: Ledger, imported: float) -> list[dict]:
    """CLIP, TransCLIP and GTA-CLIP into `study.outcomes`, the cheapest first, since a peak never falls; returns a line each.

    imported: the peak memory when nothing but the imports had been done. Where names say nothing, all three begin with the first
    attributes. GTA-CLIP goes on from no checkpoint, so that its seconds are those of one run.
    """
    counted = Counted(study.llm)
    study.llm = counted
    lines = []
    names = study.task.baseline == "CLIP"
    described = {} if names else _described(study)
    once = study.add_first()
    for method, stages in ((study.task.baseline, STAGES[:1]), (f"Trans{study.task.baseline}", STAGES)):
        seconds = {stage: by_stage(once)[stage] if stage in stages else 0.0 for stage in STAGES}
        lines.append(_line(study, method, 1, seconds, described, counted.paid(ledger), imported))
    described = described or _described(study)
    result = study.run(study.static, counted, checkpoints=None)
    study.add("GTA-CLIP", "", result)
    lines.append(_line(study, "GTA-CLIP", len(result.history), by_stage(result), described, counted.paid(ledger), imported))
    return lines


def _described(study: Study) -> dict[str, float]:
    """Seconds that the first attributes take."""
    start = time.perf_counter()
    assert study.static
    return {"generate": time.perf_counter() - start}


def _line(study: Study, method: str, iterations: int, seconds: dict, described: dict, paid: dict, imported: float) -> dict:
    seconds = {stage: round(seconds[stage] + described.get(stage, 0.0), 3) for stage in STAGES}
    size = {"images": len(study.images), "classes": len(study.task.class_names), "iterations": iterations}
    memory = {"memory_mb": round(peak_memory() - imported, 1), "gpu_mb": round(peak_gpu_memory(), 1)}
    return {"method": method, **size, **seconds, **memory, **{key: round(value, 3) for key, value in paid.items()}}


def write(lines: Sequence[dict], parameters: Cost, rows: Sequence[Row]) -> pd.DataFrame:
    """`cost_stages.csv`: the lines of `cost` with dataset, encoder and seed, what the tokens cost, and the accuracy of the rows."""
    right = {row.method: row for row in rows}
    frame = pd.DataFrame(lines)
    frame["price"] = (frame.prompt_tokens * parameters.price_prompt + frame.answer_tokens * parameters.price_answer) / 1e6
    frame["accuracy"] = [right[method].accuracy for method in frame.method]
    setting: dict[str, Any] = {
        "dataset": rows[0].dataset,
        "backbone": parameters.named_backbone,
        "seed": parameters.seed,
        "device": rows[0].device,
    }
    frame = frame.assign(**setting, price_prompt=parameters.price_prompt, price_answer=parameters.price_answer)
    frame = frame.astype({name: int for name in ("calls", "prompt_tokens", "answer_tokens")})
    frame = frame[[*setting, *frame.columns.difference([*setting], sort=False)]]
    write_atomically(ROOT / parameters.out / "cost_stages.csv", frame.to_csv(index=False))
    return frame
