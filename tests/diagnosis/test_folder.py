"""From CSVs to the page: what is read, what is refused in words, and that nobody's text becomes markup."""

import csv
import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from browser import browser
from gta.__main__ import main
from gta.attributes import Bank
from gta.diagnosis import folder, predictors, report, slices
from gta.diagnosis.inputs import read_answers, read_truth, read_words
from gta.diagnosis.words import AVERAGED, label_texts, named_texts, text_features
from gta.encoders.images import Images
from gta.label.labelled import FACTS

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(predictors, "RESAMPLES", 2)
    monkeypatch.setattr(slices, "PERMUTATIONS", 199)


def put(tmp_path, text, name="p.csv", images=("a.png", "b.png", "ü.png")):
    for image in images:
        Image.new("RGB", (8, 8)).save(tmp_path / image)
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_the_answers_of_gta_label_and_the_truth_beside_them(tmp_path):
    answers = read_answers(put(tmp_path, "path,label,confidence,margin\na.png,one,0.9,0.75\nb.png,,0.5,0.1\nü.png,two  x,1,1\n"), tmp_path)
    assert answers.names == ["a.png", "ü.png"] and answers.labels == ["one", "two x"] and answers.truth == {}
    np.testing.assert_allclose(answers.doubt, [0.25, 0])
    truth = put(tmp_path, f"path,label\n{tmp_path / 'a.png'},three\nü.png,two x\n", "t.csv")
    assert read_truth(truth, answers, tmp_path) == {0: "three", 1: "two x"}


def test_any_labeller_with_the_truth_in_one_file(tmp_path):
    answers = read_answers(put(tmp_path, "image,label,prediction\na.png,one,two\nb.png,,one\n"), tmp_path)
    assert (answers.labels, answers.truth, answers.doubt) == (["two", "one"], {0: "one"}, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,x\n", "its first line is file,label; it needs path,label or image,label,prediction"),
        ("path,label\nc.png,x\n", "line 2: no image 'c.png' in .*; --images names the folder"),
        ("path,label,margin\na.png,x,1.5\n", "line 2: margin is '1.5', and must be from 0 to 1"),
        ("path,label,margin\na.png,x,high\n", "line 2: margin is 'high'"),
        ("path,label\na.png,\n", "no answer in it"),
    ],
)
def test_answers_that_cannot_be_are_refused_with_their_line(tmp_path, text, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        read_answers(put(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path\na.png\n", "no column label in its first line"),
        ("path,label\nb.png,x\n", "line 2: 'b.png' is not among the images that were labelled"),
        ("path,label\na.png,\n", "line 2: 'a.png' has no label"),
        ("path,label\na.png,x\na.png,y\n", "line 3: 'a.png' has two labels, 'x' and 'y'"),
        ("path,label\n", "no labelled image in it"),
    ],
)
def test_a_truth_that_cannot_be_is_refused_with_its_line(tmp_path, text, said):
    answers = read_answers(put(tmp_path, "path,label\na.png,x\n"), tmp_path)
    with pytest.raises(ValueError, match=said):
        read_truth(put(tmp_path, text, "t.csv"), answers, tmp_path)


def test_words_and_the_texts_that_say_them(tmp_path):
    assert read_words(put(tmp_path, "a red belly\n\n a  red belly \nsnow\n", "w.txt")) == ["a red belly", "snow"]
    with pytest.raises(ValueError, match="no words in it"):
        read_words(put(tmp_path, "\n", "w.txt"))
    bank = Bank.from_template([f"bird {i}" for i in range(20)], "a {}.", "a {name} with {attribute}").add(
        3, ["a hooked bill"], source="static"
    )
    texts = named_texts(bank.add(4, ["a hooked bill"], source="static"), ["snow"])
    assert list(texts)[:2] == ["bird 0", "bird 1"] and texts["bird 3"] == ["a bird 3."]
    assert list(texts)[20:] == ["a hooked bill", "snow"] and len(texts["snow"]) <= AVERAGED
    assert texts["a hooked bill"][:2] == ["a bird 0 with a hooked bill", "a bird 3 with a hooked bill"]
    assert named_texts(None, ["x", "y"]) == {"x": ["x"], "y": ["y"]}
    said = {"bird 3": ["a bird 3.", "a bird 3 with a hooked bill"], "a finch": ["a a finch."]}
    assert label_texts(bank, ["bird 3", "a finch"]) == said and label_texts(None, ["gull"]) == {"gull": ["gull"]}
    with pytest.raises(ValueError, match="'x' is the only text"):
        named_texts(None, ["x"])


def test_the_feature_of_a_name_is_the_direction_of_the_mean_of_its_texts():
    known = {"p": [1.0, 0], "q": [0.0, 1], "r": [-1.0, 0]}
    encoder = SimpleNamespace(encode_texts=lambda texts: torch.tensor([known[text] for text in texts]))
    np.testing.assert_allclose(text_features(encoder, {"both": ["p", "q"], "one": ["r"]}), [[0.5**0.5, 0.5**0.5], [-1, 0]], atol=1e-7)


@pytest.fixture
def made(tmp_path, quick, rng):
    """120 images near one or two of six texts; those like the hostile text fail. The truth of the first 80 is known."""
    n, names = 120, [HOSTILE, *(f"text {j}" for j in range(5))]
    shown = np.stack([rng.permutation(6)[:2] for _ in range(n)])
    features = 0.1 * rng.standard_normal((n, 6))
    np.put_along_axis(features, shown, 1.0, 1)
    fails = (shown == 0).any(1) ^ (rng.random(n) < 0.05)
    files = [tmp_path / f"{HOSTILE.replace('/', '')} {i}.png" for i in range(n)]
    truth = {i: "gull" if fails[i] else f"tern {HOSTILE}" for i in range(80)}
    answers = folder.Answers(files, [file.name for file in files], [f"tern {HOSTILE}"] * n, rng.random(n), truth)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8))
    said = np.zeros((n, 6))
    found = folder.diagnose(answers, Images.of_pixels(pixels), features, said, np.eye(6), names)
    return SimpleNamespace(fails=fails, shown=shown, found=found)


