"""Memory and time of a training step of CoOp and CoCoOp, texts by chunks that are computed again, or all kept for the backward pass.

    python benchmarks/peers.py            # the table, results/benchmarks/peers.csv; about ten minutes on one core
    python benchmarks/peers.py --smoke    # the embedded encoder, to look at the path, under runs/smoke

ViT-B/16 with random weights: neither memory nor time depends on them. A step is the loss of one batch (32 images for CoOp, 1 for
CoCoOp) over all class texts, its gradient in the context and an SGD update. Every case runs in a process of its own; `peak_gb` is the
most memory that it held, less what it held before the step: encoder, Python and torch are not counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import pandas as pd

from gta.files import ROOT, write_atomically

CASES = [(method, classes, how) for method in ("CoOp", "CoCoOp") for classes in (100, 300, 1000) for how in ("chunks", "kept")]
LARGEST_KEPT = 300  # classes; memory and time grow in proportion
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(**json.loads(arguments.case))))
        return
    rows = []
    for method, classes, how in CASES:
        if how == "kept" and classes > LARGEST_KEPT:
            continue
        case = {"method": method, "classes": classes // 20 if arguments.smoke else classes, "how": how, "smoke": arguments.smoke}
        done = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    folder = ROOT / ("runs/smoke/benchmarks" if arguments.smoke else "results/benchmarks")
    write_atomically(folder / "peers.csv", pd.DataFrame(rows).to_csv(index=False))
    print(f"table: {folder / 'peers.csv'}")


def measure(method: str, classes: int, how: str, smoke: bool) -> dict:
    """One row of the table, in this process alone."""
    import torch

    from gta import encoders
    from gta.peers import context

    if how == "kept":
        context.checkpoint = lambda function, *arguments, **_: function(*arguments)
    encoder = encoders.load("embedded", device="cpu") if smoke else encoders.load("ViT-B/16", pretrained="random", device="cpu")
    words = ["A", "B", "C", "D", "E"] if smoke else ["red", "great", "northern", "sea", "hill"]
    names = [" ".join(words[(label // 5**k) % 5] for k in range(3 + smoke)) for label in range(classes)]
    d = encoder.encode_texts(names[:1]).shape[1]
    batch = context.BATCH if method == "CoOp" else context.COCOOP_BATCH
    generator = torch.Generator().manual_seed(SEED)
    images = torch.nn.functional.normalize(torch.randn(1, batch, d, generator=generator), dim=2)
    labels = torch.randint(classes, (batch,), generator=generator)
    length = 4 if method == "CoCoOp" else 16
    start = context.random_context(encoder, SEED, length)
    meta = context.meta_network(encoder, start.shape[-1], SEED) if method == "CoCoOp" else None
    prompts = context.Prompts(encoder, names, "" if smoke else ".", length)
    tokens, prompts.tokens = prompts.tokens, prompts.tokens[:2]
    context.Learned(prompts, start, meta, 1.0).predict(images[0])  # starts libraries
    prompts.tokens = tokens
    before, clock = peak_gb(), time.perf_counter()
    context.learn(prompts, start, meta, 100.0, images, labels, epochs=1, batch=batch, seed=SEED)
    seconds = time.perf_counter() - clock
    return {
        "method": method,
        "classes": classes,
        "how": how,
        "seconds": round(seconds, 2),
        "peak_gb": round(peak_gb() - before, 3),
        "device_kind": "cpu",
        "threads": torch.get_num_threads(),
        "seed": SEED,
        "torch": torch.__version__,
    }


def peak_gb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
