"""Images that share evidence: the pool against a naive loop, what rules put together, and what a run writes."""

import csv
import math
from datetime import datetime, timedelta

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gta.label.groups import EXIF, FRACTION, LEAST, TAKEN, Groups, groups_of, pool, taken
from gta.labels import SparseZ
from gta.worlds.glyphs import DIGITS
from labelling import label, rows


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=3, max_size=9))
def test_the_pool_is_the_normalised_geometric_mean(rows):
    rows = [(k, [v + 1e-3 for v in values]) for k, values in [(0, [1.0, 0, 0]), (1, [0, 1.0, 0]), (2, [0, 0, 1.0]), *rows]]
    z = torch.tensor([[v / sum(values) for v in values] for _, values in rows], dtype=torch.float64)
    found = pool(z, torch.tensor([k for k, _ in rows]), 3)
    for group in range(3):
        own = [row for (k, _), row in zip(rows, z.tolist(), strict=True) if k == group]
        means = [math.prod(max(row[j], LEAST) for row in own) ** (1 / len(own)) for j in range(3)]
        assert found[group].tolist() == pytest.approx([mean / sum(means) for mean in means], rel=1e-6)


def test_a_group_has_the_answer_of_the_product_and_the_confidence_of_one_image():
    """Two looks of 0.8, or twenty, are as sure as one; a product would say 0.94, and then 1."""
    z = torch.tensor([[0.8, 0.2]])
    for count in (1, 2, 20):
        torch.testing.assert_close(pool(z.expand(count, 2), torch.zeros(count, dtype=torch.long), 1), z.double())


def test_of_a_sparse_z_the_classes_that_are_not_held_share_the_rest():
    """A whole z of which each image has 3 entries of its own and 4 that are equal gives the same pool."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.stack([torch.randperm(7, generator=generator)[:3].sort().values for _ in range(20)])
    values, rest = torch.rand(20, 3, generator=generator), torch.rand(20, generator=generator)
    total = values.sum(1) + rest
    z = SparseZ(classes, values / total[:, None], rest / total, 7)
    whole = (z.rest / 4)[:, None].expand(20, 7).scatter(1, classes, z.values)
    numbers = torch.arange(20) % 3
    torch.testing.assert_close(pool(z, numbers, 3), pool(whole, numbers, 3))
    groups, names = Groups([f"g{number}" for number in numbers.tolist()]), [str(j) for j in range(7)]
    assert groups.rows(z, [True] * 20, names) == groups.rows(whole, [True] * 20, names)


def test_groups_are_pooled_in_parts(monkeypatch):
    z = torch.rand(30, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    groups, names = Groups([f"g{i % 7}" for i in range(30)]), list("abcde")
    expected = groups.rows(z, [True] * 30, names)
    monkeypatch.setattr("gta.label.groups.ENTRIES", 11)
    assert groups.rows(z, [True] * 30, names) == expected


def test_one_image_that_is_sure_of_nothing_else_does_not_outvote_the_others():
    z = torch.tensor([[0.0, 1.0], *[[1 - 1e-6, 1e-6]] * 4])
    assert int(pool(z, torch.zeros(5, dtype=torch.long), 1).argmax()) == 0


def test_columns_and_summary_say_what_a_group_says_and_who_agrees():
    z = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    groups = Groups(["g", "g", "", "lone"])
    columns = groups.columns(z, [True] * 4, ["one", "two"])
    assert [row[:2] for row in columns] == [("g", "one"), ("g", "one"), ("", ""), ("lone", "two")]
    root = [math.sqrt(0.9 * 0.4), math.sqrt(0.1 * 0.6)]
    assert columns[0][2] == f"{root[0] / sum(root):.4f}"
    lines = list(csv.reader(groups.summary(z, [True] * 4, ["one", "two"]).splitlines()))
    assert lines == [
        ["group", "label", "confidence", "runner_up", "images", "agree"],
        ["g", "one", columns[0][2], "two", "2", "1"],
        ["lone", "two", "0.7000", "one", "1", "1"],
    ]
    assert groups.columns(z, [False, True, True, False], ["one", "two"]) == [
        ("g", "two", "0.6000"),
        ("g", "two", "0.6000"),
        ("", "", ""),
        ("lone", "", ""),
    ]


def photo(file, seconds=None, fraction=""):
    """A picture that says when it was taken."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    if seconds is not None:
        moment = datetime(2026, 2, 28, 23, 59, 58) + timedelta(seconds=seconds)
        exif.get_ifd(EXIF).update({TAKEN: moment.strftime("%Y:%m:%d %H:%M:%S"), **({FRACTION: fraction} if fraction else {})})
    image.save(file, exif=exif)
    return file


