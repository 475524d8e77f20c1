"""Which layer of the teacher a layer of the student learns from, and a student that begins as those layers of its teacher.

The map n = g(m) is TinyBERT's uniform one (arXiv 1909.10351, section 3.1 and the comparison of mappings): layer m of M learns from layer
m N / M of N, and the last from the last. Where M does not divide N, the next layer above is taken.
"""

import copy
from typing import Any, TypeVar

from torch import nn

from gta.distil import taps

Tower = TypeVar("Tower", bound=nn.Module)


def uniform(student: int, teacher: int) -> tuple[int, ...]:
    """g(1), ..., g(M), numbers from 1, for M layers of the student and N of the teacher. Raises ValueError unless 1 <= M <= N."""
    if not 1 <= student <= teacher:
        raise ValueError(
            f"a student of {student} layers and a teacher of {teacher}: a student has at least one layer and at most its teacher's"
        )
    return tuple(-(-m * teacher // student) for m in range(1, student + 1))


def fewer_layers(tower: Tower, layers: int) -> Tower:
    """A copy of a tower that has only the layers g(1), ..., g(M), with weights of its own. Raises ValueError as `uniform` does."""
    kept = uniform(layers, len(taps.blocks(tower)))
    smaller = copy.deepcopy(tower)
    for parent in list(smaller.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.ModuleList, nn.Sequential)) and len(child) and list(child) == taps.blocks(smaller):
                of_kept = [child[n - 1] for n in kept]
                setattr(parent, name, nn.ModuleList(of_kept) if isinstance(child, nn.ModuleList) else nn.Sequential(*of_kept))
                for holder in smaller.modules():  # what a saved model is described by
                    config: Any = getattr(holder, "config", None)
                    if hasattr(config, "num_hidden_layers"):
                        config.num_hidden_layers = layers
                return smaller
    raise ValueError(f"{type(tower).__name__} does not keep its blocks in one list; build the student by its own configuration")
