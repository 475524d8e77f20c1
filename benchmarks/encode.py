"""Images a second that `features_of` encodes, alone and by two processes, against the bare model.

    python benchmarks/encode.py           # results/benchmarks/encode.csv; two minutes on two cores
    python benchmarks/encode.py --smoke   # few images, under runs/smoke

ViT-B/32 with random weights; images at its resolution, already in their store, each different. `bare` is `image_features` of batches and
nothing else. Every case runs in a process of its own; with two processes the threads are shared between them, and the time runs from the
moment when both are ready until both have all features. `ratio` is images a second over those of `bare` in the same run.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gta.files import write_atomically
from measuring import begin, in_a_process, table

BLOCK = 64  # images of a shard here, so that there are some
WORKER = "import sys, encode; encode.work(*sys.argv[1:])"


def main() -> None:
    arguments, folder = begin(__doc__, measure)
    images = 32 if arguments.smoke else 768
    rows = [in_a_process(__file__, {"how": how, "images": images}) for how in ("bare", "one process", "two processes")]
    for row in rows:
        row["ratio"] = row["images_a_second"] / rows[0]["images_a_second"]
        print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    write_atomically(folder / "encode.csv", table(rows))
    print(f"table: {folder / 'encode.csv'}")


def measure(how: str, images: int) -> dict:
    import torch

    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        if how == "bare":
            encoder, pixels = inputs(images)
            start = time.perf_counter()
            with torch.no_grad():
                for part in pixels.split(32):
                    encoder.image_features(part)
            seconds = time.perf_counter() - start
        else:
            count = 1 if how == "one process" else 2
            command = [sys.executable, "-c", WORKER, folder, str(images), str(count)]
            environment = os.environ | {"OMP_NUM_THREADS": str(max(1, threads // count)), "PYTHONPATH": os.pathsep.join(sys.path)}
            workers = [subprocess.Popen(command, env=environment, cwd=Path(__file__).parent) for _ in range(count)]
            for worker in workers:
                if worker.wait():
                    raise RuntimeError("a worker failed; its error is above")
            start = max(float(file.read_text(encoding="utf-8")) for file in Path(folder).glob("ready-*"))
            seconds = max(float(file.read_text(encoding="utf-8")) for file in Path(folder).glob("done-*")) - start
    machine = {"device": f"cpu {platform.machine()}", "threads": threads, "versions": f"torch {torch.__version__}"}
    return {"how": how, "images": images, "seconds": seconds, "images_a_second": images / seconds, **machine}


def work(folder: str, images: str, count: str) -> None:
    """One process: wait for the others, encode, and leave the times."""
    from gta.encoders import embeddings
    from gta.encoders.images import Images

    embeddings.BLOCK = BLOCK
    encoder, pixels = inputs(int(images))
    held = Images.of_pixels(pixels)
    place, own = Path(folder), os.getpid()
    (place / f"ready-{own}").write_text(str(time.time()), encoding="utf-8")
    while len(list(place.glob("ready-*"))) < int(count):
        time.sleep(0.01)
    embeddings.features_of(encoder, held, place, progress=False)
    (place / f"done-{own}").write_text(str(time.time()), encoding="utf-8")


def inputs(images: int):
    """The encoder, and pixels (images, 3, H, W)."""
    import made

    encoder = made.load("ViT-B/32", "cpu")
    return encoder, made.pictures(images, 10, encoder.image_size, "cpu")


if __name__ == "__main__":
    main()
