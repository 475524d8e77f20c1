"""A folder of short texts: what is read, in which order, and what is refused."""

import pytest

from gta.data import short_texts, tasks


def write(folder, **texts):
    for name, text in texts.items():
        topic, _, item = name.partition("__")
        file = folder / topic / f"{item}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_a_folder_is_read_class_by_class_in_one_line_a_text(tmp_path):
    write(tmp_path, sea_birds__b="gulls\n  fly", sea_birds__a="a tern", fish__x="a cod\n")
    (tmp_path / "notes.txt").write_text("of no class", encoding="utf-8")
    found = short_texts.read(str(tmp_path))
    assert found.class_names == ("fish", "sea birds") and found.ids == ("fish/x.txt", "sea_birds/a.txt", "sea_birds/b.txt")
    assert found.texts == ("a cod", "a tern", "gulls fly")
    assert tasks.query_labels(f"texts:{tmp_path}").tolist() == [0, 1, 1]


def test_a_draw_is_a_part_with_its_labels_and_all_class_names(tmp_path):
    write(tmp_path, **{f"{topic}__{i}": f"{topic} {i}" for topic in ("birds", "fish") for i in range(6)})
    drawn = [short_texts.read(f"{tmp_path}#small-7-{seed}") for seed in (0, 0, 1)]
    whole = short_texts.read(str(tmp_path))
    assert drawn[0] == drawn[1] and drawn[0].ids != drawn[2].ids and all(len(of.ids) == 7 for of in drawn)
    for seed, of in zip((0, 0, 1), drawn, strict=True):
        assert of.class_names == ("birds", "fish") and set(of.ids) < set(whole.ids)
        assert [of.class_names[j] for j in tasks.query_labels(f"texts:{tmp_path}#small-7-{seed}")] == [text.split()[0] for text in of.texts]
    with pytest.raises(ValueError, match="13"):
        short_texts.read(f"{tmp_path}#small-13-0")


@pytest.mark.parametrize(
    ("texts", "said"),
    [({}, "no text; put one .txt file"), ({"a__x": " \n"}, "x.txt: an empty text"), ({"a__x": b"\xff\xfe"}, "x.txt: no UTF-8 text")],
)
def test_what_cannot_be_read_is_named(tmp_path, texts, said):
    write(tmp_path, **texts)
    with pytest.raises(ValueError, match=said):
        short_texts.read(str(tmp_path))
