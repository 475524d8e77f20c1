"""What users hand over: folders with anything in them, class files, labelled examples."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.label.inputs import Classes, alike, find_images, printable, read_classes, read_labelled

NAMES = ["a\nnewline.png", "quo\"te's.jpg", "<script>alert(1)<.png", "\u202efdp.png", "x" * 200 + ".png", "=cmd().webp", " .png"]


@pytest.fixture
def folder(tmp_path):
    """Nine images among everything else, no two of which find_images may confuse."""
    base = tmp_path / "base"
    deep = base.joinpath(*["d" * 50] * 7)
    deep.mkdir(parents=True)
    for place in [*(base / name for name in NAMES), deep / "deep.PNG", base / os.fsdecode(b"\xff.png")]:
        place.write_bytes(b"x")
    (base / ".hidden").mkdir()
    for name in ("notes.txt", ".hidden.png", ".hidden/in.png"):
        (base / name).write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/o.png").write_bytes(b"x")
    (base / "out.png").symlink_to(tmp_path / "outside/o.png")
    (base / "outside").symlink_to(tmp_path / "outside")
    (base / "gone.png").symlink_to("/nowhere")
    (base / "loop").symlink_to(base)
    os.mkfifo(base / "pipe.png")
    return base


def test_a_folder_gives_every_image_of_its_own_and_a_reason_for_every_other_file(folder):
    found = find_images(folder)
    assert sorted(found.names) == sorted([*NAMES, "/".join(["d" * 50] * 7) + "/deep.PNG", "\\xff.png"])
    assert [printable(path.relative_to(folder)) for path in found.paths] == found.names
    reasons = dict(found.left_out)
    assert reasons["notes.txt"] == ".txt: no image by its name"
    assert reasons[".hidden.png"] == reasons[".hidden"] == "hidden"
    assert reasons["out.png"] == "a link that leads out of the folder"
    assert reasons["outside"] == "a linked folder that leads out of the folder"
    assert reasons["loop"] == "a linked folder, whose images are found where they are"
    assert reasons["pipe.png"] == "no regular file" and reasons["gone.png"].startswith("not there")
    assert len(reasons) == len(found.left_out) == 8


def test_a_link_to_an_image_of_the_folder_is_one_of_its_images(folder):
    (folder / "again.png").symlink_to(folder / " .png")
    assert "again.png" in find_images(folder).names


@pytest.mark.parametrize("between", ["\n", "\r\n", "\0"])
def test_a_list_gives_the_files_that_it_names_once(folder, between):
    names = ["=cmd().webp", "<script>alert(1)<.png", "=cmd().webp", "no.png"] + (["a\nnewline.png"] if between == "\0" else [])
    (folder / "list.txt").write_text(between.join(names) + between, newline="", encoding="utf-8")
    found = find_images(folder / "list.txt")
    assert found.names == [name for name in dict.fromkeys(names) if name != "no.png"]
    assert [name for name, _ in found.left_out] == ["no.png"]


def test_a_file_without_a_byte_is_left_out(folder):
    (folder / "zero.png").write_bytes(b"")
    assert dict(find_images(folder).left_out)["zero.png"] == "empty: it has no byte"


def test_the_folder_of_results_is_passed_over(folder):
    (folder / "out/state").mkdir(parents=True)
    (folder / "out/state/x.png").write_bytes(b"x")
    assert find_images(folder, besides=folder / "out") != find_images(folder)
    assert find_images(folder, besides=folder / "out").names == [name for name in find_images(folder).names if name != "out/state/x.png"]


def test_one_image_is_a_list_of_one(folder):
    assert find_images(folder / " .png").names == [" .png"]


def test_nothing_to_label_is_an_error_that_says_what_was_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder"):
        find_images(tmp_path / "gone")
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    told = r"no image among 1 files: a\.txt \(\.txt: no image by its name\); known by their suffixes: \.avif"
    with pytest.raises(ValueError, match=told):
        find_images(tmp_path)


def classes(tmp_path, text, name="classes.txt"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_classes(tmp_path / name)


def test_names_stand_one_a_line_whatever_wrote_them(tmp_path):
    assert classes(tmp_path, "\ufeffcrane (bird)\r\n\r\n  NA \r\n007\r\n#1\n<b>\u202e").names == (
        "crane (bird)",
        "NA",
        "007",
        "#1",
        "<b>\u202e",
    )
    assert len(classes(tmp_path, "\n".join(f"kind {i}" for i in range(5000))).names) == 5000


def test_yaml_gives_template_domain_and_attributes(tmp_path):
    text = "classes: {crane: [a long neck, a red crown], heron: }\ntemplate: a {}.\ndomain: birds\n"
    expected = Classes(names=("crane", "heron"), template="a {}.", domain="birds", attributes={"crane": ("a long neck", "a red crown")})
    assert classes(tmp_path, text, "c.yaml") == expected
    assert classes(tmp_path, "[crane, heron]", "c.yml").names == ("crane", "heron")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "crane\nheron\nCrane", "classes 1 and 3 are both 'Crane'"),
        ("c.txt", "\n \n", "c.txt: no class name in it"),
        ("c.txt", "cr\u00e8che\nCre\u0300che", "classes 1 and 2 are both"),
        ("c.txt", "a\0b", "class 1 is 'a.x00b', which holds a control character"),
        ("c.txt", b"cr\xe4ne", "not UTF-8 text"),
        ("c.yaml", "[no, yes]", "class 1 is False, which YAML reads as bool; put quotes around it"),
        ("c.yaml", "[heron, 7]", "class 2 is 7"),
        ("c.yaml", "[heron, '']", "class 2 has an empty name"),
        ("c.yaml", '["\\ud800"]', "half a character"),
        ("c.yaml", "classes: [heron]\ntemplat: x", "unknown parameter 'templat'; did you mean 'template'"),
        ("c.yaml", "classes: [heron]\nattributes: {}", "attributes stand under the name of their class"),
        ("c.yaml", "classes: {heron: grey}", "attributes.heron: Input should be a valid tuple"),
        ("c.yaml", "classes: heron", "neither a list of names nor a mapping"),
        ("c.yaml", "just text", "a list of class names is needed"),
        ("c.yaml", "[a", "while parsing"),
        ("c.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_a_bad_class_file_is_refused_with_its_name_and_the_mend(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        classes(tmp_path, text, name)
    assert name in str(caught.value)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1), unique_by=alike, min_size=1))
def test_any_names_that_differ_are_kept_as_they_are(names):
    assert Classes(names=tuple(names)).names == tuple(names)


def labelled(folder, text, names=("crane", "heron")):
    (folder / "l.csv").write_text(text, encoding="utf-8")
    return read_labelled(folder / "l.csv", folder, names)


def test_labelled_examples_are_paths_and_class_numbers(folder):
    paths, labels = labelled(
        folder, f'\ufeffpath,who,label\n =,x,y\n"a\nnewline.png",x,heron\n{folder}/ .png,y,crane\n'.replace(" =,x,y\n", "")
    )
    assert paths == [folder / "a\nnewline.png", folder / " .png"] and labels == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nx,crane\n", "no column path"),
        ("path,label\n .png,crain\n", "line 2: no class 'crain'; did you mean 'crane'"),
        ("path,label\ngone.png,crane\n", "line 2: no image 'gone.png'"),
        ("path,label\n .png,crane\n .png,heron\n", "line 3: ' .png' has two labels, 'crane' and 'heron'"),
        ("path,label\n .png,crane\n./ .png,heron\n", "line 3: './ .png' has two labels"),
        ("path,label\n" + "x" * 200_000 + ",crane\n", "no CSV: field larger"),
        ("path,label\n", "no labelled image"),
    ],
)
def test_a_bad_line_of_labels_is_named(folder, text, message):
    with pytest.raises(ValueError, match=message):
        labelled(folder, text)
