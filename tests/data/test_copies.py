"""Every dataset from small copies in the layouts that circulate: the right images with the right classes, or an error that helps."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gta.data import copies, manifests, tasks
from gta.encoders.images import load_images
from published import LAYOUTS, LINES, SPLIT_FILES, cut_manifests, lines, picture, put, put_copy, put_lists

ALL = sorted(LINES)


def pixels(image) -> np.ndarray:
    return np.asarray((Image.open(image) if not isinstance(image, Image.Image) else image).convert("RGB"))


def expect(task, name, root, suffix="JPEG"):
    """Each image of the task is the one that its published line names, and its label is the line's."""
    expected = sorted((path, label) for path, label, _ in lines(name, "test"))
    assert list(task.image_ids) == [path for path, _ in expected]
    assert tasks.query_labels(task.source).tolist() == [label for _, label in expected]
    for (path, _), image in zip(expected, task.images, strict=True):
        assert (pixels(image) == pixels(Image.open(io.BytesIO(picture(path, suffix))))).all(), path
    assert len(task.class_names) == len(manifests.dataset(name).classes) and task.split == "test"


@pytest.mark.parametrize(("name", "layout"), [(name, i) for name in ALL for i in range(len(LAYOUTS[name]))])
def test_a_copy_in_a_known_layout_loads_to_the_right_labels(name, layout, cut):
    folder = put_copy(name, cut, layout)
    expect(tasks.load(name, cut), name, cut)
    expect(tasks.load(f"{name}@{cut}"), name, cut)
    expect(tasks.load(name, folder), name, cut)  # the folder of the dataset itself as root


@pytest.mark.parametrize("name", ALL)
def test_names_in_the_published_lists_are_the_manifests(name):
    """Label and name of every real line agree with the class list."""
    manifest = manifests.dataset(name)
    for split in ("train", "val", "test"):
        for _, label, written in lines(name, split):
            named = {manifest.classes[label].name, manifest.classes[label].folder}
            assert written.replace("_", " ") in {text.replace("_", " ") for text in named}


def test_copies_below_one_root_do_not_mix(cut):
    for name in ALL:
        put_copy(name, cut)
    for name in ALL:
        expect(tasks.load(name, cut), name, cut)


def test_the_order_of_files_says_nothing(cut):
    """Images are in the order of their published paths, whatever the order of the split file."""
    put_copy("dtd", cut)
    before = tasks.load("dtd", cut).image_ids
    assert list(before) == sorted(before)


@pytest.mark.parametrize("name", ["oxford_pets", "oxford_flowers", "eurosat", "dtd", "food101", "caltech101", "ucf101"])
@pytest.mark.parametrize("spelt", ["name", "folder"])
def test_a_plain_folder_per_class(name, spelt, cut):
    manifest = manifests.dataset(name)
    put_lists(name, cut / "mine")
    for split in LINES[name].values():
        for path, label, _ in split:
            put(cut / "mine/pictures" / getattr(manifest.classes[label], spelt) / path.rpartition("/")[2], picture(path))
    expect(tasks.load(name, cut / "mine"), name, cut)


def test_cub_in_one_flat_folder(cut):
    base = cut / "CUB_200_2011"
    put_lists("cub", base)
    for split in LINES["cub"].values():
        for path, _, _ in split:
            put(base / "CUB_200_2011/images_extracted" / path.rpartition("/")[2], picture(path))
    expect(tasks.load("cub", cut), "cub", cut)


def parquet(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(pd.DataFrame(rows)), file, row_group_size=2)


@pytest.mark.parametrize(("name", "column"), [("eurosat", "filename"), ("eurosat", "image_id"), ("oxford_pets", "image_id")])
def test_parquet_files_with_a_column_of_file_names(name, column, cut, encoder):
    """As timm's repositories keep them: other splits, ids without suffix, images as bytes; only the names count."""
    put_lists(name, cut / "hub")
    entries = [path for split in LINES[name].values() for path, _, _ in split]
    rows = [
        {"image": {"bytes": picture(path, "PNG"), "path": None}, "label": 0, column: path.rpartition("/")[2].removesuffix(".jpg")}
        for path in reversed(entries)
    ]
    parquet(cut / "hub/data/train-00000-of-00002.parquet", rows[:5])
    parquet(cut / "hub/data/test-00000-of-00001.parquet", rows[5:])
    task = tasks.load(name, cut / "hub")
    expect(task, name, cut, "PNG")
    assert isinstance(task.images[:2], copies.Images) and len(task.images[:2]) == 2
    assert len(load_images(task.images, encoder)) == len(task.image_ids)


def test_parquet_files_with_names_beside_the_bytes(cut):
    put_lists("dtd", cut / "dtd")
    entries = [path for split in LINES["dtd"].values() for path, _, _ in split]
    rows = [{"image": {"bytes": picture(path), "path": path.rpartition("/")[2]}, "label": 3} for path in entries]
    parquet(cut / "dtd/data/all.parquet", rows)
    expect(tasks.load("dtd", cut), "dtd", cut)


