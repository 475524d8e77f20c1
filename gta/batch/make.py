"""One step of the batch, made: `python -m gta.batch.make NAME`, with a name as `python -m gta.batch.steps status` lists them."""

import argparse
import glob
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from filelock import FileLock

from gta.batch.steps import Batch
from gta.files import ROOT, write_atomically


def make(batch: Batch, name: str) -> None:
    """Make a step: its outputs at their places only when they are whole, then its stamp. A failure leaves its word in the stamp's
    place with the suffix `.failed`, and what was there before. What holds already is not made again."""
    step = batch.steps[name]
    failed = step.stamp.with_suffix(".failed")
    with FileLock(step.stamp.with_suffix(".lock")):  # held by what an earlier batch, killed alone, may have left running
        failed.unlink(missing_ok=True)
        if step.refresh() is not None:  # else what it reads was made again and came out the same
            _make(batch, name, failed)


def _make(batch: Batch, name: str, failed: Path) -> None:
    step = batch.steps[name]
    try:
        begun = step.begin()
        with a_gpu() if batch.gpus(name) else no_gpu():
            _work(batch, name)
        step.finish(begun)
    except BaseException as error:
        told = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # a kernel's traceback has colours; its last line says what it was
        write_atomically(failed, f"{type(error).__name__}: {told.splitlines()[-1] if told else 'no message'}\n")
        raise


def _work(batch: Batch, name: str) -> None:
    step = batch.steps[name]
    done = step.outputs[0]
    if name.startswith(("run/", "notebook/")):
        part = done.with_suffix(".part.ipynb")
        part.parent.mkdir(parents=True, exist_ok=True)
        execute(step.entry, part, step.parameters)
        part.write_text(part.read_text().replace(f"{ROOT}/", ""))  # where a machine keeps things is no part of a result
        part.replace(done)
    elif name.startswith("table/"):
        from gta.scores.tables import combine, concatenate

        runs = [batch.steps[run].outputs[0].parent for run in batch.needs(name)]
        combine(runs, done, batch.sweeps[name.removeprefix("table/")].references)
        for more in step.outputs[2:]:
            concatenate([run / more.name for run in runs], more)
    elif name.startswith("page/"):
        from gta.batch.pages import render

        write_atomically(done, render(step.inputs[0]))
    else:
        from gta.batch.site import build

        build(batch.base, done.parent, {other: batch.steps[other].outputs for other in batch.needs(name)}, **step.parameters)


def execute(notebook: Path, out: Path, parameters: Mapping[str, Any]) -> None:
    """papermill, with a kernel that is reached through sockets in a folder of its own: TCP ports are found free first and taken later,
    so that of many kernels that start at once two would take the same, and other users of the machine could listen."""
    import papermill
    from traitlets.config import Config

    with TemporaryDirectory() as sockets:
        kernel = Config(KernelManager={"transport": "ipc", "connection_file": f"{sockets}/kernel.json"})
        papermill.execute_notebook(notebook, out, dict(parameters), progress_bar=False, config=kernel)


@contextmanager
def a_gpu(devices: str = "/dev/nvidia[0-9]*", locks: Path = Path("runs/gpus")) -> Iterator[None]:
    """A GPU of this machine that no other run has, until the block ends or the process does; nothing where there is none, or
    where a scheduler has chosen already."""
    found = sorted(glob.glob(devices))
    if not found or "CUDA_VISIBLE_DEVICES" in os.environ:
        yield
        return
    locks.mkdir(parents=True, exist_ok=True)
    number, lock = _first_free(locks, len(found))
    with lock, _visible(str(number)):
        yield


def no_gpu() -> AbstractContextManager[None]:
    """The embedded encoders give the same numbers everywhere, on a CPU, and leave the GPUs to others."""
    return _visible("")


@contextmanager
def _visible(devices: str) -> Iterator[None]:
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _first_free(locks: Path, count: int) -> tuple[int, IO]:
    """The number of a GPU and its lock, held while the file is open: a process that is killed gives it back."""
    while True:
        for number in range(count):
            file = open(locks / str(number), "w")  # noqa: SIM115 - the caller closes it
            try:
                flock(file, LOCK_EX | LOCK_NB)
                return number, file
            except BlockingIOError:
                file.close()
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.batch.make", description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--options", type=json.loads, default={}, help="of `gta.batch.steps.Batch`: smoke, llm, data: a JSON object")
    arguments = parser.parse_args()
    make(Batch(**arguments.options), arguments.name)


if __name__ == "__main__":
    main()
