"""How long `gta.transduct` takes and how much memory, against the arithmetic itself and against the released solver's form.

    python benchmarks/transduct.py                 # the table, results/benchmarks/transduct.csv and .png; about ten minutes on two cores
    python benchmarks/transduct.py --device cuda   # adds rows of that device to the same files
    python benchmarks/transduct.py --named         # the named sizes alone, other rows stay; twelve minutes
    python benchmarks/transduct.py --smoke         # tiny sizes to look at the path, under runs/smoke

Every case runs in a process of its own. `peak_gb` is the most memory that process held, less what it held once torch was
imported (`import_gb`): features and prior are counted, Python and torch are not. On a GPU it is what torch allocated there.
`seconds` is `transduct(features, prior)` whole, the best of the repeats. `graph`, `label` and `likelihood` are its parts: `knn_graph`
alone; what the 5 inner label updates add to a solve from that graph; the rest of it (likelihood, mu, sigma, objective).
The bound is the time of the arithmetic at the speed of bare matrix products of the same shapes, in the same process:

    2 N^2 d                     cosines of all pairs
    (2 T + 1) 2 N M d           log-likelihoods and class sums over T = 10 rounds
    (6 T + 5) 2 (6 N) M         W + W^T, at most 6 entries a row, times z: 5 updates a round and the objective, 5 at the end

At the named sizes other solvers stand beside it, on the same features: the peers ZLaP, StatA and OTFusion (which work in float64),
`estimated sizes` (ours, whose classes have the sizes of the prior, by Sinkhorn's scaling), and `sparse`, the solver of
`gta.transduct.sparse` that holds 64 entries a row. Their texts are the means of the images, weighted by the prior.
`two views` is `transduct` with a second encoder's features of 768 dimensions, DINOv2's of size B; its `times_gta` is against one view.
`released` is the authors' arithmetic in the authors' form: dense affinity, broadcast differences in chunks of 2,500 rows. Where
a whole run would take too long or too much, its time is that of one chunk of each step, times the number of chunks, and
its memory that of the chunk and the N x N affinity; `how` says which.
"""

import io
import platform
from pathlib import Path

from gta.files import write_atomically
from measuring import begin, best, in_a_process, peak_gb, read, table

ROUNDS, INNER, NEIGHBORS, CHUNK = 10, 5, 3, 2500
NAMED = {"EuroSAT": (8100, 10, 512), "CUB": (5794, 200, 512), "ImageNet": (50000, 1000, 512)}
OVER_N = [(n, 200, 512) for n in (2000, 5000, 10000, 20000, 50000)]
OVER_M = [(10000, m, 512) for m in (10, 50, 200, 1000)]
OTHERS = ("ZLaP", "StatA", "OTFusion", "estimated sizes", "sparse")
WHOLE = 6e8  # N M d up to which the released form is run whole
SEED = 0


def main() -> None:
    arguments, folder = begin(__doc__, measure, "--named")
    sizes = NAMED if not arguments.smoke else {"smoke": (600, 5, 32)}
    curves = OVER_N + OVER_M if not arguments.smoke else [(300, 200, 32), (600, 200, 32), (10000, 5, 32), (10000, 20, 32)]
    cases = list(sizes.items()) + [("", size) for size in dict.fromkeys(curves) if not arguments.named]
    file = folder / "transduct.csv"
    rows = [row for row in read(file) if not row["device_kind"].startswith(arguments.device) or (arguments.named and "case" not in row)]
    print("bound: 2 N^2 d + (2 T + 1) 2 N M d + (6 T + 5) 2 (6 N) M FLOP, T = 10, at the speed of matrix products of the same shapes")
    print(f"{'case':9s}{'N':>7s}{'M':>6s}  {'solver':16s}{'seconds':>9s}{'peak GB':>9s}  graph / likelihood / label   x bound")
    for name, (n, m, d) in cases:
        for solver in ("gta", "two views", *OTHERS, "released") if name else ("gta", "released"):
            case = {"name": name, "n": n, "m": m, "d": d, "solver": solver, "device": arguments.device}
            rows.append(in_a_process(__file__, case))
            if solver != "gta":
                ours = next(row for row in reversed(rows) if row["solver"] == "gta")
                rows[-1]["times_gta"] = rows[-1]["seconds"] / ours["seconds"]
            show(rows[-1])
            write_atomically(file, table(rows))
    plot(rows, folder / "transduct.png")
    print(f"table: {file}   figure: {folder / 'transduct.png'}")


