"""`python -m gta encode`: features ahead of `label`, which then encodes nothing."""

import csv

from PIL import Image

from gta.__main__ import main
from gta.files import load_tensors
from small import counted


def test_label_finds_what_encode_left(glyphs, tmp_path, monkeypatch, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, glyph in enumerate(glyphs[0][:12]):
        Image.fromarray(glyph).save(pictures / f"{number}.png")
    (pictures / "broken.png").write_bytes(b"no image")
    (tmp_path / "classes.txt").write_text("zero\none\n", encoding="utf-8")
    out = tmp_path / "out"
    assert main(["encode", str(pictures), "--encoder", "embedded", "--out", str(out)]) == 0
    assert "12 images have features of" in (told := capsys.readouterr().out) and "1 files have none" in told
    with open(out / "images.csv", newline="", encoding="utf-8") as stream:
        keys = {row["path"]: bytes.fromhex(row["key"]) for row in csv.DictReader(stream)}
    (shard,) = out.glob("embeddings/*/*.safetensors")
    assert {bytes(key) for key in load_tensors(shard)["keys"].numpy()} == set(keys.values()) and len(keys) == 12
    calls = counted(monkeypatch)
    options = ["--classes", str(tmp_path / "classes.txt"), "--encoder", "embedded", "--out", str(out), "--iterations", "1"]
    assert main(["label", str(pictures), *options]) == 0
    assert calls == [], "all features were there"
