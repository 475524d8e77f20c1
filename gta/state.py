"""All that a run of the method has found out: what a checkpoint holds."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gta.attributes import Bank
from gta.checkpoints import Checkpoint, Checkpoints
from gta.generate import Pair
from gta.transduct import answer


@dataclass
class State:
    """done: stages of this iteration, with their seconds; asked: its pairs; texts: those that have features.

    tensors: `weights` of the encoder once it is adapted; `features` of images (query, then support); `texts`, the features of texts;
    `z`, the last transduction; `clip`, the first prior (N, M); `labels` (t, N) of the iterations before; `calls`, labels (c, N) of all
    transductions, which `called` names by iteration and number in it. adapted: what adapt did, as `gta.adapt.Adapted`. A group is
    replaced, never changed in place. There is no random state: what an iteration draws depends on seed, draw and its number alone.
    """

    bank: Bank
    iteration: int = 0
    done: dict[str, float] = field(default_factory=dict)
    asked: list[Pair] = field(default_factory=list)
    beta: int | None = None
    objective: float | None = None
    adapted: dict[str, Any] | None = None
    called: list[tuple[int, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def save(self, checkpoints: Checkpoints, device: torch.device) -> None:
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("bank", "tensors")}
        milestone = "transduct again" in self.done and "adapt" not in self.done
        checkpoints.save({**facts, "bank": self.bank.to_json()}, self.tensors, device, milestone)

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> "State":
        facts = {**checkpoint.facts, "bank": Bank.from_json(checkpoint.facts["bank"], "a checkpoint")}
        tensors = {name: {key: tensor.to(device) for key, tensor in group.items()} for name, group in checkpoint.groups.items()}
        state = cls(**facts, tensors=tensors)
        state.asked = [tuple(pair) for pair in state.asked]  # type: ignore[misc]
        return state

    @property
    def z(self) -> Tensor:
        return self.tensors["z"]["z"]

    @property
    def changed(self) -> float | None:
        """The share of labels that differ from those of the iteration before."""
        before = self.tensors.get("labels")
        return float((answer(self.z).cpu() != before["labels"][-1].cpu()).float().mean()) if before else None

    def keep_call(self) -> None:
        """Keep the labels of a transduction."""
        before = [self.tensors["calls"]["labels"]] if "calls" in self.tensors else []
        self.tensors["calls"] = {"labels": torch.cat([*before, answer(self.z)[None].int()])}
        self.called = [*self.called, (self.iteration, sum(t == self.iteration for t, _ in self.called))]

    def close_iteration(self) -> None:
        """Write the history of an iteration, and begin the next."""
        summary = {
            "iteration": self.iteration,
            "objective": self.objective,
            "changed": self.changed,
            "confidence": float(self.z.amax(1).mean()),
            "asked": len(self.asked),
            "texts": sum(map(len, self.bank.at(self.iteration).texts)),
            **(self.adapted or {"loss": None, "fall": None, "groups": None}),
            **{f"seconds_{stage}": seconds for stage, seconds in self.done.items()},
        }
        labels = answer(self.z).cpu()[None].int()
        before = [self.tensors["labels"]["labels"].cpu()] if "labels" in self.tensors else []
        self.tensors["labels"] = {"labels": torch.cat([*before, labels])}
        self.history, self.iteration = [*self.history, summary], self.iteration + 1
        self.done, self.asked, self.adapted = {}, [], None
