"""The benchmark of one GPU: its whole path in tiny sizes, and how it keeps to its time."""

import importlib
import subprocess
import sys

import pandas as pd
import pytest

from gta.files import ROOT

SCRIPT = ROOT / "benchmarks/gpu.py"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import gpu

    return gpu


def recorded(gpu, parts, left):
    rows = []
    gpu.schedule(parts, left, rows.append)
    return rows


def test_the_tiny_sizes_run_every_part_on_a_cpu(tmp_path):
    file = tmp_path / "gpu.csv"
    command = [sys.executable, str(SCRIPT), "--smoke", "--minutes", "1", "--out", str(file)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=180, stdout=subprocess.DEVNULL)
    rows = pd.read_csv(file)
    assert set(rows.part) == {"solver", "sparse", "iteration", "encode", "optimiser", "large"}
    assert {"what", "n", "m", "d", "seconds", "value", "goal", "unit", "note", "device", "torch", "dtype"} < set(rows.columns)
    notes = rows.note.fillna("")
    assert not notes.str.startswith("failed").any(), notes.tolist()
    measured = rows[~notes.str.startswith(("skipped", "stopped"))]
    assert measured.value.notna().all() and (measured.value >= 0).all() and {"solver", "iteration"} <= set(measured.part)
    assert (measured.value[measured.what.str.contains("agreement")] >= 99).all()
    moved = measured[measured.what.str.contains("dw")]
    assert (moved.value[moved.dtype == "float32"] > 0).all()
    subprocess.run([*command, "--only", "sparse"], cwd=tmp_path, check=True, timeout=180, stdout=subprocess.DEVNULL)
    again = pd.read_csv(file)
    assert again[again.part != "sparse"].equals(rows[rows.part != "sparse"].reset_index(drop=True))
    assert again[again.part == "sparse"].what.tolist() == rows[rows.part == "sparse"].what.tolist()


def test_a_part_is_skipped_in_words_when_the_time_is_up(gpu):
    part = gpu.Part("encode", "batch 64", 90, lambda: pytest.fail("ran"))
    nothing = "skipped: 0 s left, this part takes about 90 s"
    assert recorded(gpu, [part], lambda: 0) == [{"part": "encode", "what": "batch 64", "note": nothing}]
    assert recorded(gpu, [part], lambda: -3)[0]["note"] == nothing
    assert recorded(gpu, [part], lambda: 40)[0]["note"] == "skipped: 40 s left, this part takes about 90 s"


def test_a_part_that_fails_is_a_row_and_the_next_part_runs(gpu):
    def fails():
        yield {"what": "first", "value": 1}
        raise RuntimeError("CUDA out of memory. Tried\nmore lines")

    stopped = gpu.Part("encode", "slow", 5, gpu.time_is_up)
    parts = [gpu.Part("encode", "large batch", 5, fails), stopped, gpu.Part("large", "ViT", 5, lambda: [{"value": 2}])]
    first, failed, late, after = recorded(gpu, parts, lambda: 60)
    assert first == {"part": "encode", "what": "large batch: first", "value": 1}
    assert failed == {"part": "encode", "what": "large batch", "note": "failed: RuntimeError: CUDA out of memory. Tried"}
    assert late["note"] == "stopped: the time is up"
    assert after == {"part": "large", "what": "ViT", "value": 2}


@pytest.mark.parametrize(
    "name",
    [
        "abstention",
        "adapt",
        "choices",
        "encode",
        "groups",
        "label",
        "loop",
        "peers",
        "ranks",
        "regime",
        "review",
        "scale",
        "stations",
        "transduct",
    ],
)
def test_every_benchmark_finds_what_it_imports(monkeypatch, name):
    """They are run by hand, so that a name that moved would be missed first by a reader."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    assert importlib.import_module(name).__doc__
