"""The notebook `label_your_images` leaves what the command leaves: a review goes on from its folder."""

import subprocess
import sys

import pytest
from PIL import Image

from gta.files import ROOT
from gta.worlds.glyphs import DIGITS
from labelling import command, label, rows

NOTEBOOK = ROOT / "notebooks/label_your_images.ipynb"


@pytest.mark.slow
def test_a_review_goes_on_from_what_the_notebook_left(tmp_path, glyphs):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(glyphs[0][:40]):
        Image.fromarray(image).save(tmp_path / f"images/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    given = {"images": "images", "classes": "classes.txt", "out": "out"}
    words = [word for name, file in given.items() for word in ("-p", name, str(tmp_path / file))]
    words += ["-p", "llm", "none", "-p", "iterations", "1", "-p", "device", "cpu"]
    papermill = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(tmp_path / "out.ipynb"), *words, "--no-progress-bar"]
    done = subprocess.run(papermill, capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    before = rows(tmp_path / "out/predictions.csv")

    assert label(tmp_path, "--device", "cpu", out="command") == 0
    left, wanted = ({file.name for file in (tmp_path / out / "state").glob("review.*")} for out in ("out", "command"))
    assert left == wanted == {"review.json", "review.safetensors"}

    assert command("review", tmp_path / "out", "--images", 6, "--file") == 0
    said = {row["path"]: DIGITS[int(row["path"][:2]) % 10] for row in rows(tmp_path / "out/round.csv")}
    (tmp_path / "said.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in said.items()), encoding="utf-8")
    assert command("review", tmp_path / "out", "--read", tmp_path / "said.csv") == 0
    after = rows(tmp_path / "out/predictions.csv")
    assert [row["path"] for row in after] == [row["path"] for row in before] and len(said) == 6
    assert {row["path"]: row["label"] for row in rows(tmp_path / "out/reviews.csv")} == said
