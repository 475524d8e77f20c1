"""Make one step of the batch: `python -m gta.batch.make NAME`. `python -m gta.batch.steps status` lists the names."""

import argparse
import glob
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from filelock import FileLock

from gta.batch import progress
from gta.batch.kernels import environment, execute
from gta.batch.steps import Batch
from gta.files import ROOT, write_atomically


def make(batch: Batch, name: str) -> None:
    """Make a step: write its complete outputs, then its stamp. A step that is up to date is not made again.

    After a failure, a file beside the stamp with the suffix `.failed` holds the error message, and the earlier outputs stay.
    """
    step = batch.steps[name]
    failed = step.stamp.with_suffix(".failed")
    with FileLock(step.stamp.with_suffix(".lock")):  # a step of an earlier batch that was killed may still run and hold it
        failed.unlink(missing_ok=True)
        if step.refresh() is not None:  # None: its inputs were made again with the same content
            _make(batch, name, failed)


def _make(batch: Batch, name: str, failed: Path) -> None:
    step = batch.steps[name]
    try:
        begun = step.begin()
        with a_gpu() if batch.gpus(name) else no_gpu():
            _work(batch, name)
        step.finish(begun)
    except BaseException as error:
        told = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # remove terminal colours; the last line of a traceback is the message
        write_atomically(failed, f"{type(error).__name__}: {told.splitlines()[-1] if told else 'no message'}\n")
        raise


def _work(batch: Batch, name: str) -> None:
    step = batch.steps[name]
    done = step.outputs[0]
    if name.startswith(("run/", "notebook/")):
        part = done.with_suffix(".part.ipynb")
        part.parent.mkdir(parents=True, exist_ok=True)
        execute(step.entry, part, step.parameters)
        text = part.read_text(encoding="utf-8").replace(f"{ROOT}/", "")  # a result must not contain paths of this machine
        part.write_text(text, encoding="utf-8")
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


@contextmanager
def a_gpu(devices: str = "/dev/nvidia[0-9]*", locks: Path = Path("runs/gpus")) -> Iterator[None]:
    """Reserve a GPU of this machine that no other run uses, until the block or the process ends.

    It does nothing if there is no GPU, or if a scheduler has already set CUDA_VISIBLE_DEVICES.
    """
    found = sorted(glob.glob(devices))
    if not found or "CUDA_VISIBLE_DEVICES" in os.environ:
        yield
        return
    locks.mkdir(parents=True, exist_ok=True)
    number, lock = _first_free(locks, len(found))
    with lock, environment(CUDA_VISIBLE_DEVICES=str(number)):
        yield


def no_gpu() -> AbstractContextManager[None]:
    """Hide all GPUs. The embedded encoders run on the CPU: they give the same numbers everywhere, and the GPUs stay free."""
    return environment(CUDA_VISIBLE_DEVICES="")


def _first_free(locks: Path, count: int) -> tuple[int, IO]:
    """Wait for a free GPU; returns its number and its lock file. The lock holds while the file is open, so a killed process frees it."""
    while True:
        for number in range(count):
            file = open(locks / str(number), "w", encoding="utf-8")  # noqa: SIM115 - the caller closes it
            try:
                flock(file, LOCK_EX | LOCK_NB)
                return number, file
            except BlockingIOError:
                file.close()
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.batch.make", description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--options", type=json.loads, default={}, help="of `gta.batch.steps.Batch`: a JSON object")
    parser.add_argument("--log", type=Path, help="a file for all that the step prints; by default it is shown")
    arguments = parser.parse_args()
    begun = time.monotonic()
    try:
        with progress.written_to(arguments.log):
            make(Batch(**arguments.options), arguments.name)
    except Exception as error:
        last = "".join(arguments.log.read_text(errors="replace", encoding="utf-8").splitlines(keepends=True)[-25:]) if arguments.log else ""
        sys.exit(f"{last}{arguments.name} failed: {type(error).__name__}; {arguments.log or ''}")
    print(progress.line(arguments.name, time.monotonic() - begun), flush=True)


if __name__ == "__main__":
    main()
