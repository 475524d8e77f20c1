"""What `--groups` of `python -m gta label` is worth, on digits that are drawn in bursts of four.

    python benchmarks/groups.py            # results/benchmarks/groups.csv; about two minutes of one core
    python benchmarks/groups.py --smoke    # one seed, two iterations, under runs/smoke

Made-up cases: 120 bursts are labelled together from class names alone; encoders and drawings of seeds 0 to 4.

renderings  a burst draws its digit four times anew: the most that looks can differ
copies      a burst draws its digit once and adds four noises: what a quick camera sees of an animal that does not move
mixed       renderings, and the last image of each burst is of another class: where a group is no group

alone       each image has its own z
log pool    z of a group is proportional to exp(mean log z): the rule in use (`gta.label.groups`)
mean        z of a group is the mean of z
product     z of a group is proportional to the product of z

accuracy    images whose own class the label is, in %;  overconfidence  mean confidence less accuracy, in percentage points
"""

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.label.groups import LEAST, pool
from gta.labels import answer
from gta.loop import run
from gta.worlds.glyphs import DIGITS, NAMES, render
from gta.worlds.settings import settings_for
from measuring import begun, place, stamped

BURSTS, SHOTS, NOISE = 120, 4, 12.0  # NOISE: standard deviation of what a copy adds to its pixels, of 255


def main() -> None:
    smoke = begun(__doc__).smoke
    torch.set_num_threads(1)
    rows = [{"seed": seed, **row} for seed in range(1 if smoke else 5) for row in measured(seed, {"iterations": 2} if smoke else {})]
    frame = pd.DataFrame(rows)
    print(frame.groupby(["case", "rule"], sort=False).mean(numeric_only=True).drop(columns="seed").round(1).to_string())
    write_atomically(place("groups", smoke), stamped(frame).to_csv(index=False))


def measured(seed: int, changes: dict) -> Iterator[dict]:
    """A row for each case and rule."""
    encoder = encoders.load("embedded", seed=seed, device="cpu")
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    numbers = torch.arange(BURSTS).repeat_interleave(SHOTS)
    for case, draw in CASES.items():
        pixels, truth = draw(torch.Generator().manual_seed(seed))
        images = load_images(list(pixels.permute(0, 2, 3, 1).numpy()), encoder, progress=False)
        z = run(encoder, images, DIGITS, settings_for("embedded", **changes), attributes=bank, progress=False).assignments
        for rule, of in RULES.items():
            said = of(z, numbers)
            right, sure = 100 * float((answer(said) == truth).double().mean()), 100 * float(said.amax(1).double().mean())
            yield {"case": case, "rule": rule, "images": len(z), "accuracy": right, "overconfidence": sure - right}


def renderings(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 pixels (BURSTS * SHOTS, 3, H, W) and their classes; the images of a burst follow each other."""
    truth = torch.randint(len(DIGITS), (BURSTS,), generator=generator).repeat_interleave(SHOTS)
    return drawn(truth, generator), truth


def copies(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    truth = torch.randint(len(DIGITS), (BURSTS,), generator=generator)
    pixels = drawn(truth, generator).repeat_interleave(SHOTS, 0).float()
    noise = NOISE * torch.randn(len(pixels), 1, *pixels.shape[2:], generator=generator)
    return (pixels + noise).round().clamp(0, 255).to(torch.uint8), truth.repeat_interleave(SHOTS)


def mixed(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    truth = torch.randint(len(DIGITS), (BURSTS,), generator=generator).repeat_interleave(SHOTS)
    truth[SHOTS - 1 :: SHOTS] = (truth[SHOTS - 1 :: SHOTS] + torch.randint(1, len(DIGITS), (BURSTS,), generator=generator)) % len(DIGITS)
    return drawn(truth, generator), truth


def drawn(classes: Tensor, generator: torch.Generator) -> Tensor:
    return render(torch.tensor([NAMES.index(name) for name in DIGITS])[classes], "held_out", generator)


def mean(z: Tensor, numbers: Tensor) -> Tensor:
    sums = z.new_zeros(BURSTS, z.shape[1]).index_add_(0, numbers, z)
    return (sums / SHOTS)[numbers]


def product(z: Tensor, numbers: Tensor) -> Tensor:
    logs = z.double().clamp_min(LEAST).log()
    return logs.new_zeros(BURSTS, z.shape[1]).index_add_(0, numbers, logs).softmax(1)[numbers]


CASES: dict[str, Callable[[torch.Generator], tuple[Tensor, Tensor]]] = {"renderings": renderings, "copies": copies, "mixed": mixed}
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "alone": lambda z, numbers: z,
    "log pool": lambda z, numbers: pool(z, numbers, BURSTS)[numbers],
    "mean": mean,
    "product": product,
}


if __name__ == "__main__":
    main()