def test_the_failing_slice_is_told_of_checked_and_of_other_images(made):
    found = made.found
    assert [str(one) for one in found.told] == [f"like {HOSTILE}"]
    one = found.told[0]
    assert set(one.slice.members) <= set(range(80)) and set(one.rest) <= set(range(80, 120))
    assert (made.shown[one.rest] == 0).any(1).mean() > 0.7 and len(one.rest) >= 6
    order = [found.predicted.loss[row - 80] for row in one.rest]
    assert order == sorted(order, reverse=True)
    np.testing.assert_array_equal(found.wrong, made.fails[:80])


def test_every_image_has_its_line_the_likeliest_to_be_wrong_first(made):
    rows = list(csv.DictReader(report.lines(made.found).splitlines()))
    assert len(rows) == 120 and list(rows[0]) == list(report.COLUMNS)
    chances = [float(row["predicted_failure"]) for row in rows[:40]]
    assert chances == sorted(chances, reverse=True) and all(row["truth"] == "" for row in rows[:40])
    assert all(float(row["low"]) <= float(row["predicted_failure"]) <= float(row["high"]) for row in rows[:40])
    assert all(row["truth"] and row["low"] == "" for row in rows[40:])
    number = {f"{HOSTILE.replace('/', '')} {i}.png": i for i in range(120)}
    assert made.fails[[number[row["path"]] for row in rows[:8]]].mean() > 0.7
    inside = {number[row["path"]] for row in rows if row["slices"]}
    assert inside == {*made.found.told[0].slice.members.tolist(), *made.found.told[0].rest.tolist()}


def test_the_first_thing_on_the_page_is_what_to_do(made, tmp_path):
    steps = re.findall("<li>(.*?)</li>", report.page(made.found, tmp_path).partition("<nav>")[0])
    held = int(made.found.wrong[np.argsort(-made.found.checked, kind="stable")[:8]].sum())
    assert "Look at the images below, in their order" in steps[0] and f"{held} of 8 are wrong" in steps[0]
    told = f"Look at all {len(made.found.told[0].rest)} that are like <bdi>{html.escape(HOSTILE)}</bdi>"
    assert len(steps) == 2 and told in steps[1]


def test_where_the_labeller_doubts_better_the_page_says_to_sort_by_that(made, tmp_path):
    doubt = made.fails.astype(float)
    found = replace(made.found, answers=replace(made.found.answers, doubt=doubt))
    steps = re.findall("<li>(.*?)</li>", report.page(found, tmp_path).partition("<nav>")[0])
    assert "Sort the labels by the labeller's own margin or confidence" in steps[0] and "in their order" not in " ".join(steps)


