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
    found = short_texts.read(tmp_path)
    assert found.class_names == ("fish", "sea birds") and found.ids == ("fish/x.txt", "sea_birds/a.txt", "sea_birds/b.txt")
    assert found.texts == ("a cod", "a tern", "gulls fly")
    assert tasks.query_labels(f"texts:{tmp_path}").tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("texts", "said"),
    [({}, "no text; put one .txt file"), ({"a__x": " \n"}, "x.txt: an empty text"), ({"a__x": b"\xff\xfe"}, "x.txt: no UTF-8 text")],
)
def test_what_cannot_be_read_is_named(tmp_path, texts, said):
    write(tmp_path, **texts)
    with pytest.raises(ValueError, match=said):
        short_texts.read(tmp_path)