def measure(name: str, n: int, m: int, d: int, solver: str, device: str) -> dict:
    """One row of the table, in this process alone."""
    import torch

    import gta.transduct

    gta.transduct.transduct(*world(50, 3, 8, device))  # starts threads and libraries
    before = peak_gb(device)
    x, prior = world(n, m, d, device)
    row: dict = {"case": name, "n": n, "m": m, "d": d, "solver": solver, "how": "measured", "import_gb": before}
    if solver == "gta":
        repeats = 10 if n * n * d < 1e10 else 3 if n * n * d < 1e11 else 1
        row["seconds"] = best(lambda: gta.transduct.transduct(x, prior), repeats, device)
        row["peak_gb"] = peak_gb(device) - before
        row |= parts(x, prior, repeats, device) | bound(x, m, device)
        row["ratio_to_bound"] = row["seconds"] / row["bound_seconds"]
        if name:
            row |= against_float64(x, prior)
    elif solver == "two views":
        view = second_view(x)
        row["seconds"] = best(lambda: gta.transduct.transduct(x, prior, view=view), 3 if n * n * d < 1e11 else 1, device)
        row["peak_gb"] = peak_gb(device) - before
    elif solver in OTHERS:
        row["seconds"] = best(lambda: other(solver, x, prior), 3 if n * n * d < 1e11 else 1, device)
        row["peak_gb"] = peak_gb(device) - before
    elif n * m * d < WHOLE:
        row["seconds"] = best(lambda: released(x, prior), 1, device)
        row["peak_gb"] = peak_gb(device) - before
    else:
        row["how"] = "estimated from blocks"
        row["seconds"] = released_estimate(x, prior, device)
        row["peak_gb"] = peak_gb(device) - before + n * n * x.element_size() / 1e9
    kind = device if device == "cpu" else f"{device} {torch.cuda.get_device_name()}"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return row | {"device_kind": kind, "threads": torch.get_num_threads(), "seed": SEED, "dtype": "float32"} | versions


def world(n: int, m: int, d: int, device: str):
    """Features like CLIP's: a common direction, a centroid a class, noise; image-image cosines near 0.6, soft text priors."""
    import torch

    from gta.transduct import text_prior

    generator = torch.Generator().manual_seed(SEED)

    def unit(rows: torch.Tensor) -> torch.Tensor:
        return rows.div_(rows.norm(dim=1, keepdim=True))

    def directions(count: int) -> torch.Tensor:
        return unit(torch.randn(count, d, generator=generator))

    centroids = directions(m)
    images = unit(directions(n).mul_(0.7).add_(directions(1)).add_(centroids[torch.randint(m, (n,), generator=generator)], alpha=0.35))
    texts = unit(centroids.mul_(0.25).add_(directions(1)).add_(directions(m), alpha=0.4))
    images = images.to(device)
    return images, text_prior(images, texts.to(device)[:, None])


def second_view(x, d: int = 768):
    """Features (N, d) of another encoder: those of `world` turned into more dimensions, with noise of their own."""
    import torch

    generator = torch.Generator().manual_seed(SEED + 1)
    turn = torch.randn(x.shape[1], d, generator=generator) / d**0.5
    view = x.cpu() @ turn
    for rows in view.split(CHUNK):
        rows += 0.5 * torch.randn(rows.shape, generator=generator) / d**0.5
    return view.div_(view.norm(dim=1, keepdim=True)).to(x.device)


def parts(x, prior, repeats: int, device: str) -> dict:
    from gta.affinity import knn_graph
    from gta.transduct import transduct

    graph = knn_graph(x)
    whole = best(lambda: transduct(x, prior, affinity=graph), repeats, device)
    bare = best(lambda: transduct(x, prior, affinity=graph, inner=0), repeats, device)
    built = best(lambda: knn_graph(x), repeats, device)
    return {"graph_seconds": built, "likelihood_seconds": bare, "label_seconds": whole - bare, "after_graph_seconds": whole}


