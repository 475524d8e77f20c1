"""Memory and time of what costs most among the peers, each beside the same thing done otherwise in the same run.

    python benchmarks/peers.py            # the table, results/benchmarks/peers.csv; about three minutes of one core
    python benchmarks/peers.py --smoke    # the embedded encoder and few images, to look at the path, under runs/smoke

A training step of CoOp and CoCoOp: texts by chunks that are computed again, or all kept for the backward pass. ViT-B/16 with random
weights: neither memory nor time depends on them. A step is the loss of one batch (32 images for CoOp, 1 for CoCoOp) over all class texts,
its gradient in the context and an SGD update. glibc is told to give freed blocks back; `default heap` is without that, where freed blocks
of many sizes lie between used ones. `as texts` is how a unified context is read where the text tower is not causal, and how class-specific
ones always are: each text by itself. The ratios are to `chunks` of the same method and number of classes.

Those that infer all images at once are in `benchmarks/transduct.py`.

`seconds` are the processor's, of all threads together. Every case runs in a process of its own; `peak_gb` is the most memory that it held,
less what it held before: encoder, Python and torch are not counted.
"""

import time
from collections.abc import Callable

import pandas as pd

from gta.files import write_atomically
from measuring import begin, in_a_process, peak_gb

CHUNKS, KEPT, AS_TEXTS, HEAP = "chunks", "kept", "chunks, as texts", "chunks, default heap"
RETURN = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # to glibc: give large blocks back to the system when they are freed
CASES = [
    *((method, classes, CHUNKS) for method in ("CoOp", "CoCoOp") for classes in (100, 300, 1000)),
    *((method, classes, KEPT) for method in ("CoOp", "CoCoOp") for classes in (300, 1000)),
    ("CoOp", 1000, HEAP),
    ("CoOp", 100, AS_TEXTS),
    *(("CoOp, class-specific", classes, CHUNKS) for classes in (100, 200)),
    ("CoOp, class-specific", 100, KEPT),
]
SEED = 0


def main() -> None:
    arguments, folder = begin(__doc__, measure)
    rows = []
    for method, classes, how in CASES:
        case = {"method": method, "classes": max(2, classes // 20) if arguments.smoke else classes, "how": how, "smoke": arguments.smoke}
        rows.append(in_a_process(__file__, case, {} if how == HEAP else RETURN))
        print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    write_atomically(folder / "peers.csv", with_ratios(pd.DataFrame(rows)).to_csv(index=False))
    print(f"table: {folder / 'peers.csv'}")


def with_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Beside each row its memory and seconds over those of `chunks` in the same run."""
    key = ["method", "classes"]
    beside = rows[key].merge(rows[rows.how == CHUNKS], on=key, how="left")
    for ratio, of in {"memory_ratio": "peak_gb", "seconds_ratio": "seconds"}.items():
        rows.insert(rows.columns.get_loc("device_kind"), ratio, (rows[of] / beside[of]).round(3))
    return rows


def measure(method: str, classes: int, how: str, smoke: bool) -> dict:
    """One row of the table, in this process alone."""
    import torch

    from gta.scores import results

    seconds, gigabytes = training_step(method, classes, how, smoke)
    return {
        "method": method,
        "classes": classes,
        "how": how,
        "seconds": round(seconds, 2),
        "peak_gb": round(gigabytes, 3),
        "device_kind": "cpu",
        "threads": torch.get_num_threads(),
        "seed": SEED,
        "versions": results.VERSIONS,
    }


def training_step(method: str, classes: int, how: str, smoke: bool) -> tuple[float, float]:
    """Seconds and GB of a step of CoOp or CoCoOp."""
    import torch

    from gta import encoders
    from gta.peers import context, reading

    if how == KEPT:
        reading.checkpoint = lambda function, *arguments, **_: function(*arguments)
    if how == AS_TEXTS:
        reading.causal = lambda model: False
    encoder = encoders.load("embedded", device="cpu") if smoke else encoders.load("ViT-B/16", pretrained="random", device="cpu")
    words = ["A", "B", "C", "D", "E"] if smoke else ["red", "great", "northern", "sea", "hill"]
    names = [" ".join(words[(label // 5**k) % 5] for k in range(3 + smoke)) for label in range(classes)]
    d = encoder.encode_texts(names[:1]).shape[1]
    batch = context.COCOOP_BATCH if method == "CoCoOp" else context.BATCH
    generator = torch.Generator().manual_seed(SEED)
    images = torch.nn.functional.normalize(torch.randn(1, batch, d, generator=generator), dim=2).to(encoder.dtype)
    labels = torch.randint(classes, (batch,), generator=generator)
    length = 4 if method == "CoCoOp" else context.CONTEXT
    start = context.random_context(encoder, SEED, length, classes if "specific" in method else 1)
    meta = context.meta_network(encoder, start.shape[-1], SEED) if method == "CoCoOp" else None
    few = reading.Prompts(encoder, names[:2], "", length)
    context.Learned(few, start[:2], meta, 1.0).predict(images[0])  # starts libraries
    del few
    prompts = reading.Prompts(encoder, names, "", length)
    return cost(peak_gb("cpu"), lambda: context.learn(prompts, start, meta, 100.0, images, labels, epochs=1, batch=batch, seed=SEED))


def cost(before: float, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, of all threads, and the most GB beyond `before`."""
    clock = time.process_time()
    work()
    return time.process_time() - clock, peak_gb("cpu") - before


if __name__ == "__main__":
    main()
