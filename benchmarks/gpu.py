"""What one GPU does in a few minutes: the solver, an iteration, encoding, the released optimiser step, and a large encoder.

    python benchmarks/gpu.py --minutes 8                          # on one GPU; writes results/benchmarks/gpu.csv
    python benchmarks/gpu.py --only iteration                     # this part anew
    python benchmarks/gpu.py --smoke --minutes 1 --out FILE.csv   # tiny sizes to look at the path, on a CPU too

It runs from the source tree, without a network, and needs torch 2.6 or newer, torchvision, open_clip_torch, openai and pydantic. Weights
are random, which costs what pretrained ones cost. Images are coloured patches under noise, in memory at the encoder's own size, so
reading photographs from files is in no number. The parts, in the order of their value:

    solver      `transduct(features, prior)` at the size of ImageNet, the graph included; how often its answer is that of float64
    sparse      `sparse.transduct` there beside it, and of 1,000,000 images and 10,000 classes (the features of `scale.py`)
    iteration   encode, transduct and adapt of ViT-B/16 on as many images, classes and texts as CUB has
    encode      images a second by batch; weights channels-last or not; compiled or not
    optimiser   nine steps of adapt as described and as released (`regime.py`): their seconds, and what they did to the weights
    large       encoding by ViT-L/14

The file is written anew after every row; rows of other cards in it stay. A part for which too little time is left is skipped, and
its row says so. A part that fails has a row with the first line of the error, and the next part runs. When the minutes are over, which
count from when torch is imported, the part that runs is stopped, and its row says so.

Columns: `what` was measured on `n` images, `m` classes, `d` columns; `seconds` that the measured work took; `value` in `unit` is the
result, `goal` what it should be (at most, where the unit is s; at least, where it is %); `note` says how; `device` is the card's name;
`dtype` that of the arithmetic. Seconds are the fastest of three calls after a first, unless the note says otherwise.
"""

import argparse
import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parent.parent))  # where gta is, when it is not installed

import regime
import scale
import torch
from made import load, pictures, texts
from torch.utils.flop_counter import FlopCounterMode
from transduct import against_float64, world

from gta.affinity import knn_graph
from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images
from gta.files import ROOT, write_atomically
from gta.labels import answer
from gta.loop import run
from gta.settings import Settings
from gta.transduct import Transduction, sparse, text_prior, transduct
from measuring import best, peak_gb, read, table

PARTS = ("solver", "sparse", "iteration", "encode", "optimiser", "large")
COLUMNS = ["part", "what", "n", "m", "d", "seconds", "value", "goal", "unit", "note", "device", "torch", "dtype"]
STEPS = 9  # of the optimiser


@dataclass(frozen=True)
class Sizes:
    solver: tuple[int, int, int] = (50000, 1000, 512)
    subset: int = 5000  # of the solver's images, for float64 on the CPU
    many: tuple[int, int, int] = (1_000_000, 10_000, 512)
    fewer: tuple[int, int, int] = (50_000, 1000, 512)
    backbone: str = "ViT-B/16"
    pixels: int = 224  # a side
    images: int = 5794
    classes: int = 200
    texts: int = 30  # a class
    encoded: int = 4096
    batches: tuple[int, ...] = (512, 256, 1024, 64)
    large: str = "ViT-L/14"
    large_images: int = 50000
    matrix: int = 8192  # rows and columns of the bare product


SMOKE = Sizes((300, 5, 32), 100, (900, 40, 32), (300, 20, 32), "embedded", 32, STEPS * 8, 4, 3, 32, (16, 8), "embedded", 100, 128)


@dataclass(frozen=True)
class Place:
    """left: seconds until the time is up."""

    device: str
    sizes: Sizes
    left: Callable[[], float]


@dataclass(frozen=True)
class Part:
    """about: seconds that it takes on an H100."""

    name: str
    what: str
    about: float
    rows: Callable[[], Iterable[dict]]


