"""The objectives by name."""

from collections.abc import Callable

import torch
from torch import nn

from gta.distil.objectives import Hard, Soft
from gta.distil.rationales import Rationales
from gta.distil.students import Student
from gta.distil.teachers import Teacher
from gta.distil.tinybert import TinyBERT

OBJECTIVES: dict[str, Callable[[Teacher, Student], nn.Module]] = {
    "soft": Soft,
    "hard": Hard,
    "rationales": Rationales,
    "tinybert": TinyBERT,
}


def named(name: str, teacher: Teacher, student: Student, seed: int = 0) -> nn.Module:
    """The objective of that name, with first weights of its learnt maps by seed. Raises ValueError where one of the two does not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OBJECTIVES[name](teacher, student)
