"""The benchmark of text students: nothing that a student is scored on is among what it learns from."""

import pytest

from gta.files import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import distil_text

    return distil_text


@pytest.mark.parametrize(("name", "classes", "held_out"), [("aviary", 32, 320), ("docstrings", 8, 150)])
def test_held_out_texts_are_apart_and_every_class_is_told(benchmark, name, classes, held_out):
    task = benchmark.task_of(name)
    assert len(task.told) == classes and all(task.told) and len(set(task.held_out)) == len(task.held_out) >= held_out
    assert len(task.pool) >= held_out and not set(task.pool) & set(task.held_out)
    assert task == benchmark.task_of(name)
