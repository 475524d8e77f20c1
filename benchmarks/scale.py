"""What `gta.transduct.sparse` takes where z is too large to hold, by part, against the bound; and what it loses where z can be held.

    python benchmarks/scale.py                    # results/benchmarks/scale.csv and .png: equal to the dense solver, then growth; an hour
    python benchmarks/scale.py --million          # adds 1,000,000 x 10,000 x 512; hours, and 2 GB of disk under runs/
    python benchmarks/scale.py --smoke            # tiny sizes to look at the path, under runs/smoke

Features are clustered, as an encoder's are: in a space of 48 dimensions, turned into all 512, classes lie around a tenth as many
centres, images around their class. Every case runs in a process of its own and maps its features from a file. `peak_gb` is the most
private memory of that process, less what it held once torch was imported; pages of the features' file are not in it. `formula_gb` is
`gta.transduct.sparse.bytes_of`, and `graph_gb` the peak while the graph was made. `graph` is `large_graph`; `begin` the text prior;
`logits` the choice of entries in each round, `updates` the updates of z, `sums` mu, sigma and the objective. The bound is the time of
the matrix products alone, (T + 2) 2 N M d, at the speed of bare products of the same shapes in the same process.
`same` is the share of images with the dense solver's label, `objective` its relative difference in J.
"""

import io
import sys
import threading
import time
from pathlib import Path

from gta.files import write_atomically
from measuring import begin, in_a_process, read, table

ROUNDS, KEEP, D = 10, 64, 512
AGAINST_DENSE = [(5000, 1000), (20000, 1000), (50000, 1000)]
GROWTH = [(12500, 1000), (25000, 1000), (50000, 1000), (100000, 1000), (12500, 2500), (12500, 5000), (12500, 10000)]
MILLION = (1_000_000, 10_000)
SCALE = 15.0  # of the logits: the prior is about as sure as CLIP's
SEED, INNER, NOISE = 0, 48, (1.0, 1.3, 0.7)  # of classes, texts and images


def main() -> None:
    arguments, folder = begin(__doc__, measure, "--million")
    small = arguments.smoke
    cases = [("equal", *size) for size in ([(400, 40)] if small else AGAINST_DENSE)]
    cases += [("growth", *size) for size in ([(300, 40), (600, 40)] if small else GROWTH)]
    cases = [("million", *MILLION)] if arguments.million else cases
    file = folder / "scale.csv"
    rows = [row for row in read(file) if (row["kind"] == "million") != arguments.million]
    for kind, n, m in cases:
        rows.append(in_a_process(__file__, {"kind": kind, "n": n, "m": m, "d": 32 if small else D, "keep": 16 if small else KEEP}))
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rows[-1].items()))
        write_atomically(file, table(rows))
    plot(rows, folder / "scale.png")
    print(f"table: {file}   figure: {folder / 'scale.png'}")


def measure(kind: str, n: int, m: int, d: int, keep: int) -> dict:
    import torch

    from gta.labels import answer
    from gta.transduct import sparse
    from gta.transduct.neighbors import large_graph

    x, texts, labels = world(n, m, d)
    with Memory() as memory:
        start = time.perf_counter()
        graph = large_graph(x)
        row = {"kind": kind, "n": n, "m": m, "d": d, "keep": keep, "graph": time.perf_counter() - start}
        in_graph = memory.peak
        with timed(sparse._Solve, {"begin": "begin", "choose": "logits", "update": "updates"}) as seconds:
            start = time.perf_counter()
            found = sparse.transduct(x, texts[:, None], SCALE, keep=keep, affinity=graph, rounds=ROUNDS)
            row["seconds"] = time.perf_counter() - start + row["graph"]
        row |= seconds
        row["sums"] = row["seconds"] - sum(row[part] for part in ("graph", "begin", "logits", "updates"))
    row |= {"peak_gb": memory.peak, "graph_gb": in_graph, "formula_gb": sparse.bytes_of(n, m, d, keep) / 1e9}
    row["x_bound"] = row["seconds"] / bound(x, texts)
    row |= {
        "clip": accuracy(x, texts, labels),
        "accuracy": float((answer(found.z) == labels).float().mean()),
        "rest": float(found.z.rest.mean()),
    }
    if kind == "equal":
        row |= against_dense(x, texts, graph, found)
    return row | {"versions": f"torch {torch.__version__}", "threads": torch.get_num_threads()}


