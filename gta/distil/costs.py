"""What a labeller costs: parameters, megabytes in float32, and milliseconds an image on one core, all measured in turn in one run."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gta.distil.architectures import size_of
from gta.distil.students import Student
from gta.distil.teachers import Teacher
from gta.label.portable import Labeller

ROUNDS = 31


class FromPixels(nn.Module):
    """A student as its graph has it: from uint8 pixels (N, 3, size, size) to z (N, M)."""

    mean: Tensor
    std: Tensor

    def __init__(self, student: Student):
        super().__init__()
        self.student = student.eval()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(student, name)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.student((pixels.float() / 255 - self.mean) / self.std).softmax(1)


@dataclass(frozen=True)
class Cost:
    """parameters: of all that labels an image; megabytes: of its weights in float32; milliseconds: an image."""

    parameters: int
    megabytes: float
    milliseconds: float


def labeller(of: Teacher | Student) -> tuple[nn.Module, int]:
    """What labels an image, from uint8 pixels (1, 3, side, side), on the CPU in float32, and its side. A teacher reads no text again."""
    if isinstance(of, Student):
        return FromPixels(of.cpu()), of.size
    return Labeller(of.encoder, of.classifier), of.encoder.image_size


@torch.no_grad()
def costs(of: Sequence[Teacher | Student], rounds: int = ROUNDS) -> list[Cost]:
    """The cost of each, in their order. Times are medians over `rounds` of the processor's time for one image on one thread, which is what
    passes on a core of its own, whatever else the machine does; in each round all take their turn."""
    made = [labeller(one) for one in of]
    images = [torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8) for _, side in made]
    times: list[list[float]] = [[] for _ in made]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(rounds + 2):
            for (module, _), image, taken in zip(made, images, times, strict=True):
                start = time.thread_time()
                module(image)
                if turn >= 2:  # the first are slower
                    taken.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    sizes = [
        size_of(module) + (0 if isinstance(one, Student) else 2 * one.classifier.texts.numel())
        for (module, _), one in zip(made, of, strict=True)
    ]
    return [Cost(size, 4 * size / 1e6, 1000 * statistics.median(taken)) for size, taken in zip(sizes, times, strict=True)]
