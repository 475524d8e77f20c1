"""One rule for a folder of images, whoever reads it: `gta label` and `predict`, and a folder as a dataset."""

import os
import warnings

import pytest
from PIL import Image

from gta.__main__ import main
from gta.data import folders, tasks
from gta.label.inputs import find_images
from gta.peers.susx import generated


def put(base, *names):
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(base / name, format="PNG")
    return base


def task_and_told(folder):
    """A folder as a dataset, and the words of its warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = tasks.load(str(folder))
    return task, [str(warning.message) for warning in caught]


def said(capsys, *words):
    """What a command that ends in an error tells the user."""
    assert main([str(word) for word in words]) == 1
    return capsys.readouterr().err.strip()


def labelled(capsys, folder, *more):
    (folder.parent / "classes.txt").write_text("one\ntwo", encoding="utf-8")
    words = ["label", folder, "--classes", folder.parent / "classes.txt", "--encoder", "embedded", "--out", folder.parent / "out", "--plan"]
    return said(capsys, *words, *more)


def test_folders_of_programs_are_no_classes_and_are_told(tmp_path):
    """`.ipynb_checkpoints` and `__MACOSX` became classes."""
    base = put(
        tmp_path / "my user's birds", "NA/1.png", "None/1.png", "null/1.png", "__MACOSX/4.png", ".ipynb_checkpoints/4-checkpoint.png"
    )
    (base / "__MACOSX/._4.png").write_bytes(b"x")
    task, told = task_and_told(base)
    assert task.class_names == ("NA", "None", "null")
    assert tasks.query_labels(task.source).tolist() == [0, 1, 2]
    assert told == [f"{base}: left out: .ipynb_checkpoints (hidden), __MACOSX (a folder of the system)"]
    assert dict(find_images(base).left_out) == {".ipynb_checkpoints": "hidden", "__MACOSX": "a folder of the system"}


def test_no_class_vanishes(tmp_path):
    """Classes whose images are .jfif, or one folder deeper, were lost in silence."""
    base = put(tmp_path / "lossy", "cat/1.png", "dog/a.jfif", "owl/more/2.png")
    (base / "cat/empty.jpg").touch()
    (base / "ant").mkdir()
    task, told = task_and_told(base)
    assert task.class_names == ("cat", "dog", "owl") and task.image_ids == ("cat/1.png", "dog/a.jfif", "owl/more/2.png")
    assert told == [f"{base}: left out: cat/empty.jpg (empty: it has no byte), ant (a folder without an image)"]
    assert find_images(base).names == list(task.image_ids)


@pytest.mark.parametrize(
    ("names", "classes", "left_out"),
    [
        (["cat/1.png", "@eaDir/1.png", "lost+found/x.png"], ("cat",), "@eaDir and 1 more (a folder of the system)"),
        (["n01/images/1.png", "n02/images/1.png"], ("n01", "n02"), None),
        (["cat/1.JFIF", "dog/2.jpe", "loose.png"], ("cat", "dog"), "loose.png (in no sub-folder, so of no class)"),
        (["cat/1.png", "cat/.thumbs/1.png"], ("cat",), "cat/.thumbs (hidden)"),
    ],
)
def test_other_folders_that_people_have(tmp_path, names, classes, left_out):
    base = put(tmp_path / "base", *names)
    task, told = task_and_told(base)
    assert task.class_names == classes
    assert told == ([] if left_out is None else [f"{base}: left out: {left_out}"])


def test_a_format_that_is_not_read_is_named_and_its_class_too(tmp_path):
    base = put(tmp_path / "base", "cat/1.png")
    for name in ("dog/1.jxl", "dog/2.jxl"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(b"x")
    _, told = task_and_told(base)
    assert told == [f"{base}: left out: dog/1.jxl and 1 more (.jxl: no image by its name), dog (a folder without an image)"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1.png", "train/dog/1.png", "test/cat/2.png"], "test, train hold no image themselves, but folders of images, such as "
         "train/cat; name the folder whose sub-folders are the classes, such as {base}/train"),
        (["red_kite/1.png", "Red kite/1.png"], "the folders 'Red kite' and 'red_kite' are one name, 'red kite'; rename one, or join them"),
        (["1.png", "2.png"], "a sub-folder of images for each class is needed, and no image is in one: "
         "1.png and 1 more (in no sub-folder, so of no class)"),
        ([], "a sub-folder of images for each class is needed, and no image is in one: it is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_classes_is_refused_with_the_mend(tmp_path, names, message):
    (base := tmp_path / "base").mkdir()
    put(base, *names)
    with pytest.raises(ValueError) as caught:
        tasks.load(str(base))
    assert str(caught.value) == f"{base}: {message.format(base=base)}"


def test_generated_images_of_a_peer_follow_the_same_rule(tmp_path):
    base = put(tmp_path / "drawn", "red_kite/1.jfif", "crane/deep/2.png", "__MACOSX/x.png")
    files, classes = generated(base, ["crane", "red kite"])
    assert [file.name for file in files] == ["2.png", "1.jfif"] and classes.tolist() == [0, 1]


def snapshot(base, contents, *names):
    """Links in `base` to files in the folder `contents`."""
    base.mkdir(parents=True)
    for number, name in enumerate(names):
        put(contents, f"h{number}")
        (base / name).symlink_to(os.path.relpath(contents / f"h{number}", base))
    return base


@pytest.mark.parametrize(
    ("where", "contents"),
    [
        ("links/snap", "links/blobs"),
        ("models--a--b/snapshots/0123/train", "models--a--b/blobs"),
        ("repo/photos", "repo/.dvc/cache/files/md5"),
        ("repo/photos/deep", "repo/.git/annex/objects"),
    ],
)
def test_links_into_the_contents_of_the_folders_own_repository_are_followed(tmp_path, where, contents):
    base = snapshot(tmp_path / where, tmp_path / contents, "1.png", "2.png")
    assert find_images(base).names == ["1.png", "2.png"]


def test_links_elsewhere_are_told_with_the_option_that_follows_them(tmp_path, capsys):
    """This said "no image among 3 files; known by their suffixes: .png"."""
    base = snapshot(tmp_path / "snap", tmp_path / "cache", "1.png", "2.png", "3.png")
    assert labelled(capsys, base) == (
        f"{base}: no image among 3 files: 1.png to {tmp_path}/cache/h0 and 2 more (a link that leads out of the folder); "
        f"--links-to {tmp_path}/cache follows such links"
    )
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/all").symlink_to(base)
    assert f"all to {base} (a linked folder that leads out of the folder); --links-to" in labelled(capsys, tmp_path / "photos")
    assert find_images(base, links_to=tmp_path / "cache").names == ["1.png", "2.png", "3.png"]
    assert find_images(tmp_path / "photos", links_to=tmp_path).names == ["all/1.png", "all/2.png", "all/3.png"]
    words = ["label", base, "--classes", tmp_path / "classes.txt", "--encoder", "embedded", "--out", tmp_path / "out", "--plan"]
    assert main([str(word) for word in (*words, "--links-to", tmp_path / "cache")]) == 0
    assert "3 images, 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.symlink_to("../.git/annex/objects/gone"), "a.png (not there: a link to a file that is missing)"),
        (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8"),
         "a.png (a pointer of Git LFS in place of the image; git lfs pull brings it)"),
        (lambda file: file.symlink_to(file.name), "a.png (not there: a link to a file that is missing)"),
        (lambda file: file.mkdir(), None),
        (lambda file: file.touch(), "a.png (empty: it has no byte)"),
    ],
)  # fmt: skip
def test_the_true_reason_is_told_where_suffixes_are_not_the_cause(tmp_path, capsys, make, message):
    (base := tmp_path / "base").mkdir()
    make(base / "a.png")
    told = labelled(capsys, base)
    if message:
        assert told == f"{base}: no image among 1 files: {message}"
    else:
        assert told.startswith(f"{base}: no image among 0 files; known by their suffixes: .avif .bmp .gif .heic .heif")


def test_a_circle_of_linked_folders_ends(tmp_path):
    base = put(tmp_path / "base", "1.png")
    put(tmp_path / "other", "2.png")
    (base / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(base)
    (tmp_path / "other/self").symlink_to(tmp_path / "other")
    found = find_images(base, links_to=tmp_path)
    assert found.names == ["1.png", "other/2.png"] and len(found.left_out) == 2
    paths, _ = folders.classes(base)
    assert [name for _, name in paths] == ["other"]


def test_a_class_file_says_nothing_twice(tmp_path, capsys):
    """YAML kept the last of two equal keys in silence."""
    base = put(tmp_path / "base", "1.png")
    for text, message in {
        "classes:\n  one: [a tail]\n  two:\n  one: [a loop]\n": "line 4: 'one' is given twice, first in line 2; leave one of them",
        "classes: [one]\ndomain: glyphs\nclasses: [two]\n": "line 3: 'classes' is given twice, first in line 1; leave one of them",
        "classes: {one: [a], 'one': [b]}\n": "line 1: 'one' is given twice, first in line 1; leave one of them",
        "template: a {}.\ntemplate: the {}.\nclasses: [one]\n": "line 2: 'template' is given twice, first in line 1; leave one of them",
        "classes: {7: [a], 7: [b]}\n": "line 1: 7 is given twice, first in line 1; leave one of them",
    }.items():
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        words = ["label", base, "--classes", tmp_path / "c.yaml", "--encoder", "embedded", "--out", tmp_path / "out", "--plan"]
        assert said(capsys, *words) == f"{tmp_path}/c.yaml: {message}"
    (tmp_path / "c.yaml").write_text("a: &a {x: 1}\nclasses:\n  <<: *a\n  x: 2\n", encoding="utf-8")
    assert said(capsys, *words) == f"{tmp_path}/c.yaml: unknown parameter 'a'", "what is merged may be given again"
