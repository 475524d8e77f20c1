"""What adapt does to the weights in each regime: mean |g|, the share of gradients below the gate, mean |dw| of a step, by group of tensors.

    python benchmarks/regime.py             # ViT-B/16 with random weights, three steps of 32 images; results/benchmarks/regime.csv
    python benchmarks/regime.py --smoke     # the embedded encoder, to look at the path

`as_described` and `as_released` are the presets (`docs/presets.md`); between them stand the released step on float32 weights, and the same
without the rounding of weights. `fall` is how far the loss on the first batch fell over the pass. Float16 weights take minutes a step of a
large encoder on a CPU, so there `as_released` is left out, and its step on float32 weights stands for it. `seconds` is a step's, the
optimiser's own beside it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from statistics import median

import torch
from made import load, pictures, texts
from torch.nn.functional import one_hot
from torch.optim import optimizer

from gta.adapt import Selection, adapt, draw_batches, natural_augmentation
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images
from gta.files import write_atomically
from gta.released.presets import AS_RELEASED
from gta.settings import Settings
from measuring import begin, table

RELEASED = dict(AS_RELEASED.settings)
# By name: from an encoder to the one that adapts, its settings, and what learns.
WAYS: dict[str, tuple[Callable[[Encoder], Encoder], Settings, Callable | None]] = {
    "as_described": (Encoder.copy, Settings(), None),
    "released step, float32 weights": (Encoder.copy, Settings(**RELEASED), AS_RELEASED.hooks["groups"]),
    "released step, weights unrounded": (
        Encoder.copy,
        Settings(**{**RELEASED, "optimizer": "released_unrounded"}),
        AS_RELEASED.hooks["groups"],
    ),
    "as_released": (AS_RELEASED.encoder, Settings(**RELEASED), AS_RELEASED.hooks["groups"]),
}


def possible(name: str, backbone: str, device: str) -> bool:
    return name != "as_released" or device != "cpu" or backbone == "embedded"


def steps(way: str, backbone: str, device: str, count: int, batch: int = 32, classes: int = 8) -> list[dict]:
    """`count` steps of adapt: a row for each group of tensors, all with the loss, its fall, and the seconds of a step."""
    prepare, settings, groups = WAYS[way]
    encoder = prepare(load(backbone, device))
    pixels = pictures(count * batch, classes, encoder.image_size, device)
    images, rows = Images.of_pixels(pixels), torch.arange(count * batch)
    selection = Selection(rows, one_hot(rows % classes, classes).bool())
    batches = draw_batches(selection, texts(encoder, classes, 3).texts, batch, "0", images.key)
    augment = natural_augmentation(encoder.image_size)
    with encoder.threads(), stamps(device) as (begun, ended):
        adapted = adapt(encoder, images.original, batches, settings, augment, groups)
    whole = median(b - a for a, b in pairwise(ended)) if count > 1 else float("nan")
    alone = median(b - a for a, b in zip(begun, ended, strict=True))
    shared = {"way": way, "encoder": backbone, "device": device, "steps": count, "batch": batch, "loss": adapted.loss, "fall": adapted.fall}
    shared |= {"seconds": whole, "seconds_optimizer": alone}
    return [{**shared, "group": group, **did} for group, did in adapted.groups.items()]


@contextmanager
def stamps(device: str) -> Iterator[tuple[list[float], list[float]]]:
    """The moments at which any optimiser began and ended a step, while the block runs."""

    def stamp(moments: list[float], *_) -> None:
        if device != "cpu":
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    begun: list[float] = []
    ended: list[float] = []
    before = optimizer.register_optimizer_step_pre_hook(partial(stamp, begun))
    after = optimizer.register_optimizer_step_post_hook(partial(stamp, ended))
    try:
        yield begun, ended
    finally:
        before.remove()
        after.remove()


def main() -> None:
    arguments, folder = begin(__doc__, dict)
    backbone = "embedded" if arguments.smoke else "ViT-B/16"
    rows: list[dict] = []
    for way in WAYS:
        if possible(way, backbone, arguments.device):
            rows += steps(way, backbone, arguments.device, 3)
            write_atomically(folder / "regime.csv", table(rows))
            print(f"{way}: loss {rows[-1]['loss']:.4g}, fall {rows[-1]['fall']:.3g}, {rows[-1]['seconds']:.3g} s a step", flush=True)


if __name__ == "__main__":
    main()
