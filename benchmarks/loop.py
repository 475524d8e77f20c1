"""Memory and time of the whole method where z is held whole and where it is held by 64 entries of each image.

    python benchmarks/loop.py            # results/benchmarks/loop.csv; five minutes on two cores
    python benchmarks/loop.py --smoke    # few images and classes, under runs/smoke

Two iterations of encode, transduct and adapt with the embedded encoder in float32, on noisy digits, with three words of its tokenizer as
the name of a class. Such names tell nothing, so z is spread over hundreds of classes: the hardest case for few entries, and no case for
accuracy. `peak_gb` is the most private memory of the process beyond that before the run, `matrices` that in matrices (N, M) of float32;
`same` is the share of images with the label of the whole z, `rest` the mean mass that is not held. Each case is a process of its own.
"""

import itertools
import json
import time

from scale import Memory

from gta.files import ROOT, write_atomically
from measuring import begin, in_a_process, table

SIZES, SMALL = ((20_000, 500), (20_000, 1750)), ((400, 80),)
KEEP = 64
NOISE = 40  # levels of brightness, up and down


def main() -> None:
    arguments, folder = begin(__doc__, measure)
    rows = []
    for n, m in SMALL if arguments.smoke else SIZES:
        cases = [in_a_process(__file__, {"n": n, "m": m, "keep": keep}) for keep in (m, KEEP)]
        whole, labels = (case.pop("labels") for case in cases)
        cases[1]["same"] = sum(a == b for a, b in zip(whole, labels, strict=True)) / n
        rows += cases
        write_atomically(folder / "loop.csv", table(rows))
        for row in cases:
            print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    print(f"table: {folder / 'loop.csv'}")


def measure(n: int, m: int, keep: int) -> dict:
    import torch

    from gta import encoders, loop
    from gta.attributes import Bank
    from gta.encoders.images import Images
    from gta.labels import answer, rest_of, values_of
    from gta.worlds.settings import settings_for

    encoder, names, pixels = encoders.load("embedded", device="cpu"), class_names(m), noisy_digits(n)
    given = {"attributes": Bank.from_template(names, "a picture of the digit {}"), "augment": lambda image: image, "keep": keep}
    with Memory() as memory:
        start = time.perf_counter()
        settings = settings_for("embedded", iterations=2)
        found = loop.run(encoder, Images.of_pixels(pixels), names, settings, **given, dtype=torch.float32, progress=False)
        seconds = time.perf_counter() - start
    stages = {stage: sum(step[f"seconds_{stage}"] for step in found.history) for stage in ("encode", "transduct", "adapt")}
    row = {"n": n, "m": m, "keep": keep, "seconds": seconds, **stages, "peak_gb": memory.peak, "matrices": memory.peak / (4e-9 * n * m)}
    row |= {"confidence": float(values_of(found.held).amax(1).mean()), "rest": float(rest_of(found.held).mean())}
    return row | {"versions": f"torch {torch.__version__}", "threads": torch.get_num_threads(), "labels": answer(found.held).tolist()}


def class_names(count: int) -> list[str]:
    """Names of three words each, all different."""
    words = json.loads((ROOT / "gta/worlds/encoders/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    named = itertools.combinations(sorted(word for word in words if word.isalpha()), 3)
    return [" ".join(name) for name in itertools.islice(named, 0, 37 * count, 37)]


def noisy_digits(count: int):
    """uint8 (count, 3, 32, 32)."""
    import torch

    from gta.worlds import digits

    drawn = torch.Generator().manual_seed(0)
    images = torch.stack([torch.as_tensor(image) for image in digits.load("query")[1]])[:, None].expand(-1, 3, -1, -1).int()
    images = images[torch.randint(len(images), (count,), generator=drawn)]
    images = (images + torch.randint(-NOISE, NOISE, images.shape, generator=drawn)).clamp(0, 255)
    return torch.nn.functional.interpolate(images.float(), size=32).to(torch.uint8)


if __name__ == "__main__":
    main()
