"""What benchmarks share: each case in a process of its own, its seconds and memory, and the table, written after every row."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gta.files import ROOT

if TYPE_CHECKING:  # a case is measured without what it does not need
    from pandas import DataFrame


def begin(told: str, measure: Callable[..., dict], *flags: str) -> tuple[argparse.Namespace, Path]:
    """The command line of a benchmark, with flags of its own, and the folder of its table; in a process of one case, `measure` it and
    exit."""
    parser = argparse.ArgumentParser(description=told.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    for flag in ("--smoke", *flags):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(**json.loads(arguments.case))))
        sys.exit()
    return arguments, ROOT / ("runs/smoke/benchmarks" if arguments.smoke else "results/benchmarks")


def in_a_process(script: str, case: Mapping, environment: Mapping[str, str] | None = None) -> dict:
    """The row that `measure` of the script gives for a case."""
    command = [sys.executable, script, "--case", json.dumps(case)]
    return json.loads(
        subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True, env=os.environ | (environment or {})).stdout
    )


def begun(told: str, more: Mapping[str, Mapping] | None = None) -> argparse.Namespace:
    """The command line of a benchmark that measures in this process. more: {an option: keywords of `add_argument`}."""
    parser = argparse.ArgumentParser(description=told.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    for name, how in (more or {}).items():
        parser.add_argument(name, **how)
    return parser.parse_args()


def place(name: str, smoke: bool) -> Path:
    """The file of the table of a benchmark."""
    return ROOT / f"{'runs/smoke' if smoke else 'results'}/benchmarks/{name}.csv"


def stamped(frame: DataFrame) -> DataFrame:
    """The rows of this process with its machine, its threads and the versions."""
    import torch

    from gta.scores import results

    return frame.assign(device=f"cpu {platform.machine()}, {torch.get_num_threads()} threads", versions=results.VERSIONS)


def best(work, repeats: int, device: str) -> float:
    """Seconds of the fastest of `repeats` calls."""
    import torch

    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_gb(device: str) -> float:
    """The most memory so far: resident set of this process, or what torch held on the GPU."""
    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def read(file: Path) -> list[dict]:
    """Rows of an earlier run, numbers as numbers; none where there was none."""
    if not file.exists():
        return []

    def number(text: str):
        try:
            return float(text) if any(c in text for c in ".e") else int(text)
        except ValueError:
            return text

    with open(file, newline="", encoding="utf-8") as stream:
        return [{key: number(value) for key, value in row.items() if value != ""} for row in csv.DictReader(stream)]


def table(rows: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)
    return stream.getvalue()