def main() -> None:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, help="the table, by default results/benchmarks/gpu.csv")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part, which may be given again; other rows of this card stay")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.smoke:
        parser.error("torch sees no GPU; with --smoke the tiny sizes run on a CPU")
    machine = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    file = arguments.out or ROOT / ("runs/smoke/benchmarks" if arguments.smoke else "results/benchmarks") / "gpu.csv"
    rows = [row for row in read(file) if row["device"] != machine["device"] or row["part"] not in (arguments.only or [row["part"]])]

    def record(row: dict) -> None:
        rows.append({column: (machine | row).get(column, "") for column in COLUMNS})
        write_atomically(file, table(rows))
        print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items() if v != ""), flush=True)

    place = Place(device, SMOKE if arguments.smoke else Sizes(), lambda: 60 * arguments.minutes - (time.monotonic() - start))
    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, place.left()))
    chosen = [part for part in parts(place, 0.02 if arguments.smoke else 1) if part.name in (arguments.only or [part.name])]
    schedule(chosen, place.left, record)
    print(f"table: {file}")


class TimeIsUp(Exception):
    pass


def time_is_up(*_) -> None:
    raise TimeIsUp


def schedule(parts: Sequence[Part], left: Callable[[], float], record: Callable[[dict], None]) -> None:
    """Every part in turn, its rows recorded as they come; a row in words for one that is skipped or fails."""
    for part in parts:
        named = {"part": part.name, "what": part.what}
        if (seconds := max(0, left())) < part.about:
            record(named | {"note": f"skipped: {seconds:.0f} s left, this part takes about {part.about:.3g} s"})
            continue
        try:
            fresh()
            for row in part.rows():
                record(named | row | {"what": f"{part.what}: {row['what']}" if "what" in row else part.what})
        except TimeIsUp:
            record(named | {"note": "stopped: the time is up"})
        except Exception as error:
            traceback.print_exc()
            first = (str(error).strip().splitlines() or ["no message"])[0]
            record(named | {"note": f"failed: {type(error).__name__}: {first}"})


def parts(place: Place, share: float) -> list[Part]:
    """In the order of their value; share: of the real sizes' time that these sizes take."""
    sizes = place.sizes

    def encoding(batch: int, channels_last: bool, compiled: bool) -> Part:
        what = f"{sizes.backbone}, batch {batch}" + ", channels-last" * channels_last + ", compiled" * compiled
        return Part("encode", what, share * (60 if compiled else 5), partial(encode, place, batch, channels_last, compiled))

    ways = [(batch, channels_last) for batch in sizes.batches for channels_last in (False, True)]
    return [
        Part("solver", "transduct", share * 40, partial(solver, place)),
        Part("sparse", "clustered", share * 150, partial(sparse_solver, place)),
        Part("iteration", sizes.backbone, share * 80, partial(iteration, place)),
        *[encoding(*way, compiled=False) for way in ways],
        encoding(*ways[0], compiled=True),
        *[Part("optimiser", way, share * 15, partial(nine_steps, place, way)) for way in regime.WAYS],
        Part("large", sizes.large, share * 50, partial(large, place)),
        Part("solver", "transduct", share * 90, lambda: [agreement(*world(*sizes.solver, place.device), "of the same problem")]),
        *[encoding(*way, compiled=True) for way in ways[1:]],
    ]


def solver(place: Place) -> Iterator[dict]:
    x, prior = world(*place.sizes.solver, place.device)
    shape = dict(zip("nmd", place.sizes.solver, strict=True)) | {"dtype": "float32"}
    transduct(x, prior)
    fresh()
    yield shape | timed("whole", best(lambda: transduct(x, prior), 3, place.device), "graph included", goal=2)
    yield shape | memory(place, "features and prior included")
    some = place.sizes.subset
    yield agreement(x[:some], prior[:some], f"of the first {some:,} images alone")


def sparse_solver(place: Place) -> Iterator[dict]:
    """Beside the dense solver, then where that has no room; the exact graph each time."""
    for size in (place.sizes.fewer, place.sizes.many):
        x, texts, labels = scale.world(*size)
        x, texts, labels = x.to(place.device), texts.to(place.device), labels.to(place.device)
        shape = dict(zip("nmd", size, strict=True)) | {"dtype": "float32"}
        graph, seconds = once(partial(knn_graph, x), place)
        yield shape | timed("graph, exact", seconds, "once")
        fresh()
        found, seconds = once(partial(sparse.transduct, x, texts[:, None], scale.SCALE, affinity=graph), place)
        right = 100 * float((answer(found.z) == labels).float().mean())
        yield shape | timed("64 entries a row", seconds, f"once, without the graph; {right:.4g} % of the labels are right")
        yield shape | memory(place, "features and graph included")
        if size == place.sizes.fewer:
            dense, seconds = once(partial(whole, x, texts, graph), place)
            same = 100 * float((answer(dense.assignments) == answer(found.z)).float().mean())
            yield shape | timed("whole", seconds, f"once, without the graph; {same:.6g} % of the labels are the same")


