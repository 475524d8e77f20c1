"""What `verify` says of good copies and of each kind of bad one, and what the command line makes of it."""

import io
import json

import pandas as pd
import pytest
from PIL import Image

from gta.__main__ import main
from gta.data import lock, manifests, verify
from published import LINES, picture, put, put_copy, put_lists

ALL = sorted(LINES)


@pytest.mark.parametrize("name", ALL)
def test_a_whole_copy_is_ready_and_its_counts_are_those_of_the_lists(name, cut):
    put_copy(name, cut)
    report = verify.verify(name, cut)
    assert report.ready, str(report)
    assert report.found == {split: len(LINES[name][split]) - (name == "cub" and split == "train") for split in ("train", "val", "test")}
    assert "verified" in str(report) and str(report).endswith("ready")


def test_all_problems_are_in_one_table(cut, capsys):
    base = put_copy("dtd", cut)
    (base / "images/banded/banded_0060.jpg").unlink()
    put(base / "images/zigzagged/zigzagged_0078.jpg", b"not an image")
    broken = base / "images/zigzagged/zigzagged_0099.jpg"
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(whole, "JPEG")
    broken.write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 3])  # its header is whole: it opens, and cannot be read
    assert Image.open(broken).size == (64, 64)
    put(base / "images/banded/holiday.jpg", picture("holiday"))
    assert main(["data", "verify", "dtd", "--root", str(cut)]) == 1
    said = capsys.readouterr().out
    for words in (
        r"test: missing",
        "banded/banded_0060.jpg",
        "test: classes short of images",
        "banded 1/2",
        "cannot be decoded",
        "zigzagged/zigzagged_0078.jpg, zigzagged/zigzagged_0099.jpg",
        "in no split, not used",
        "images/banded/holiday.jpg",
        "test 5 of 6",
        "not the paper's: 3 problems",
    ):
        assert words in said, said
    assert main(["data", "verify", "dtd", "--root", str(cut), "--quick"]) == 1
    assert "cannot be decoded" not in capsys.readouterr().out


def test_what_does_no_harm_is_a_note(cut):
    base = put_copy("sun397", cut)
    put(base / "SUN397/a/abbey/sun_unused.jpg", picture("unused"))
    report = verify.verify("sun397", cut)
    assert report.ready and report.notes == [("in no split, not used", 1, "SUN397/a/abbey/sun_unused.jpg")]


WRONG = {"dtd": 1880, "oxford_flowers": 6149, "oxford_pets": 3680, "caltech101": 6084, "food101": 25250, "eurosat": 5400}


@pytest.mark.parametrize(("name", "size"), WRONG.items())
def test_a_split_file_of_another_split_is_recognised_by_its_counts(name, size, cut):
    base = put_copy(name, cut)
    (file,) = base.glob("split_zhou_*.json")
    file.write_text(json.dumps({"train": [], "val": [], "test": [[f"x/{i}.jpg", 0, "x"] for i in range(size)]}), encoding="utf-8")
    report = verify.verify(name, cut)
    assert not report.ready
    assert any(what == "another copy than the paper's" and f"{size:,} images" in which for what, _, which in report.problems), str(report)


def test_folders_of_another_split_are_recognised_by_their_counts(cut, monkeypatch):
    """A folder `test` with as many images as another copy's test set, no published list beside it."""
    manifest = manifests.dataset("dtd")
    variant = manifest.variants[0].model_copy(update={"test": 7})
    monkeypatch.setattr(manifests, "dataset", lambda name: manifest.model_copy(update={"variants": (variant,)}))
    for i in range(7):
        put(cut / f"dtd/test/banded/{i}.jpg", picture(str(i)))
    for i in range(3):
        put(cut / f"dtd/train/banded/t{i}.jpg", picture(str(i)))
    report = verify.verify("dtd", cut)
    said = str(report)
    assert "7 images: an official split of DTD" in said and "no split_zhou_DescribableTextures.json" in said
    assert "python -m gta data fetch dtd" in said


def test_parquet_files_without_names_are_recognised_by_their_counts(cut):
    """As a Hub copy of DTD's official split: nothing says which image is which."""
    put_lists("dtd", cut / "dtd")
    for split, size in {"train": 3760, "test": 1880}.items():
        frame = pd.DataFrame({"image": [{"bytes": b"", "path": None}] * size, "label": 0})
        put(cut / f"dtd/data/{split}-00000-of-00001.parquet", frame.to_parquet())
    report = verify.verify("dtd", cut)
    assert report.found["test"] == 0 and "1,880 images: an official split of DTD" in str(report)


def test_lists_that_are_missing_come_with_what_to_do(cut):
    base = put_copy("food101", cut)
    (base / "split_zhou_Food101.json").unlink()
    assert "drive.google.com" in str(verify.verify("food101", cut))


def test_facts_that_are_not_verified_are_shown(cut, capsys):
    put_copy("cub", cut)
    assert main(["data", "verify", "cub", "--root", str(cut)]) == 0
    assert "not verified: licence (memory)" in capsys.readouterr().out


def test_a_changed_byte_is_told_by_name_though_the_image_still_opens(cut):
    base = put_copy("oxford_pets", cut)
    lock.write_sums(verify.copies.find(manifests.dataset("oxford_pets"), cut))
    assert verify.verify("oxford_pets", cut).ready
    put(base / "images/Abyssinian_202.jpg", picture("another cat"))
    assert verify.verify("oxford_pets", cut).problems == [("not the bytes that were fetched", 1, "Abyssinian_202.jpg")]


def test_imagenet_without_training_images_is_ready_for_zero_shot(cut):
    base = put_copy("imagenet", cut)
    (base / "images/train/n03773504/n03773504_10017.JPEG").unlink()
    report = verify.verify("imagenet", cut)
    assert report.ready and report.found == {"val": 0, "test": 4} and "few-shot" in report.notes[0][2]


def test_a_dataset_that_is_not_there_or_unknown(cut, capsys):
    put_lists("eurosat", cut / "eurosat")
    assert main(["data", "verify", "eurosat", "--root", str(cut)]) == 1
    assert "python -m gta data fetch eurosat" in capsys.readouterr().out
    assert main(["data", "verify", "euro-sat", "--root", str(cut)]) == 1
    assert "did you mean 'eurosat'" in capsys.readouterr().err