def test_a_broken_parquet_file_is_named(cut):
    put_lists("dtd", cut / "dtd")
    put(cut / "dtd/data/train.parquet", b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"train\.parquet is no parquet file"):
        tasks.load("dtd", cut)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_image_folder_with_a_column_of_file_names(kind, cut):
    put_lists("oxford_pets", cut / "oxford_pets")
    entries = [path for split in LINES["oxford_pets"].values() for path, _, _ in split]
    frame = pd.DataFrame({"file_name": [f"{i:04d}.jpg" for i in range(len(entries))], "image_id": [path[:-4] for path in entries]})
    for name, path in zip(frame.file_name, entries, strict=True):
        put(cut / "oxford_pets/train" / name, picture(path))
    text = frame.to_csv(index=False) if kind == "csv" else frame.to_json(orient="records", lines=True)
    put(cut / f"oxford_pets/train/metadata.{kind}", text)
    expect(tasks.load("oxford_pets", cut), "oxford_pets", cut)


def test_cars_numbered_anew_by_class_are_not_taken_for_the_papers(cut):
    base = cut / "stanford_cars"
    put_lists("stanford_cars", base)
    for split in LINES["stanford_cars"].values():
        for path, _, name in split:
            put(base / name.replace("/", "-") / path.rpartition("/")[2], picture("another image"))
    with pytest.raises(
        FileNotFoundError, match=r"3 images are missing, such as cars_test/08036.jpg; `python -m gta data verify stanford_cars"
    ):
        tasks.load("stanford_cars", cut)


def test_masks_of_the_same_name_are_no_photographs(cut):
    for name, mask in (("oxford_pets", "annotations/trimaps"), ("cub", "segmentations")):
        base = put_copy(name, cut)
        for path, _, _ in lines(name, "test"):
            put(base / mask / path.replace(".jpg", ".png"), picture("mask", "PNG"))
        expect(tasks.load(name, cut), name, cut)


def test_of_two_files_of_one_path_the_nearer_is_taken(cut):
    base = put_copy("eurosat", cut)
    for path, _, _ in lines("eurosat", "test"):
        put(base / "0/backup/2750" / path, picture("backup"))
    expect(tasks.load("eurosat", cut), "eurosat", cut)


def test_folders_that_are_no_class_are_left_out(cut):
    base = put_copy("caltech101", cut)
    for folder in ("BACKGROUND_Google", "Faces_easy"):
        put(base / "101_ObjectCategories" / folder / "image_0001.jpg", picture("none"))
    expect(tasks.load("caltech101", cut), "caltech101", cut)
    assert copies.open_copy("caltech101", cut).unused == []


def test_the_bird_that_the_authors_leave_out_is_neither_train_nor_test(cut):
    put_copy("cub", cut)
    copy = copies.open_copy("cub", cut)
    assert [entry.path.rpartition("/")[2] for entry in copy.splits["train"]] == [
        "Black_Footed_Albatross_0009_34.jpg",
        "Black_Tern_0101_144331.jpg",
    ]
    assert len(copy.splits["test"]) == 2


def test_imagenet_reads_no_training_folder_for_a_zero_shot_run(cut):
    base = put_copy("imagenet", cut)
    assert len(copies.open_copy("imagenet", cut, training=False).items) == 4
    (base / "images/val/n01440764/ILSVRC2012_val_00000293.JPEG").unlink()
    with pytest.raises(ValueError, match=r"3 images listed for test, not 4"):
        tasks.load("imagenet", cut)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["test"].pop(), "not the paper's split file: its hash is another; it lists .*'test': 5"),
        (lambda data: data.pop("val"), "is no split file of"),
    ],
)
def test_a_split_file_of_another_hash_is_refused(change, message, cut):
    base = put_copy("dtd", cut)
    file = base / "split_zhou_DescribableTextures.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data, indent=4), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        tasks.load("dtd", cut)


def test_labels_in_another_order_are_refused_even_with_the_right_hash(cut, tmp_path, monkeypatch):
    """Some lists have cheese plate and cheesecake the other way round."""
    swapped = {split: [[p, {16: 17, 17: 16}.get(i, i), n] for p, i, n in LINES["food101"][split]] for split in LINES["food101"]}
    monkeypatch.setitem(LINES, "food101", swapped)
    monkeypatch.setattr(manifests, "FOLDER", cut_manifests(tmp_path / "other"))
    put_copy("food101", cut)
    with pytest.raises(
        ValueError, match=r"label 17 is 'cheesecake' in the paper's order, but cheese_plate/3583514.jpg says 'cheese_plate'"
    ):
        tasks.load("food101", cut)


def test_lists_that_are_missing_are_named(cut):
    base = put_copy("fgvc_aircraft", cut)
    (base / "images_variant_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no images_variant_test\.txt below \S+; `python -m gta data verify fgvc_aircraft"):
        tasks.load("fgvc_aircraft", cut)
    with pytest.raises(FileNotFoundError, match="python -m gta data fetch eurosat --root"):
        tasks.load("eurosat", cut)


def test_an_image_listed_twice_is_an_error(cut):
    base = put_copy("fgvc_aircraft", cut)
    put(base / "images_variant_val.txt", "0062765 F-16A/B\n")
    with pytest.raises(ValueError, match=r"images/0062765.jpg is listed twice"):
        tasks.load("fgvc_aircraft", cut)


def test_a_task_gives_no_label_away_and_images_are_lazy(cut):
    put_copy("ucf101", cut)
    task = tasks.load("ucf101", cut)
    assert all(isinstance(image, Path) for image in task.images)
    assert {field.name for field in dataclasses.fields(task) if "label" in field.name or "class" in field.name} == {"class_names"}


def test_every_split_file_is_pinned():
    for name in SPLIT_FILES:
        pin = manifests.dataset(name).split_file
        assert pin.name == f"split_zhou_{SPLIT_FILES[name]}.json" and (pin.sha256 or pin.git_blob)
