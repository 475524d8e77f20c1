"""The end of `gta label` on a full disk, and names that are one text to the encoder: what a user reads, and what is kept."""

import json

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gta.__main__ import main
from gta.worlds.glyphs import DIGITS
from labelling import label
from small import TINY, full_beyond

LONG = "a very long species name " * 20


@pytest.fixture
def home(tmp_path, glyphs):
    """30 glyphs with a class file, and a small model of open words."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(glyphs[0][:30]):
        Image.fromarray(image).save(tmp_path / f"images/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    (tmp_path / "tiny").mkdir()
    torch.manual_seed(0)
    (tmp_path / "tiny/open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}), encoding="utf-8")
    save_file(dict(open_clip.CLIP(**TINY).state_dict()), tmp_path / "tiny/open_clip_model.safetensors")
    return tmp_path


def test_a_full_disk_at_the_model_leaves_the_labels_and_says_so(home, capsys):
    assert label(home) == 0
    labels = (home / "out/predictions.csv").read_bytes()
    capsys.readouterr()
    with full_beyond(1_000_000):
        assert label(home, "--save-model") == 1
    said = capsys.readouterr().err
    assert "\nmodel cannot be written: " in said and "open_clip_model.safetensors: cannot be written: " in said
    assert "File too large" in said
    kept = "predictions.csv, left_out.csv, issues.csv, issue_summary.csv, attributes.json, report.html"
    assert f"Kept: {kept} in {home / 'out'}, and the run, from which the same command goes on\n" in said
    assert (home / "out/predictions.csv").read_bytes() == labels and not list((home / "out").glob(".model*"))
    assert label(home, "--save-model") == 0 and (home / "out/model/classifier.json").exists()


def test_a_disk_that_is_full_at_once_is_told_with_the_file(home, capsys):
    assert label(home) == 0
    (home / "out/predictions.csv").unlink()
    with full_beyond(600):
        assert label(home) == 1
    said = capsys.readouterr().err
    assert f"predictions.csv cannot be written: [Errno 27] File too large: '{home / 'out/predictions.csv'}'. Kept: no other result" in said


def test_what_lies_in_the_place_of_the_model_is_told_after_the_labels(home, capsys):
    (home / "out/model").mkdir(parents=True)
    (home / "out/model/thesis.txt").write_text("x", encoding="utf-8")
    assert label(home, "--save-model") == 1
    assert (
        "model exists and is no model of this program; name another folder, or move it away. Kept: predictions.csv"
        in capsys.readouterr().err
    )
    assert (home / "out/predictions.csv").exists() and (home / "out/model/thesis.txt").exists()


def test_labels_that_cannot_be_written_are_printed(home, capsys):
    assert label(home, "--save-model") == 0
    capsys.readouterr()
    (home / "file").write_bytes(b"")
    assert main(["predict", str(home / "out/model"), str(home / "images"), "--out", str(home / "file/p.csv")]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 31 and "cannot be written: " in said.err and "The labels are printed instead" in said.err


@pytest.mark.parametrize(
    ("damaged", "said"), [("open_clip_model.safetensors", "damaged or cut off: "), ("tokenizer.json", "no tokenizer in it")]
)
def test_a_model_with_a_damaged_file_is_told_by_the_files_name(home, capsys, damaged, said):
    assert label(home, "--save-model") == 0
    file = home / "out/model" / damaged
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    capsys.readouterr()
    assert main(["predict", str(home / "out/model"), str(home / "images")]) == 1
    error = capsys.readouterr().err
    assert str(file) in error and said in error
    assert main(["predict", str(file), str(home / "images")]) == 1
    assert f"{file}: a file; a model is a folder, such as OUT/model of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            [f"{LONG}male", f"{LONG}female"],
            "classes that are one text to the encoder, which reads the first 77 tokens; give them names that differ early\n"
            "  1 'a very long species name ... pecies name male' and 2 'a very long species name ... pecies name female'\n",
        ),
        (
            ["heron", f"crane {LONG}", "ibis", f"crane {LONG} (bird)"],
            "2 'crane a very long specie ... species name' and 4 'crane a very long specie ... species name (bird)'",
        ),
        (
            ["crane&amp;co", "crane&co"],
            "classes that are one text to the encoder; give them names that differ early\n  1 'crane&amp;co' and 2 'crane&co'",
        ),
    ],
)
@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_names_that_become_one_text_are_refused_with_both(home, capsys, names, said, more):
    (home / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    assert label(home, *more, encoder=home / "tiny") == 1
    assert said in capsys.readouterr().err and not (home / "out").exists()


def test_a_name_that_is_cut_and_still_differs_is_told(home, capsys):
    (home / "classes.txt").write_text(f"heron\ncrane {LONG}", encoding="utf-8")
    assert label(home, encoder=home / "tiny") == 0
    said = capsys.readouterr().err
    assert "class 2, 'crane a very long specie ... species name': the encoder reads no further than '" in said