def world(n: int, m: int, d: int):
    """Features (N, d) mapped from a file, texts (M, d), and labels (N,)."""
    import torch
    from torch.nn.functional import normalize

    random = torch.Generator().manual_seed(SEED)
    turn = torch.linalg.qr(torch.randn(d, min(INNER, d), generator=random)).Q.T

    def around(centres, noise: float):
        return normalize(centres + noise * torch.randn(centres.shape, generator=random) / centres.shape[1] ** 0.5, dim=1)

    groups = around(torch.zeros(max(1, m // 10), len(turn)), 1.0)
    classes = around(groups[torch.randint(len(groups), (m,), generator=random)], NOISE[0])
    texts, labels = around(classes, NOISE[1]), torch.randint(m, (n,), generator=random)
    path = Path("runs/scale") / f"{n}x{m}x{d}.features"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for part in labels.split(10000):
            file.write((around(classes[part], NOISE[2]) @ turn).numpy().tobytes())
    return torch.from_file(str(path), shared=False, size=n * d).view(n, d), texts @ turn, labels


def accuracy(x, texts, labels) -> float:
    """Of the prior, without z, on the first 10,000 images."""
    parts = zip(x[:10000].split(400), labels[:10000].split(400), strict=True)
    return float(sum(((part @ texts.T).argmax(1) == own).sum() for part, own in parts) / min(10000, len(x)))


def against_dense(x, texts, graph, found) -> dict:
    from gta.labels import answer
    from gta.transduct import text_prior, transduct

    start = time.perf_counter()
    whole = transduct(x, text_prior(x, texts[:, None], SCALE), affinity=graph)
    seconds = time.perf_counter() - start
    same = float((answer(whole.assignments) == answer(found.z)).float().mean())
    return {"same": same, "objective": found.objective[-1] / whole.objective[-1] - 1, "dense_seconds": seconds}


def bound(x, texts) -> float:
    """Seconds of the matrix products of a solve."""
    import torch

    rows = x[: max(1, 2**22 // len(texts))].clone()
    room = torch.empty(len(rows), len(texts))
    torch.mm(rows, texts.T, out=room)
    start = time.perf_counter()
    for _ in range(5):
        torch.mm(rows, texts.T, out=room)
    return (ROUNDS + 2) * len(x) / len(rows) * (time.perf_counter() - start) / 5


class timed:
    """Seconds in some methods of a class."""

    def __init__(self, of: type, parts: dict[str, str]):
        self.of, self.parts, self.seconds = of, parts, dict.fromkeys(parts.values(), 0.0)

    def __enter__(self) -> dict[str, float]:
        self.before = {name: getattr(self.of, name) for name in self.parts}
        for name, method in self.before.items():
            setattr(self.of, name, self._timing(method, self.parts[name]))
        return self.seconds

    def __exit__(self, *_) -> None:
        for name, method in self.before.items():
            setattr(self.of, name, method)

    def _timing(self, method, part: str):
        def call(*given):
            start = time.perf_counter()
            result = method(*given)
            self.seconds[part] += time.perf_counter() - start
            if self.seconds[part] > 60:
                print(f"{part}: {self.seconds[part]:.0f} s so far", file=sys.stderr)
            return result

        return call


class Memory:
    """The most private memory of this process while it is open, in GB, less that at its beginning; looked at 20 times a second."""

    def __enter__(self) -> "Memory":
        self.first, self.peak, self.done = self._private(), 0.0, threading.Event()
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.watch.join()

    def _look(self) -> None:
        while not self.done.wait(0.05):
            self.peak = max(self.peak, self._private() - self.first)

    def _private(self) -> float:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e9


def plot(rows: list[dict], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator

    grown = [row for row in rows if row["kind"] == "growth"]
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    least = min(row["n"] for row in grown)
    for axis, over, held in zip(axes, ("n", "m"), ("m", "n"), strict=True):
        fixed = min(row[held] for row in grown if row["n"] == least) if over == "n" else least
        curve = sorted((row for row in grown if row[held] == fixed), key=lambda row: row[over])
        for part in ("seconds", "graph", "begin", "logits", "updates", "sums"):
            look = {"color": "k", "label": "all"} if part == "seconds" else {"label": part}
            axis.plot([row[over] for row in curve], [row[part] for row in curve], "o-", **look)
        axis.set(xscale="log", yscale="log", xlabel={"n": f"images, of {fixed:,} classes", "m": f"classes, of {fixed:,} images"}[over])
        axis.set_xticks([row[over] for row in curve], [f"{row[over]:,}" for row in curve])
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("seconds")
    axes[1].legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=150)
    write_atomically(file, stream.getvalue())


if __name__ == "__main__":
    main()
