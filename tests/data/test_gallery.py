"""The page about the datasets: whole, incomplete and missing copies."""

import pytest

from gta.data import gallery
from published import LINES, put_copy


def test_the_tables_hold_every_dataset_and_fact():
    names = gallery.chosen("all")
    frame = gallery.overview(names)
    assert len(frame) == 12 and frame.classes.sum() == 2391
    assert frame.loc["dtd", ["train", "val", "test"]].tolist() == ["2,820", "1,128", "1,692"] and frame.loc["cub", "val"] == ""
    assert gallery.provenance("dtd").loc["splits", "known"] == "verified"
    assert gallery.chosen("dtd, cub") == ("dtd", "cub")
    with pytest.raises(ValueError, match="did you mean 'dtd'"):
        gallery.chosen("dtdd")


def test_what_is_here_and_what_to_do_about_the_rest(cut):
    put_copy("dtd", cut)
    (put_copy("ucf101", cut) / "UCF-101-midframes/Yo_Yo/v_YoYo_g06_c02.jpg").unlink()
    frame = gallery.present(["dtd", "ucf101", "food101"], cut)
    assert frame.state.tolist() == ["ready", "2 problems", "missing"]
    assert frame["test here"].tolist() == ["6", "2", "0"]
    assert frame.command.tolist() == [
        "",
        f"python -m gta data verify ucf101 --root {cut}",
        f"python -m gta data fetch food101 --root {cut}",
    ]


def test_examples_are_training_images_under_their_names_from_an_incomplete_copy_too(cut):
    base = put_copy("dtd", cut)
    labels = {path: name for path, _, name in LINES["dtd"]["train"]}
    images, names = gallery.examples("dtd", cut, classes=6, images_a_class=4)
    assert [labels[f"{image.parent.name}/{image.name}"] for image in images] == names and len(names) == 6
    for image in (base / "images/polka-dotted").iterdir():
        image.unlink()
    images, names = gallery.examples("dtd", cut, classes=2, images_a_class=1)
    assert names == ["banded", "zigzagged"] and len(images) == 2
    assert gallery.examples("food101", cut, 6, 4) == ([], []) and len(gallery.examples("dtd", cut, 6, 0)[0]) == 0
