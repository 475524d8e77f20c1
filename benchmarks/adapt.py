"""How long an iteration of the whole loop takes on real architectures, against the released loop's work in the same run.

    python benchmarks/adapt.py                 # results/benchmarks/adapt.csv; about fifteen minutes on two cores
    python benchmarks/adapt.py --device cuda   # adds rows of that device, at the paper's sizes, to the same file
    python benchmarks/adapt.py --smoke         # a tiny case to look at the path, under runs/smoke

Weights are random, which costs what pretrained ones cost; images are JPEG files of 500 x 375 that the benchmark draws, `texts`
a class sentences of 8 to 16 words. Every case runs in a process of its own. An iteration is the first of `gta.loop.run`: encode,
transduct, adapt; the image store is made before it (`store_seconds`). `peak_gb` is the most memory the process held, less
what it held before images and model.

`released` does what the released loop does in an iteration: all images twice, decoded from their files each time, and all texts
twice at the whole context; then one pass of training from the files, 77 tokens a text, with the loss as a loop over rows.

The bound is the arithmetic that must be done, at the speed of bare matrix products in the same process: every image and every
distinct text once, at its own length, and three times that for what adapt trains on.
"""

import platform
import random
import tempfile
import time
from pathlib import Path

from gta.files import write_atomically
from measuring import begin, best, in_a_process, peak_gb, read, table

# architecture, images, classes, texts a class; the first is the case that docs/reproduction.md quotes
CASES = {
    "cpu": [("ViT-B/32", 500, 20, 20), ("ViT-B/16", 60, 5, 20), ("ViT-L/14", 12, 2, 20)],
    "cuda": [("ViT-B/32", 5794, 200, 30), ("ViT-B/16", 5794, 200, 30), ("ViT-L/14", 5794, 200, 30), ("ViT-L/14", 50000, 1000, 5)],
    "smoke": [("ViT-B/32", 24, 3, 4)],
}
SEED = 0


