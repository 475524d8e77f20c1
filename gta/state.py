"""All that a run of the method has found out: what a checkpoint holds, and what a run gives."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gta.attributes import Bank
from gta.checkpoints import Checkpoint, Checkpoints
from gta.encoders.encoder import Encoder
from gta.generate import Pair
from gta.labels import SparseZ, Z, answer, values_of
from gta.transduct import Transduction
from gta.transduct.sparse import SparseTransduction


@dataclass
class State:
    """done: stages of this iteration, with their seconds; asked: its pairs; texts: those that have features.

    tensors: `weights` of the encoder once it is adapted; `features` of images (query, then support); `texts`, the features of texts;
    `z` of the last transduction, and its `mixture`; `clip`, the first prior; `labels` (t, N) of the iterations before; `calls`, labels
    (c, N) of all transductions, which `called` names by iteration and number in it. adapted: what adapt did, as `gta.adapt.Adapted`. A
    group is replaced, never changed in place. There is no random state: what an iteration draws depends on seed, draw and its number alone.
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

    def hold(self, found: Transduction | SparseTransduction, prior: Z | None) -> None:
        """Take in a transduction and, of the first one, the prior. Keep its labels."""
        of_view = {name: getattr(found, name, None) for name in ("view_prototypes", "view_variance")}
        mixture = {"prototypes": found.prototypes, "variance": found.variance, **of_view}
        self.tensors["mixture"] = {name: tensor for name, tensor in mixture.items() if tensor is not None}
        if isinstance(found, Transduction):
            self.tensors["z"] = {"z": found.assignments, "logits": found.logits}
        else:
            self.tensors["z"] = _tensors_of(found.z)
        if "clip" not in self.tensors and prior is not None:
            self.tensors["clip"] = _tensors_of(prior)
        self.objective = found.objective[-1] if found.objective else None
        before = [self.tensors["calls"]["labels"]] if "calls" in self.tensors else []
        self.tensors["calls"] = {"labels": torch.cat([*before, answer(self.held)[None].int()])}
        self.called = [*self.called, (self.iteration, sum(t == self.iteration for t, _ in self.called))]

    @property
    def held(self) -> Z:
        """z of the last transduction."""
        return self._z_of("z")

    @property
    def prior(self) -> Z:
        """The first prior."""
        return self._z_of("clip")

    @property
    def z(self) -> Tensor:
        """z (N, M), whole."""
        return self.held[:]

    def _z_of(self, group: str) -> Z:
        tensors = self.tensors[group]
        return SparseZ(**tensors, size=len(self.tensors["mixture"]["prototypes"])) if "rest" in tensors else tensors["z"]

    @property
    def changed(self) -> float | None:
        """The share of labels that differ from those of the iteration before."""
        before = self.tensors.get("labels")
        return float((answer(self.held).cpu() != before["labels"][-1].cpu()).float().mean()) if before else None

    def close_iteration(self) -> None:
        """Write the history of an iteration, and begin the next."""
        summary = {
            "iteration": self.iteration,
            "objective": self.objective,
            "changed": self.changed,
            "confidence": float(values_of(self.held).amax(1).mean()),
            "asked": len(self.asked),
            "texts": sum(map(len, self.bank.at(self.iteration).texts)),
            **(self.adapted or {"loss": None, "fall": None, "groups": None}),
            **{f"seconds_{stage}": seconds for stage, seconds in self.done.items()},
        }
        labels = answer(self.held).cpu()[None].int()
        before = [self.tensors["labels"]["labels"].cpu()] if "labels" in self.tensors else []
        self.tensors["labels"] = {"labels": torch.cat([*before, labels])}
        self.history, self.iteration = [*self.history, summary], self.iteration + 1
        self.done, self.asked, self.adapted = {}, [], None


@dataclass(frozen=True)
class Result:
    """What a run gives; its tensors are on the CPU. held: z of the last transduction; prior: what the untouched encoder predicts from
    the first bank, in the same form; attributes: the grown bank; encoder: the adapted one, which made z; history: one dict an
    iteration, with its labels (N,); checkpoints: those of this very run; calls: {(iteration, 0 or 1): labels (N,)} of every transduction,
    the second one of an iteration where it asked something. The last transduction used or found prototypes (M, d) and
    variance (d,) of the mixture, features (N, d) of the images, text_features, M tensors (n_j, d), and with a view its prototypes (M, d2)
    and variance (d2,)."""

    held: Z
    prior: Z
    attributes: Bank
    encoder: Encoder
    history: list[dict[str, Any]]
    checkpoints: Checkpoints | None
    calls: dict[tuple[int, int], Tensor]
    prototypes: Tensor
    variance: Tensor
    features: Tensor
    text_features: list[Tensor]
    view_prototypes: Tensor | None = None
    view_variance: Tensor | None = None

    @property
    def assignments(self) -> Tensor:
        """z (N, M), made whole where its largest entries alone are held."""
        return self.held[:]

    @property
    def clip(self) -> Tensor:
        """The prior (N, M), likewise."""
        return self.prior[:]

    @property
    def seconds(self) -> float:
        """The time of all stages, also of those before an interruption."""
        return sum(seconds for step in self.history for name, seconds in step.items() if name.startswith("seconds_"))

    @property
    def trail(self) -> Iterator[State]:
        """The state of each iteration after its last transduction, in order, on the CPU, without weights. Raises ValueError unless the
        run kept them all, as it does with `checkpoints=Checkpoints(folder, trail=True)`."""
        count = 0
        for state in map(State.of, self.checkpoints.trail() if self.checkpoints else ()):
            if state.iteration == count:  # not a state that was made again after a damaged checkpoint
                yield state
                count += 1
        if count < len(self.history):
            where = self.checkpoints.folder if self.checkpoints else "no checkpoints"
            mend = "run with Checkpoints(FOLDER, trail=True) from the beginning, in a new folder"
            raise ValueError(f"{where}: {count} of {len(self.history)} iterations were kept; {mend}")


def _tensors_of(z: Z) -> dict[str, Tensor]:
    return {"classes": z.classes, "values": z.values, "rest": z.rest} if isinstance(z, SparseZ) else {"z": z}