def bound(x, m: int, device: str) -> dict:
    """FLOP of a solve, and the seconds they take as bare matrix products of the same shapes."""
    import torch

    n, d = x.shape
    flop_graph, flop_likelihood, flop_sums = 2 * n * n * d, (ROUNDS + 1) * 2 * n * m * d, ROUNDS * 2 * n * m * d
    flop_label = ((INNER + 1) * ROUNDS + INNER) * 2 * 2 * NEIGHBORS * n * m
    mu, z, some = torch.rand(m, d, device=device), torch.rand(n, m, device=device), x[: min(n, 1024)]

    def speed(a, b) -> float:
        out = torch.empty(len(a), b.shape[1], device=device)
        return 2 * a.shape[0] * a.shape[1] * b.shape[1] / best(lambda: torch.mm(a, b, out=out), 3, device)

    graph, likelihood, sums = speed(some, x.T), speed(x, mu.T), speed(z.T, x)
    flop = flop_graph + flop_likelihood + flop_sums + flop_label
    seconds = flop_graph / graph + (flop_likelihood + flop_label) / likelihood + flop_sums / sums
    return {"gflop": flop / 1e9, "matmul_gflops": flop / seconds / 1e9, "bound_seconds": seconds}


def against_float64(x, prior) -> dict:
    """How the answer differs from that of the same inputs in float64 on the CPU."""
    from gta.transduct import transduct

    z, exact = transduct(x, prior).assignments.cpu(), transduct(x.cpu().double(), prior.cpu().double()).assignments
    return {"z_error": float((z - exact).abs().max()), "argmax_agreement": float((z.argmax(1) == exact.argmax(1)).double().mean())}


def other(solver: str, x, prior):
    """One of the solvers beside ours."""
    from torch.nn.functional import normalize

    from gta.peers.anchored import stata
    from gta.peers.fusion import fusion
    from gta.peers.propagation import zlap
    from gta.transduct import sparse, transduct
    from gta.transport import estimated_sizes

    texts = normalize(prior.T @ x, dim=1)
    solvers = {
        "ZLaP": lambda: zlap(x, texts),
        "StatA": lambda: stata(x, prior, texts),
        "OTFusion": lambda: fusion([x], prior),
        "estimated sizes": lambda: transduct(x, prior, sizes=estimated_sizes(prior)),
        "sparse": lambda: sparse.transduct(x, texts[:, None]),
    }
    return solvers[solver]()


def released(x, prior):
    """The released arithmetic in the released form, from its description in arXiv 2406.01837 and the golden files' notes."""
    affinity = released_affinity(x, x)
    z, sigma = prior.clone(), x.new_full((x.shape[1],), 1 / x.shape[1])
    mu = released_first_prototypes(x, z)
    for step in range(ROUNDS + 1):
        log_p = x.new_empty(z.shape)
        for start in range(0, len(x), CHUNK):
            log_p[start : start + CHUNK] = released_likelihood(x[start : start + CHUNK], mu, sigma)
        for _ in range(INNER):
            z = released_labels(prior, log_p, affinity, z)
        if step == ROUNDS:
            return z
        mu = released_prototypes(x, z)
        chunks = (released_variance(x[start : start + CHUNK], z[start : start + CHUNK], mu) for start in range(0, len(x), CHUNK))
        sigma = sum(chunks) / len(x)


def released_estimate(x, prior, device: str) -> float:
    """Seconds of `released`, from one chunk of each step; mu and the label update are timed whole."""
    import torch

    n, chunk = len(x), x[:CHUNK]
    mu, sigma = released_prototypes(x, prior), x.new_full((x.shape[1],), 1 / x.shape[1])
    edges = torch.randint(n, (2, NEIGHBORS * n), device=device)
    graph = torch.sparse_coo_tensor(edges, torch.rand(edges.shape[1], device=device), (n, n), check_invariants=False)
    chunks = n / len(chunk)
    return (
        chunks * best(lambda: released_affinity(chunk, x), 1, device)
        + chunks * (ROUNDS + 1) * best(lambda: released_likelihood(chunk, mu, sigma), 1, device)
        + chunks * ROUNDS * best(lambda: released_variance(chunk, prior[:CHUNK], mu), 1, device)
        + ROUNDS * best(lambda: released_prototypes(x, prior), 1, device)
        + INNER * (ROUNDS + 1) * best(lambda: released_labels(prior, prior, graph, prior), 1, device)
    )