def test_a_slice_beyond_the_labels_says_so(made, tmp_path):
    (one,) = made.found.told
    found = replace(made.found, slices=[replace(one, beyond=True)])
    assert str(found.told[0]) == f"more like {HOSTILE} than the label says"
    assert f"more like <bdi>{html.escape(HOSTILE)}</bdi> than their label says" in report.page(found, tmp_path)


def test_the_page_has_no_script_and_names_stay_text(made, tmp_path):
    text = report.page(made.found, tmp_path)
    assert "<script" not in text and html.escape(HOSTILE) in text and "default-src 'none'" in text
    assert "Of 120 labelled images the truth of 80 is known" in text
    assert all(link.startswith(("#", "%3Cscript%3E")) for link in re.findall(r'href="([^"]*)"', text))
    assert text.count("<img ") == text.count('src="data:image/')


@pytest.mark.slow
def test_in_a_browser_the_page_is_whole_and_loads_nothing(made, tmp_path):
    report.write(made.found, tmp_path)
    done = browser(tmp_path / "diagnosis.html", tmp_path / "profile", "--dump-dom")
    assert "How far to trust this" in done.stdout and "CONSOLE" not in done.stderr


def test_the_command_from_csv_to_page(tmp_path, quick, capsys, glyphs):
    """Glyphs, of which the sixes, eights and nines are told to be wrong: three tenths, which have closed loops in common."""
    images, classes = glyphs
    rows = []
    for i, (image, j) in enumerate(zip(images, classes.tolist(), strict=True)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'one' if i < 50 else ''},{'two' if j in (6, 8, 9) else 'one'}")
    (tmp_path / "p.csv").write_text("\n".join(["image,label,prediction", *rows]), encoding="utf-8")
    words = "\n".join(f"a character with {what}" for what in ("a closed loop at the top", "a pair of closed loops", "only straight lines"))
    (tmp_path / "w.txt").write_text(words, encoding="utf-8")
    given = [
        "diagnose",
        str(tmp_path),
        "--predictions",
        str(tmp_path / "p.csv"),
        "--encoder",
        "embedded",
        "--words",
        str(tmp_path / "w.txt"),
    ]
    assert main(given) == 0
    assert (tmp_path / "diagnosis.html").exists() and str(tmp_path / "diagnosis.csv") in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "diagnosis.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 60 and sum(row["truth"] == "" for row in rows) == 10


def test_a_labelled_folder_knows_where_its_images_lie(tmp_path):
    """Of what a run left, its own folder of images comes first, then where each image of a list lay; without that, the results' folder."""
    assert folder.known_places(tmp_path) == (tmp_path, {})
    out, photos, far = tmp_path / "out", tmp_path / "photos", tmp_path / "far"
    for made in (out / "state", photos, far):
        made.mkdir(parents=True)
    put(photos, "", images=("a.png",))
    put(far, "", images=("b.png",))
    (out / "predictions.csv").write_text("path,label\na.png,x\nb.png,y\n", encoding="utf-8")
    facts = {
        "options": {"images": str(photos), "encoder": "e"},
        "images": [["a.png", str(photos / "a.png")], ["b.png", str(far / "b.png")]],
    }
    (out / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    images, places = folder.known_places(out)
    answers = read_answers(out / "predictions.csv", images, places)
    assert answers.files == [photos / "a.png", far / "b.png"]
    truth = put(tmp_path, "path,label\nb.png,z\n", "t.csv", images=())
    assert read_truth(truth, answers, images) == {1: "z"}, "by the name that the results have"


def test_what_is_missing_is_said_with_what_to_do(tmp_path, capsys):
    put(tmp_path, "path,label\na.png,x\n", "predictions.csv")
    assert main(["diagnose", str(tmp_path)]) == 1
    assert "--labelled FILE, a CSV with the columns path,label" in capsys.readouterr().err
    truth = put(tmp_path, "path,label\na.png,x\n", "t.csv")
    assert main(["diagnose", str(tmp_path), "--labelled", str(truth)]) == 1
    assert "so no words name a slice; give some: --words FILE" in capsys.readouterr().err
    words = put(tmp_path, "x\ny\n", "w.txt")
    assert main(["diagnose", str(tmp_path), "--labelled", str(truth), "--words", str(words)]) == 1
    assert "name an encoder: --encoder ViT-B/16" in capsys.readouterr().err