def main() -> None:
    arguments, results = begin(__doc__, measure)
    file = results / "adapt.csv"
    rows = [row for row in read(file) if not row["device_kind"].startswith(arguments.device)]
    with tempfile.TemporaryDirectory() as folder:
        for name, n, m, texts in CASES["smoke" if arguments.smoke else arguments.device]:
            photographs(Path(folder), n)
            for solver in ("gta", "released"):
                case = {"name": name, "n": n, "m": m, "texts": texts, "solver": solver, "device": arguments.device, "folder": folder}
                if solver == "released":  # trains on as many images
                    case["train_on"] = rows[-1]["trained_on"]
                rows.append(in_a_process(__file__, case))
                if solver == "released":
                    rows[-1]["times_gta"] = rows[-1]["seconds"] / rows[-2]["seconds"]
                print(" ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()), flush=True)
                write_atomically(file, table(rows))
    print(f"table: {file}")


def measure(name: str, n: int, m: int, texts: int, solver: str, device: str, folder: str, train_on: int = 0) -> dict:
    """One row of the table, in this process alone."""
    import open_clip
    import torch

    from gta import encoders
    from gta.attributes import Bank

    if device == "cpu":
        torch.randn(8, 8) @ torch.randn(8, 8)
    before = peak_gb(device)
    encoder = encoders.load(name, pretrained="random", device=device)
    files = sorted(Path(folder).glob("*.jpg"))[:n]
    names = [f"class {i}" for i in range(m)]
    bank = Bank.from_template(names)
    for i in range(m):
        bank = bank.add(i, sentences(texts - 1, seed=i), source="static")
    row: dict = {"backbone": name, "n": n, "m": m, "texts": texts, "solver": solver}
    row |= ours(encoder, files, names, bank) if solver == "gta" else released(encoder, files, bank, train_on)
    row["peak_gb"] = peak_gb(device) - before
    if solver == "gta":
        row |= bound(encoder, bank, row)
    kind = device if device == "cpu" else f"{device} {torch.cuda.get_device_name()}"
    versions = {"python": platform.python_version(), "torch": torch.__version__, "open_clip": open_clip.__version__}
    return row | {"device_kind": kind, "threads": torch.get_num_threads(), "seed": SEED} | versions


def ours(encoder, files, names, bank) -> dict:
    from gta import loop
    from gta.encoders.images import load_images
    from gta.settings import Settings

    start = time.perf_counter()
    images = load_images(files, encoder, progress=False)
    store = time.perf_counter() - start
    trained: list[int] = []

    def counted(encoder, original, selection, *arguments, train=loop.adapt):
        trained.append(len(selection.images))
        return train(encoder, original, selection, *arguments)

    loop.adapt = counted
    result = loop.run(encoder, images, names, Settings(iterations=2), attributes=bank, progress=False)
    step = result.history[0]
    stages = {f"{stage}_seconds": step[f"seconds_{stage}"] for stage in ("encode", "transduct", "adapt")}
    pixels, distinct = images.pixels[: min(len(files), 2000)], sorted({text for of_class in bank.texts for text in of_class})
    device = encoder.device.type
    return {
        "seconds": sum(step[f"seconds_{stage}"] for stage in ("encode", "transduct", "generate", "transduct again", "adapt")),
        **stages,
        "store_seconds": store,
        "images_per_second": len(pixels) / best(lambda: encoder.encode_images(pixels), 1, device),
        "texts_per_second": len(distinct) / best(lambda: encoder.encode_texts(distinct), 1, device),
        "trained_on": trained[0],
    }


def bound(encoder, bank, row: dict) -> dict:
    """FLOP of an iteration, and the seconds they take as bare matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gta.encoders.encoder import text_lengths

    def flop(work) -> int:
        with FlopCounterMode(display=False) as counter:  # with gradients: torch's short cut without them hides its products
            work()
        return counter.get_total_flops()

    size = encoder.image_size
    image = flop(lambda: encoder.image_features(torch.zeros(1, 3, size, size, dtype=torch.uint8)))
    distinct = sorted({text for of_class in bank.texts for text in of_class})
    of_length = {}
    for text, length in zip(distinct, text_lengths(encoder.tokens(distinct)).tolist(), strict=True):
        of_length.setdefault(length, []).append(text)
    lengths = {length: flop(lambda some=some: encoder.text_features(some[:1])) for length, some in of_length.items()}
    texts = sum(lengths[length] * len(some) for length, some in of_length.items())
    trained = row["trained_on"] * 3 * (image + texts / len(distinct))
    rate = matmul_rate(encoder)
    seconds = (row["n"] * image + texts + trained) / rate
    return {
        "tflop": (row["n"] * image + texts + trained) / 1e12,
        "matmul_gflops": rate / 1e9,
        "bound_seconds": seconds,
        "ratio_to_bound": row["seconds"] / seconds,
        "images_share_of_rate": row["images_per_second"] * image / rate,
        "texts_share_of_rate": row["texts_per_second"] * texts / len(distinct) / rate,
    }


def matmul_rate(encoder) -> float:
    """FLOP a second of the products that a ViT spends its time in, in the precision that the device encodes with."""
    import torch

    cuda = encoder.device.type == "cuda"
    a, b = (torch.randn(shape, device=encoder.device, dtype=torch.bfloat16 if cuda else None) for shape in ((8192, 768), (768, 3072)))
    calls = 100 if cuda else 3
    return calls * 2 * 8192 * 768 * 3072 / best(lambda: [a @ b for _ in range(calls)], 5, encoder.device.type)


def released(encoder, files, bank, train_on: int) -> dict:
    """An iteration of the released loop's work, from its description."""
    import torch
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    from gta.adapt import natural_augmentation, parameter_groups
    from gta.settings import Settings

    distinct = [text for of_class in bank.texts for text in of_class]
    owner = torch.tensor([i for i, of_class in enumerate(bank.texts) for _ in of_class])

    def decoded(file):
        with Image.open(file) as image:
            return encoder.store(image.convert("RGB"))

    def text_features(texts):
        features = encoder.model.encode_text(encoder.tokenizer(texts).to(encoder.device))
        return torch.nn.functional.normalize(features.float(), dim=-1)

    start = time.perf_counter()
    for _ in range(2):
        with torch.no_grad(), encoder._autocast():
            images = torch.cat(
                [encoder.image_features(torch.stack([decoded(f) for f in files[s : s + 64]])) for s in range(0, len(files), 64)]
            )
            prototypes = torch.stack([text_features(texts).mean(0) for texts in bank.texts])
            z = (100 * images @ prototypes.T).softmax(1)
    encoded = time.perf_counter() - start
    top = z.amax(1).topk(train_on).indices.tolist()
    augment = natural_augmentation(encoder.image_size)
    optimizer = torch.optim.AdamW(parameter_groups(encoder.model, Settings()), betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-4)
    classes = z.argmax(1)
    for batch in [top[s : s + 32] for s in range(0, len(top), 32)]:
        views = []
        for i in batch:
            with Image.open(files[i]) as image:
                views.append(augment(pil_to_tensor(image.convert("RGB"))))
        drawn = [random.choice((owner == classes[i].cpu()).nonzero().flatten().tolist()) for i in batch]
        with encoder._autocast():
            logits = 100 * encoder.image_features(torch.stack(views)) @ text_features([distinct[k] for k in drawn]).T
        loss = logits.new_zeros(())
        for rows, labels in ((logits, classes[batch]), (logits.T, owner[drawn].to(classes.device))):
            for row, label in zip(rows, labels, strict=True):
                positive = (owner[drawn].to(classes.device) if rows is logits else classes[batch]) == label
                if positive.any():
                    loss = loss - row.log_softmax(0)[positive].mean() / len(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if encoder.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "encode_seconds": encoded, "adapt_seconds": seconds - encoded, "trained_on": len(top)}


def sentences(count: int, seed: int) -> list[str]:
    """Distinct phrases of 4 to 12 words, as long as attributes are."""
    words = [
        "a",
        "bird",
        "with",
        "long",
        "short",
        "hooked",
        "pale",
        "bill",
        "wing",
        "tail",
        "crest",
        "and",
        "red",
        "spotted",
        "of",
        "the",
        "near",
    ]
    chance = random.Random(seed)
    return [" ".join(chance.choices(words, k=chance.randint(4, 12))) + f" {i}" for i in range(count)]


def photographs(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> None:
    """JPEG files with the detail of photographs: smooth shapes under noise."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for i in range(count):
        file = folder / f"{i:06d}.jpg"
        if not file.exists():
            rng = np.random.default_rng(i)
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
            noise = rng.normal(0, 12, (size[1], size[0], 1))
            Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(file, quality=90)


if __name__ == "__main__":
    main()