def whole(x: torch.Tensor, texts: torch.Tensor, graph: torch.Tensor) -> Transduction:
    return transduct(x, text_prior(x, texts[:, None], scale.SCALE), affinity=graph)


def once(work: Callable, place: Place) -> tuple:
    """What the work gives, and its seconds."""
    found: list = []
    seconds = best(lambda: found.append(work()), 1, place.device)
    return found[0], seconds


def agreement(x: torch.Tensor, prior: torch.Tensor, problem: str) -> dict:
    start = time.perf_counter()
    found = against_float64(x, prior)
    differ = round(len(x) * (1 - found["argmax_agreement"]))
    note = f"{problem}; {differ:,} of {len(x):,} images differ, z by at most {found['z_error']:.1e}; seconds of both, once"
    row = {"what": "argmax agreement with float64 on the CPU", "value": 100 - 100 * differ / len(x), "goal": 99.95, "unit": "%"}
    shape = {"n": len(x), "m": prior.shape[1], "d": x.shape[1], "dtype": "float32"}
    return row | shape | {"seconds": time.perf_counter() - start, "note": note}


def iteration(place: Place) -> Iterator[dict]:
    """Three iterations with all their stages, of a run of four: the last of a run does not adapt."""
    encoder, pixels, bank = load(place.sizes.backbone, place.device), shown(place), bank_of(place)
    encoder.encode_images(pixels[:512])
    fresh()
    shape = {"n": len(pixels), "m": place.sizes.classes} | read_by(encoder)
    history = run(encoder, Images.of_pixels(pixels), bank.class_names, Settings(iterations=4), attributes=bank, progress=False).history
    stages = {stage: [step[f"seconds_{stage}"] for step in history[:3]] for stage in ("encode", "transduct", "adapt")}
    for stage, (first, *others) in stages.items():
        yield shape | timed(stage, mean(others), f"mean of the second and third iteration; the first {first:.3g} s")
    first, *others = (sum(seconds) for seconds in zip(*stages.values(), strict=True))
    row = timed("30 iterations", first + sum(others), "the first of three measured ones, and 29 times the mean of the others", goal=240)
    yield shape | row | {"value": first + 29 * mean(others)}
    yield shape | memory(place, "images are in host memory")
    distinct, speed = sorted({text for of_class in bank.texts for text in of_class}), product_speed(place)
    some = distinct[:: -(-len(distinct) // 64)]
    flop = len(pixels) * image_flop(encoder) + len(distinct) * flop_of(lambda: [encoder.text_features([t]) for t in some]) / len(some)
    note = f"{flop / 1e12:.4g} TFLOP for images and {len(distinct):,} texts; the bare product {speed / 1e12:.4g} TFLOP/s in bfloat16"
    seconds = mean(stages["encode"][1:])
    yield shape | {"what": "encode, share of peak", "seconds": seconds, "value": flop / seconds / speed, "unit": "of 1", "note": note}


def encode(place: Place, batch: int, channels_last: bool, compiled: bool) -> Iterator[dict]:
    if compiled and place.device == "cpu":
        yield {"note": "skipped: compiling is measured on a GPU alone"}
        return
    encoder, pixels, first = load(place.sizes.backbone, place.device).copy(), shown(place)[: place.sizes.encoded], ""
    flop = image_flop(encoder)
    if channels_last:
        encoder.model.to(memory_format=torch.channels_last)
    if compiled:
        torch.compiler.reset()
        encoder.model.visual.compile(dynamic=False)
    start = time.perf_counter()
    encoder.encode_images(pixels[:batch], batch).cpu()
    if compiled:
        first = f"the first call, which compiles, {time.perf_counter() - start:.3g} s; "
    fresh()
    seconds = best(lambda: encoder.encode_images(pixels, batch), 3, place.device)
    row = {"n": len(pixels), "seconds": seconds} | read_by(encoder)
    yield row | throughput(place, len(pixels) / seconds, flop, f"{first}{peak_gb(place.device):.3g} GB at most; ")


def large(place: Place) -> Iterator[dict]:
    """As many images as fit in half of what is left, and in half a minute; the same ones again and again."""
    encoder, pixels, whole = load(place.sizes.large, place.device), shown(place)[: place.sizes.encoded // 2], place.sizes.large_images
    encoder.encode_images(pixels[:512]).cpu()
    fresh()
    done, start, limit = 0, time.perf_counter(), min(30, place.left() / 2)
    while done < whole and time.perf_counter() - start < limit:
        done += len(encoder.encode_images(pixels[: whole - done]).cpu())
    seconds, row = time.perf_counter() - start, {"n": done} | read_by(encoder)
    yield row | memory(place, "images are in host memory")
    note = f"extrapolated from {done:,} images" if done < whole else "all of them, once"
    yield row | timed(f"encode {whole:,} images", seconds, note) | {"n": whole, "value": whole * seconds / done}
    yield row | {"seconds": seconds} | throughput(place, done / seconds, image_flop(encoder), "once; ")


def nine_steps(place: Place, way: str) -> Iterator[dict]:
    """At the rates of the way, on images of a few classes: seconds, and what the steps did to each group of tensors."""
    batch = min(32, place.sizes.images // STEPS)
    rows = regime.steps(way, place.sizes.backbone, place.device, STEPS, batch, min(8, place.sizes.classes))
    shape = {"n": STEPS * batch, "dtype": "float16" if way == "as_released" else "float32"}
    note = f"of {batch} images, median of {STEPS - 1}; the optimiser alone {rows[0]['seconds_optimizer']:.3g} s"
    yield shape | timed("a step", rows[0]["seconds"], note)
    yield shape | {"what": "fall of the loss", "value": rows[0]["fall"], "note": "on the first batch, after all steps"}
    for row in rows:
        told = f"mean |g| {row['gradient']:.3g}, {100 * row['below_gate']:.3g} % of them below the gate"
        yield shape | {"what": f"mean |dw| of a step, {row['group']}", "value": row["step"], "note": told}


def shown(place: Place) -> torch.Tensor:
    return pictures(place.sizes.images, place.sizes.classes, place.sizes.pixels, place.device)


def bank_of(place: Place) -> Bank:
    return texts(load(place.sizes.backbone, place.device), place.sizes.classes, place.sizes.texts)


def timed(what: str, seconds: float, note: str, goal: float | str = "") -> dict:
    return {"what": what, "seconds": seconds, "value": seconds, "goal": goal, "unit": "s", "note": note}


def memory(place: Place, note: str) -> dict:
    return {"what": "peak memory", "value": peak_gb(place.device), "unit": "GB", "note": note}


def throughput(place: Place, rate: float, flop: float, note: str) -> dict:
    share = rate * flop / product_speed(place)
    return {"value": rate, "unit": "images/s", "note": f"{note}{flop / 1e9:.4g} GFLOP an image, {share:.3g} of the speed of a bf16 product"}


def read_by(encoder: Encoder) -> dict:
    """How an encoder reads images."""
    weights = str(encoder.model.visual.conv1.weight.dtype)[6:]
    autocast = encoder.device.type == "cuda" and weights == "float32"
    return {"d": encoder.model.visual.output_dim, "dtype": "bfloat16 autocast" if autocast else weights}


def fresh() -> None:
    """Give back what earlier parts held, and count the peak of memory anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def image_flop(encoder: Encoder) -> int:
    pixels = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.device)
    return flop_of(lambda: encoder.model.encode_image(pixels))


def flop_of(work: Callable) -> int:
    with FlopCounterMode(display=False) as counter:  # with gradients: torch's short cut without them hides its products
        work()
    return counter.get_total_flops()


@lru_cache
def product_speed(place: Place) -> float:
    """FLOP a second of a bare product of two square bfloat16 matrices, the fastest of five times ten."""
    side = place.sizes.matrix
    a, b = (torch.randn(side, side, device=place.device, dtype=torch.bfloat16) for _ in range(2))
    return 10 * 2 * side**3 / best(lambda: [a @ b for _ in range(10)], 5, place.device)


if __name__ == "__main__":
    main()
