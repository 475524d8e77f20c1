import ast

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gta import tasks
from gta.embedded import digits
from gta.files import ROOT


def test_the_split_is_fixed_and_covers_every_digit_once():
    splits = {name: digits.load(name) for name in ("query", "train", "validation")}
    assert {name: len(ids) for name, (ids, _, _) in splits.items()} == {"query": 1393, "train": 205, "validation": 199}
    ids = [i for of_split in splits.values() for i in of_split[0]]
    assert len(ids) == len(set(ids)) == 1797
    assert min(np.bincount(splits["train"][2])) >= 16
    rows = [int(i.split("/")[1]) for i in splits["query"][0]]
    assert (load_digits().target[rows] == splits["query"][2]).all()
    assert np.abs(load_digits().images[rows] - splits["query"][1] * (16 / 255)).max() < 0.04


def test_a_folder_of_class_folders_is_a_task(tmp_path):
    for name in ("red_kite/b.JPG", "red_kite/a.png", "NA/c.png", "notes/readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    task = tasks.load(str(tmp_path))
    assert task.class_names == ("NA", "red kite")
    assert task.image_ids == ("NA/c.png", "red_kite/a.png", "red_kite/b.JPG")
    assert tasks.query_labels(task.source).tolist() == [0, 1, 1]


def test_an_unknown_dataset_is_told_the_nearest():
    with pytest.raises(ValueError, match="unknown dataset 'digit'; did you mean 'digits'"):
        tasks.load("digit")


def test_only_results_asks_for_labels():
    """Whoever calls `query_labels`, or splits off the third value of `digits.load`, sees labels."""
    asks = {}
    for file in (ROOT / "gta").rglob("*.py"):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute | ast.Name)
        }
        asks[file.relative_to(ROOT).as_posix()] = names
    assert {file for file, names in asks.items() if "query_labels" in names} == {"gta/results.py"}
    knows_truth = {"digits", "aviary", "truth", "choose", "card"}  # of gta.embedded
    imports = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "gta").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and "embedded" in (node.module or "")
        if {*(node.module or "").split("."), *(alias.name for alias in node.names)} & knows_truth
    }
    assert imports == {"gta/tasks.py", "gta/jobs.py"}
    # A user's own pictures of drawn birds are spoken of as those of a world; no more of a world is known there.
    jobs = ast.walk(ast.parse((ROOT / "gta/jobs.py").read_text()))
    taken = {n.attr for n in jobs if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "aviary"}
    assert taken <= {"BIRD", "SENTENCE"}
    assert not any("query_labels" in cell for cell in (file.read_text() for file in (ROOT / "notebooks").rglob("*.ipynb")))


def test_only_rooms_of_data_read_published_splits():
    """They hold the labels of query images too: who reads them loads data or looks at it, and chooses nothing."""
    reads = {
        file.stem
        for file in (ROOT / "gta").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.ImportFrom) and node.module in ("gta.splits", "gta.copies"))
        or (isinstance(node, ast.ImportFrom) and node.module == "gta" and {"splits", "copies"} & {alias.name for alias in node.names})
    }
    assert reads == {"__main__", "copies", "fetch", "gallery", "lock", "shots", "tasks", "verify"}