def released_affinity(rows, x):
    import torch

    cosines = rows @ x.T
    column = cosines.topk(NEIGHBORS + 1, dim=1).indices[:, 1:].flatten()
    row = torch.arange(len(rows), device=x.device).repeat_interleave(NEIGHBORS)
    return torch.sparse_coo_tensor(torch.stack([row, column]), cosines[row, column], (len(rows), len(x)), check_invariants=False)


def released_first_prototypes(x, z):
    top = z.topk(8, dim=0)
    mu = (top.values[:, :, None] * x[top.indices]).sum(0)
    return mu / mu.norm(dim=1, keepdim=True)


def released_likelihood(chunk, mu, sigma):
    import torch

    return -0.5 * torch.einsum("ijk,ijk->ij", (chunk[:, None] - mu[None]) ** 2, 1 / sigma[None, None])


def released_labels(prior, log_p, affinity, z):
    logits = (log_p + 50 / (2 * NEIGHBORS) * (affinity.T @ z + affinity @ z)) / 50
    z = prior * (logits - logits.amax(1, keepdim=True)).exp()
    return z / z.sum(1, keepdim=True)


def released_prototypes(x, z):
    import torch

    mu = torch.einsum("ij,ik->jk", z, x) / z.sum(0)[:, None]
    return mu / mu.norm(dim=1, keepdim=True)


def released_variance(chunk, z, mu):
    import torch

    return torch.einsum("ij,ijk->k", z, (chunk[:, None] - mu[None]) ** 2)


def show(row: dict) -> None:
    line = f"{row.get('case', ''):9s}{row['n']:7d}{row['m']:6d}  {row['solver']:16s}{row['seconds']:9.2f}{row['peak_gb']:9.2f}"
    if row["solver"] == "gta":
        shares = [row[part] / row["seconds"] for part in ("graph_seconds", "likelihood_seconds", "label_seconds")]
        line += f"  {shares[0]:4.0%} / {shares[1]:4.0%} / {shares[2]:4.0%}          {row['ratio_to_bound']:.2f} of {row['gflop']:.0f} GFLOP"
    else:
        line += f"  {row['times_gta']:.3g} times gta, {row['how']}"
    print(line, flush=True)


def plot(rows: list[dict], file: Path) -> None:
    """Seconds and memory against N (at M = 200) and against M (at N = 10,000), both solvers, one line a device."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    rows = [row for row in rows if row["solver"] in ("gta", "released")]  # the others are measured at the named sizes alone
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    for row, (value, label) in enumerate((("seconds", "seconds"), ("peak_gb", "peak memory, GB"))):
        for column, (along, fixed, size) in enumerate((("n", "m", 200), ("m", "n", 10000))):
            ax = axes[row, column]
            for kind, solver in dict.fromkeys((r["device_kind"], r["solver"]) for r in rows):
                of = sorted((r for r in rows if (r["device_kind"], r["solver"], r[fixed]) == (kind, solver, size)), key=lambda r: r[along])
                line = ax.plot([r[along] for r in of], [r[value] for r in of], label=f"{solver}, {kind}")[0]
                for how, fill in (("measured", line.get_color()), ("estimated from blocks", "white")):
                    some = [r for r in of if r["how"] == how]
                    ax.plot([r[along] for r in some], [r[value] for r in some], "o", color=line.get_color(), markerfacecolor=fill)
            ax.set(xscale="log", yscale="log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:,.0f}")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.grid(alpha=0.3)
            if row:
                ax.set_xlabel(f"{'images N' if along == 'n' else 'classes M'}, with {fixed.upper()} = {size:,}")
            if not column:
                ax.set_ylabel(label)
    axes[0, 0].legend()
    figure.suptitle(f"One transduction, d = {rows[-1]['d']}; open marks: estimated from measured blocks")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    write_atomically(file, stream.getvalue())


if __name__ == "__main__":
    main()
