"""What a student is trained on: the form of every objective, and the two that need labels alone.

An objective is built from teacher and student and may hold learnt maps of its own. Called with images (B, 3, H, W), which are the student's
input, and soft labels (B, M), whose rows sum to 1, it gives named scalar terms. The trainer minimises their sum, each times its weight in
`weights` where it has one there, over the parameters of student and objective.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gta.distil.students import Student
from gta.distil.teachers import Teacher

TEMPERATURE = 1.0  # chosen in a world that no table has; the z of a mixture are soft already


class Objective(Protocol):
    """What `gta.distil.trainer` needs; `weights` may be missing. Only parameters with `requires_grad` are trained."""

    def __call__(self, images: Tensor, soft: Tensor) -> dict[str, Tensor]: ...

    def parameters(self): ...

    def named_parameters(self): ...


def total(objective: nn.Module, terms: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of an objective's terms."""
    weights = getattr(objective, "weights", {})
    return sum((weights.get(name, 1.0) * term for name, term in terms.items()), start=torch.zeros(()).to(next(iter(terms.values()))))


def cross_entropy(logits: Tensor, soft: Tensor) -> Tensor:
    """The mean over images of the cross entropy on the likeliest class: hard labels."""
    return F.cross_entropy(logits, soft.argmax(1))


def softened(soft: Tensor, temperature: float) -> Tensor:
    """q = softmax( log z / T ) of z (B, M): what a softmax at temperature T makes of logits whose softmax is z. A z of 0 stays 0."""
    powers = soft ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)


def divergence(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """T^2 KL(q || p), the mean over images, where p = softmax(logits / T) and q is `softened`.

    *Distilling the Knowledge in a Neural Network* (arXiv 1503.02531), section 2: the cross entropy with soft targets, times T^2, since the
    gradients of the softened targets scale as 1 / T^2. The entropy of q, which no parameter changes, is subtracted, so that 0 is the least.
    """
    q = softened(soft.to(logits), temperature)
    return temperature**2 * (torch.xlogy(q, q) - q * F.log_softmax(logits / temperature, dim=1)).sum(1).mean()


class Hard(nn.Module):
    """The cross entropy on the teacher's labels. `label`: the term."""

    def __init__(self, teacher: Teacher, student: Student):
        super().__init__()
        self.student = student

    def forward(self, images: Tensor, soft: Tensor) -> dict[str, Tensor]:
        return {"label": cross_entropy(self.student(images), soft)}


class Soft(nn.Module):
    """The divergence from the teacher's soft labels at a temperature, without hard labels: nobody has the true ones, with which the paper
    adds a second term. `soft`: the term."""

    def __init__(self, teacher: Teacher, student: Student, temperature: float = TEMPERATURE):
        super().__init__()
        self.student, self.temperature = student, temperature

    def forward(self, images: Tensor, soft: Tensor) -> dict[str, Tensor]:
        return {"soft": divergence(self.student(images), soft, self.temperature)}
