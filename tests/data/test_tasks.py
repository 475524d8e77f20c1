import ast

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gta.data import tasks
from gta.files import ROOT
from gta.worlds import digits


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
            (tmp_path / name).write_text("no image", encoding="utf-8")
        else:
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    task = tasks.load(str(tmp_path))
    assert task.class_names == ("NA", "red kite")
    assert task.image_ids == ("NA/c.png", "red_kite/a.png", "red_kite/b.JPG")
    assert tasks.query_labels(task.source).tolist() == [0, 1, 1]


def test_an_unknown_dataset_is_told_the_nearest():
    with pytest.raises(ValueError, match="unknown dataset 'digit'; did you mean 'digits'"):
        tasks.load("digit")


def _tree(file):
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def test_only_results_asks_for_labels():
    """Whoever calls `query_labels`, or splits off the third value of `digits.load`, sees labels."""
    asks = {}
    for file in (ROOT / "gta").rglob("*.py"):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute | ast.Name)
        }
        asks[file.relative_to(ROOT).as_posix()] = names
    assert {file for file, names in asks.items() if "query_labels" in names} == {"gta/scores/results.py"}
    knows_truth = {"digits", "aviary", "truth"}
    imports = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "gta").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("gta.worlds", "gta.scores"))
        if {*(node.module or "").split("."), *(alias.name for alias in node.names)} & knows_truth
    }
    outside = {name for name in imports if not name.startswith(("gta/worlds/", "gta/scores/", "gta/workshop/"))}
    shown = {f"gta/{file}.py" for file in ("label/encode", "label/jobs", "label/models", "diagnosis/folder")}
    # Plants are drawn with their labels: birds that no query set has, and digits of the splits with labels. A pool drops its labels.
    assert outside == {"gta/data/tasks.py", "gta/diagnosis/plants.py", "gta/distil/pools.py", *shown}
    assert "query" not in {str(n.value) for n in ast.walk(_tree("gta/diagnosis/plants.py")) if isinstance(n, ast.Constant)}
    # A user's own pictures of drawn birds are spoken of as those of a world, and its encoders are loaded; no more is known there.
    for file in shown:
        nodes = ast.walk(_tree(file))
        taken = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "aviary"}
        assert taken <= {"BIRD", "SENTENCE", "ENCODERS"}
    assert not any("query_labels" in cell for cell in (file.read_text(encoding="utf-8") for file in (ROOT / "notebooks").rglob("*.ipynb")))


def test_only_rooms_of_data_read_published_splits():
    """They hold the labels of query images too: who reads them loads data or looks at it, and chooses nothing."""
    reads = {
        file.stem
        for file in (ROOT / "gta").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module in ("gta.data.splits", "gta.data.copies"))
        or (isinstance(node, ast.ImportFrom) and node.module == "gta.data" and {"splits", "copies"} & {alias.name for alias in node.names})
    }
    assert reads == {"__main__", "copies", "fetch", "gallery", "lock", "shots", "tasks", "verify"}


def test_the_halves_of_a_dataset_share_its_images_by_class():
    whole, base, new = (tasks.load(name) for name in ("digits", "digits#base", "digits#new"))
    assert base.class_names + new.class_names == whole.class_names and len(base.class_names) == 5
    labels = dict(zip(whole.image_ids, tasks.query_labels("digits"), strict=True))
    for half, first in ((base, 0), (new, 5)):
        assert [labels[i] - first for i in half.image_ids] == tasks.query_labels(half.source).tolist()
        assert set(tasks.query_labels(half.source)) == set(range(5))
        assert (half.images[3] == whole.images[whole.image_ids.index(half.image_ids[3])]).all()
    assert set(base.image_ids) | set(new.image_ids) == set(whole.image_ids)


def test_few_shot_draws_of_embedded_datasets():
    support, validation = tasks.few_shot("digits", 5, 0)
    assert np.bincount(support.labels).tolist() == [5] * 10 and np.bincount(validation.labels).tolist() == [4] * 10
    images, labels = tasks.labelled("digits")
    for i, image, label in zip(support.ids, support.images, support.labels, strict=True):
        row = int(i.removeprefix("train/"))
        assert (images[row] == image).all() and labels[row] == label
    assert tasks.few_shot("digits", 5, 0)[0].ids == support.ids != tasks.few_shot("digits", 5, 1)[0].ids
    assert set(tasks.few_shot("digits", 1, 0)[0].ids) < set(support.ids)
    base, _ = tasks.few_shot("digits#base", 5, 0)
    new, _ = tasks.few_shot("digits#new", 5, 0)
    assert base.ids + new.ids == support.ids and set(new.labels) == set(range(5))
    with pytest.raises(ValueError, match="has no images to learn from"):
        tasks.few_shot("nowhere", 1, 0)


def test_without_validation_images_those_are_other_training_images():
    """The aviary has none apart: support and validation are drawn from one split and share no image."""
    support, validation = tasks.few_shot("aviary", 2, 0)
    assert len(support.ids) == len(validation.ids) == 64 and not set(support.ids) & set(validation.ids)
