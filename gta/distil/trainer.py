"""One small trainer for every objective: AdamW, a cosine, the same views for all, and a checkpoint after each epoch.

The last iterate is kept: nothing is chosen by labels, for there are none. What an epoch draws depends on the seed and its number alone, so
that a run that was killed goes on from its last epoch and ends as one that was not.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from tqdm import tqdm

from gta.checkpoints import Checkpoints
from gta.distil.objectives import total
from gta.distil.students import Student

# Learning rates of random weights, in a network with batch normalisation and in another, and of weights that have seen images.
NORMALISED, FRESH, TUNED = 1e-2, 1e-3, 3e-4
CROP = (0.6, 1.0)  # of the area of an image: what is small in it, such as a bill, stays in most views


@dataclass(frozen=True)
class Recipe:
    """How a student is trained. epochs: passes over the images; batch: images a step; lr, weight_decay: of AdamW, the first falling to 0
    along a cosine (arXiv 1608.03983, eq. 5, without restarts) after `warm` of all steps, in which it rises, None for `usual_lr`; clip: the
    largest norm of a gradient; flip: whether images are mirrored, which may turn a letter into another. Raises ValueError for what cannot
    be."""

    epochs: int = 30
    batch: int = 64
    lr: float | None = None
    weight_decay: float = 0.02
    warm: float = 0.05
    clip: float = 1.0
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"--epochs {self.epochs}: at least one is needed, with batches of two images or more")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr {self.lr}: a learning rate is above 0, such as {FRESH}")

    def share_of_lr(self, share: float) -> float:
        """The part of `lr` after a share of all steps, from 0 to 1."""
        if share < self.warm:
            return share / self.warm
        return 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * (share - self.warm) / (1 - self.warm))).item()


def usual_lr(student: Student) -> float:
    """The largest learning rate, by what the student is: 0.0003 where it starts from weights, else 0.01 with batch normalisation, 0.001
    without."""
    if student.started:
        return TUNED
    return NORMALISED if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in student.modules()) else FRESH


def views(size: int, flip: bool) -> Callable[[Tensor], Tensor]:
    """From uint8 (3, H, W) to a random crop of it, uint8 (3, size, size), mirrored half of the time."""
    crop = v2.RandomResizedCrop(size, scale=CROP, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip()]) if flip else crop


def train(
    student: Student,
    objective: nn.Module,
    pixels: Tensor,
    soft: Tensor,
    recipe: Recipe,
    checkpoints: Checkpoints | None = None,
    *,
    progress: bool = True,
    identity: str = "",
) -> list[dict[str, float]]:
    """Train the student in place. Returns the mean of each term, and of their weighted sum `loss`, for each epoch.

    pixels: uint8 (N, 3, size, size), as the student's reader stores them; soft: float (N, M), rows that sum to 1. checkpoints: where an
    interrupted run goes on; those of another recipe, student, `identity` or images are passed over. An objective with a method `at` is
    told the share of training that is done, before each epoch. Raises ValueError for soft labels that do not fit, and FloatingPointError
    where the loss is no number.
    """
    if soft.shape != (len(pixels), len(student.class_names)) or not torch.allclose(soft.sum(1), torch.ones(()).to(soft), atol=1e-4):
        told = f"soft labels {tuple(soft.shape)} of {len(pixels)} images and {len(student.class_names)} classes"
        raise ValueError(f"{told}: a row for each image is needed, which sums to 1")
    run = _Run(student, objective, recipe)
    named = _identity(student, objective, pixels, soft, recipe, identity)
    start, history = (0, []) if checkpoints is None else run.restore(checkpoints, named)
    steps, batches = recipe.epochs * -(-len(pixels) // recipe.batch), -(-len(pixels) // recipe.batch)
    with student.reader.threads(), tqdm(total=steps, initial=start * batches, desc="distil", unit="step", disable=not progress) as bar:
        for epoch in range(start, recipe.epochs):
            means = run.epoch(epoch, pixels, soft, bar)
            history.append(means)
            bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()})
            if checkpoints is not None:
                run.save(checkpoints, named, epoch + 1, history)
    student.eval()
    return history


class _Run:
    """Student, objective and optimizer, and the way from one epoch to the next."""

    def __init__(self, student: Student, objective: nn.Module, recipe: Recipe):
        self.student, self.objective, self.recipe = student, objective, recipe
        of_student = {id(p) for p in student.parameters()}
        self.learnt = {name: p for name, p in objective.named_parameters() if p.requires_grad and id(p) not in of_student}
        self.trained = [*(p for p in student.parameters() if p.requires_grad), *self.learnt.values()]
        self.lr = recipe.lr or usual_lr(student)
        groups = [{"params": [p for p in self.trained if (p.ndim > 1) == matrix]} for matrix in (True, False)]
        groups[1]["weight_decay"] = 0.0  # type: ignore[assignment]  # of biases and norms, as is usual
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=recipe.weight_decay)

    @property
    def device(self) -> torch.device:
        return self.student.head.weight.device

    def epoch(self, number: int, pixels: Tensor, soft: Tensor, bar: tqdm) -> dict[str, float]:
        """One pass in a random order, each image in one view. Returns means over the images."""
        recipe, count = self.recipe, len(pixels)
        augment = views(self.student.size, recipe.flip)
        if callable(at := getattr(self.objective, "at", None)):
            at(number / recipe.epochs)
        self.student.train()
        sums: dict[str, float] = {}
        batches = -(-count // recipe.batch)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(_seed(recipe.seed, number))
            for step, rows in enumerate(torch.randperm(count).split(recipe.batch)):
                if len(rows) == 1 and count > 1:  # batch normalisation has no variance of one image
                    rows = rows.repeat(2)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.lr * recipe.share_of_lr((number * batches + step + 1) / (recipe.epochs * batches + 1))
                seen = torch.stack([augment(pixels[row]) for row in rows.tolist()]).to(self.device)
                terms = self.step(self.student.normalised(seen), soft[rows].to(self.device))
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value * len(rows)
                bar.update()
        return {name: value / count for name, value in sums.items()}

    def step(self, images: Tensor, soft: Tensor) -> dict[str, float]:
        """One step of the optimizer. Returns the terms and `loss` from before it."""
        terms = self.objective(images, soft)
        loss = total(self.objective, terms)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()}: {', '.join(f'{k} {v.item():.3g}' for k, v in terms.items())}; a lower lr helps"
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.recipe.clip)
        self.optimizer.step()
        return {**{name: term.item() for name, term in terms.items()}, "loss": loss.item()}

    def save(self, checkpoints: Checkpoints, identity: str, done: int, history: Sequence[dict[str, float]]) -> None:
        """Write weights, moments of the optimizer and history."""
        state = self.optimizer.state_dict()["state"]
        moments = {f"{i}.{key}": value for i, of in state.items() for key, value in of.items()}
        groups = {"student": dict(self.student.state_dict()), "learnt": dict(self.learnt), "moments": moments}
        facts = {"identity": identity, "done": done, "history": list(history)}
        checkpoints.save(facts, {name: group for name, group in groups.items() if group}, self.device)

    def restore(self, checkpoints: Checkpoints, identity: str) -> tuple[int, list[dict[str, float]]]:
        """The epochs that are done and their history, with everything as it was then; (0, []) where there is nothing of this run."""
        found = checkpoints.latest(self.device)
        if found is None or found.facts["identity"] != identity:
            return 0, []
        self.student.load_state_dict(found.groups["student"])
        with torch.no_grad():
            for name, value in found.groups.get("learnt", {}).items():
                self.learnt[name].copy_(value)
        state: dict[int, dict[str, Any]] = {}
        for name, value in found.groups.get("moments", {}).items():
            i, _, key = name.partition(".")
            state.setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        return found.facts["done"], found.facts["history"]


def _seed(seed: int, epoch: int) -> int:
    """Of what an epoch draws."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:8]) >> 1


def _identity(student: Student, objective: nn.Module, pixels: Tensor, soft: Tensor, recipe: Recipe, more: str) -> str:
    """A hash of all that a run begins with."""
    digest = hashlib.sha256(f"{asdict(recipe)} {type(objective).__name__} {student.described} {more}".encode())
    digest.update(pixels.contiguous().numpy().tobytes())
    digest.update(soft.double().contiguous().numpy().tobytes())
    digest.update(student.sha256.encode())
    return digest.hexdigest()