def test_a_burst_is_what_one_folder_took_without_a_gap(tmp_path):
    given = {"b/3.jpg": 12, "b/1.jpg": 0, "b/2.jpg": 5, "a/4.jpg": 1, "b/5.jpg": 18, "b/none.jpg": None}
    paths = [photo(tmp_path / name, seconds) for name, seconds in given.items()]
    found = groups_of("burst", list(given), paths)
    assert found.names == ["b/3.jpg", "b/1.jpg", "b/1.jpg", "a/4.jpg", "b/5.jpg", ""]
    assert found.told == "1 images do not say when they were taken and are in no group"
    assert groups_of("burst:7", list(given), paths).names == ["b/1.jpg", "b/1.jpg", "b/1.jpg", "a/4.jpg", "b/1.jpg", ""]
    assert groups_of("burst:0", list(given), paths).names[:3] == ["b/3.jpg", "b/1.jpg", "b/2.jpg"]


def test_the_time_of_a_picture_has_its_fraction_and_may_be_missing(tmp_path):
    assert taken(photo(tmp_path / "b.jpg", 1, "25")) - taken(photo(tmp_path / "a.jpg", 0)) == pytest.approx(1.25)
    assert taken(photo(tmp_path / "c.jpg")) is None
    (tmp_path / "d.jpg").write_bytes(b"x")
    assert taken(tmp_path / "d.jpg") is None


def test_folders_names_and_a_file_say_groups_too(tmp_path):
    names = ["cam1/a_1.jpg", "cam1/a_2.jpg", "cam2/b_1.jpg", "lone.jpg"]
    assert groups_of("folder", names, []).names == ["cam1", "cam1", "cam2", "."]
    found = groups_of(r"name:(.*)_\d+", names, [])
    assert found.names == ["cam1/a", "cam1/a", "cam2/b", ""] and found.told == "1 images do not match it and are in no group"
    (tmp_path / "g.csv").write_text("\ufeffpath,group\ncam1/a_1.jpg,x\ncam2/b_1.jpg,x\ngone.jpg,y\n", encoding="utf-8")
    assert groups_of(str(tmp_path / "g.csv"), names, []).names == ["x", "", "x", ""]
    assert groups_of("folder", names, [], ["", "", "v.mp4", ""]).names == ["cam1", "cam1", "v.mp4", "."], "a video is one group"


@pytest.mark.parametrize(
    ("rule", "text", "message"),
    [
        ("bursts", None, "no such file, and none of burst, burst:SECONDS"),
        ("burst:x", None, "'x' is no number of seconds, as in burst:5"),
        ("burst:-1", None, "no number of seconds"),
        ("name:(", None, "no regular expression"),
        ("name:a", None, "no bracket says what the group is"),
        ("g.csv", "file,group\nx,y\n", "no column path"),
        ("g.csv", "path,group\na.jpg,x\na.jpg,y\n", "line 3: 'a.jpg' is in two groups, 'x' and 'y'"),
        ("g.csv", "path,group\nz.jpg,x\n", "none of its 1 paths is an image of the run, such as 'a.jpg'"),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused(tmp_path, monkeypatch, rule, text, message):
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / rule).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        groups_of(rule, ["a.jpg"], [tmp_path / "a.jpg"])


def test_a_run_leaves_each_image_its_own_z_and_tells_what_its_group_says(tmp_path, glyphs):
    for i, image in enumerate(glyphs[0][:24]):
        (tmp_path / f"images/cam{i % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"images/cam{i % 3}/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")

    def labelled(*more):
        assert label(tmp_path, *more) == 0
        return rows(tmp_path / "out/predictions.csv")

    plain = labelled()
    assert not (tmp_path / "out/groups.csv").exists() and "group" not in plain[0]
    grouped = labelled("--groups", "folder")
    assert [{name: row[name] for name in plain[0]} for row in grouped] == plain
    summary = {row["group"]: row for row in rows(tmp_path / "out/groups.csv")}
    assert summary.keys() == {"cam0", "cam1", "cam2"} and all(row["images"] == "8" for row in summary.values())
    assert all(row["group"] == row["path"][:4] and row["group_label"] == summary[row["group"]]["label"] for row in grouped)
    for name, row in summary.items():
        assert int(row["agree"]) == sum(image["label"] == row["label"] for image in grouped if image["group"] == name)
    labelled()
    assert not (tmp_path / "out/groups.csv").exists(), "of a rule that is not asked for any more"
