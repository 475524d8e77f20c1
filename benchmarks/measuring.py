"""What benchmarks share: each case in a process of its own, its seconds and memory, and the table, written after every row."""

import argparse
import csv
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gta.files import ROOT


def begin(told: str, measure: Callable[..., dict]) -> tuple[argparse.Namespace, Path]:
    """The command line of a benchmark, and the folder of its table; in a process of one case, `measure` it and exit."""
    parser = argparse.ArgumentParser(description=told.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true")
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
