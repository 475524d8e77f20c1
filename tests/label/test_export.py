"""`python -m gta export`: what each form says, names that are no folders, nothing overwritten, kills; read back by other tools' code."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

import labelling
from gta.__main__ import main
from gta.files import ROOT
from gta.label import export

CLASSES = ["crane (bird)", "AUX", "a/b: <c>", 'quo"te & <co>', "Ærø."]
HEAD = "path,label,confidence,runner_up,margin,clip,unfitness\n"
# (path, the model's label, the reviewer's answer)
IMAGES = [
    ("a.png", "crane (bird)", ""),
    ("deep/a.png", "AUX", "crane (bird)"),
    ("A.png", "crane (bird)", ""),
    ("deep/nul.jpg", "AUX", ""),
    ("x#y ?&z.png", "a/b: <c>", ""),
    ("\\xff.png", 'quo"te & <co>', ""),
    ("none.png", "AUX", "(none)"),
    ("later.png", "", "Ærø."),
    ("rejected.png", "", ""),
]
FINAL = {path: "" if said == "(none)" else said or label for path, label, said in IMAGES}


@pytest.fixture
def home(tmp_path):
    """A labelled and partly reviewed folder `out`, as `label` and `review` leave it, of nine images in `images`."""
    for i, (path, _, _) in enumerate(IMAGES):
        file = tmp_path / "images" / (os.fsdecode(b"\xff.png") if path.startswith("\\") else path)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(file)
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    rows = [[path, label, "0.9000", "Ærø.", "0.8500", label, "0.3"] for path, label, _ in IMAGES]
    (out / "predictions.csv").write_text(HEAD + written(rows), encoding="utf-8")
    answers = [[path, said, "ada", f"2026-01-01T00:00:{i:02d}+00:00", "random"] for i, (path, _, said) in enumerate(IMAGES) if said]
    answers = [["a.png", "AUX", "ada", "2025-01-01", "random"], ["a.png", "", "ada", "2025-01-02", "random"], *answers]  # one taken back
    (out / "reviews.csv").write_text("path,label,reviewer,time,chosen_by\n" + written(answers), encoding="utf-8")
    (out / "left_out.csv").write_text("path,reason\ntorn.png,truncated\nnotes.txt,no image by its name\n", encoding="utf-8")
    images = [
        [path, str(tmp_path / "images" / os.fsdecode(path.replace("\\xff", "\udcff").encode("utf-8", "surrogateescape")))]
        for path, _, _ in IMAGES
    ]
    facts = {"options": {"images": str(tmp_path / "images"), "encoder": "ViT-B/16"}, "images": images, "class_names": CLASSES}
    (out / "state/review.json").write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path


def written(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def exported(home, to, *more):
    assert main(["export", str(home / "out"), "--to", to, "--out", str(home / to), *map(str, more)]) == 0
    return home / to


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_reviewed_labels_win_and_are_marked(home, capsys):
    rows = {row["path"]: row for row in labelling.rows(exported(home, "csv") / "labels.csv")}
    assert {path: row["label"] for path, row in rows.items()} == FINAL
    assert {path: row["predicted"] for path, row in rows.items()} == {path: label for path, label, _ in IMAGES}
    assert {path: row["reviewed"] for path, row in rows.items()} == {path: said for path, _, said in IMAGES}
    assert rows["deep/a.png"]["reviewer"] == "ada" and rows["a.png"]["reviewer"] == "" and rows["a.png"]["confidence"] == "0.9000"
    assert "9 images, 3 of them reviewed, 2 without a label" in capsys.readouterr().out


def test_a_parquet_file_has_types_and_says_what_its_classes_are(home):
    table = pq.read_table(exported(home, "parquet") / "labels.parquet")
    assert table["label"].to_pylist() == [FINAL[path] or None for path, _, _ in IMAGES]
    types = {name: str(table.schema.field(name).type) for name in ("path", "label", "confidence", "margin")}
    expected = {"path": "string", "label": "dictionary<values=string, indices=int32, ordered=0>", "confidence": "float", "margin": "float"}
    assert types == expected
    assert json.loads(table.schema.metadata[b"gta"]) == {"classes": CLASSES, "made by": "gta ViT-B/16"}


def test_label_studio_gets_predictions_and_the_reviewers_annotations(home):
    folder = exported(home, "labelstudio")
    tasks = json.loads((folder / "tasks.json").read_bytes())
    config = ET.parse(folder / "config.xml").getroot()
    assert [choice.get("value") for choice in config.iter("Choice")] == CLASSES
    for task, (path, label, said) in zip(tasks, IMAGES, strict=True):
        (d,) = parse_qs(urlsplit(task["data"]["image"]).query, encoding="utf-8", errors="surrogateescape")["d"]
        assert urlsplit(task["data"]["image"]).path == "/data/local-files/" and (home / d).is_file(), path
        assert [p["result"][0]["value"]["choices"] for p in task["predictions"]] == ([[label]] if label else [])
        assert all(p["score"] == 0.9 and p["model_version"].startswith("gta") for p in task["predictions"])
        assert len(task["annotations"]) == bool(said) and task["data"].get("reviewed", "") == said
        assert all((r["from_name"], r["to_name"]) == ("label", "image") for a in task["annotations"] for r in a["result"])
    other = json.loads(
        (exported(home, "labelstudio", "--url", "https://host/i/", "--out", home / "other") and home / "other/tasks.json").read_bytes()
    )
    assert other[4]["data"]["image"] == "https://host/i/x%23y%20%3F%26z.png"


@pytest.mark.parametrize("media", [None, "--copy", "--link"])
def test_fiftyone_finds_each_image_by_its_key_whatever_its_suffix(home, media):
    folder = exported(home, "fiftyone", *([media] if media else []))
    told = json.loads((folder / "labels.json").read_bytes())
    if media:
        places = {file.stem: file for file in (folder / "data").iterdir()}
        assert all(file.is_symlink() == (media == "--link") for file in places.values()) and not (folder / "data.json").exists()
    else:
        places = {Path(name).stem: Path(file) for name, file in json.loads((folder / "data.json").read_bytes()).items()}
        assert not (folder / "data").exists()
    assert places.keys() == told["labels"].keys() and len(places) == len(IMAGES)
    for i, (key, label) in enumerate(told["labels"].items()):
        path, predicted, said = IMAGES[i]
        assert Image.open(places[key]).getpixel((0, 0))[0] == pytest.approx(20 * i, abs=3), "the image is the one that the label is of"
        assert (told["classes"][label["label"]] if label else "") == FINAL[path]
        assert label is None or (label["confidence"], label["attributes"]["predicted"]) == (1.0 if said else 0.9, predicted)


@pytest.mark.parametrize("media", ["--copy", "--link"])
def test_torchvision_reads_a_folder_a_class_under_any_name(home, media):
    folder = exported(home, "imagefolder", media)
    found = ImageFolder(folder)
    index = {row["file"]: row for row in labelling.rows(folder / "index.csv")}
    assert len(found) == sum(map(bool, FINAL.values())) == 7
    for file, number in found.samples:
        row = index[Path(file).relative_to(folder).as_posix()]
        i = [path for path, _, _ in IMAGES].index(row["path"])
        assert FINAL[row["path"]] == row["label"] and Path(file).parent.name == found.classes[number]
        assert Image.open(file).getpixel((0, 0))[0] == pytest.approx(20 * i, abs=3) and Path(file).is_symlink() == (media == "--link")
    assert {row["path"] for row in index.values() if row["label"]} == {path for path, label in FINAL.items() if label}


def test_without_images_a_listing_is_all(home, capsys):
    assert list(content(exported(home, "imagefolder"))) == ["index.csv"]
    assert "--copy or --link makes the folders" in capsys.readouterr().out


def test_megadetectors_form_tells_classes_failures_and_that_nothing_was_detected(home):
    told = json.loads((exported(home, "megadetector") / "megadetector.json").read_bytes())
    names = told["classification_categories"]
    images = {image["file"]: image for image in told["images"]}
    for path, _, said in IMAGES:
        boxes = images[path]["detections"]
        assert [names[box["classifications"][0][0]] for box in boxes] == ([FINAL[path]] if FINAL[path] else [])
        for box in boxes:
            assert box["bbox"] == [0, 0, 1, 1] and box["conf"] == box["classifications"][0][1] == (1.0 if said else 0.9)
            assert said or [(names[k], round(c, 6)) for k, c in box["classifications"][1:]] == [("Ærø.", 0.05)]
    assert images["torn.png"] == {"file": "torn.png", "detections": None, "failure": "truncated"} and "notes.txt" not in images
    assert told["detection_categories"] == {"1": "whole image"}


def test_the_same_export_again_is_fine_and_another_is_refused_by_file(home, capsys):
    folder = exported(home, "imagefolder", "--copy")
    before = {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.rglob("*")}
    exported(home, "imagefolder", "--copy")
    assert {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.rglob("*")} == before
    words = ["export", str(home / "out"), "--to", "imagefolder", "--out", str(folder)]
    assert main([*words, "--link"]) == 1 and "another content; nothing is overwritten; name another --out" in capsys.readouterr().err
    (folder / "mine.txt").write_text("x", encoding="utf-8")
    assert main([*words, "--copy"]) == 1 and f"{folder / 'mine.txt'}: no part of this export" in capsys.readouterr().err
    (folder / "mine.txt").unlink()
    (folder / "index.csv").write_text("x", encoding="utf-8")
    assert main([*words, "--copy"]) == 1 and f"{folder / 'index.csv'}: another content" in capsys.readouterr().err
    assert (folder / "index.csv").read_text(encoding="utf-8") == "x" and sorted(home.glob(".*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "csv", "--copy"], "--copy: the form csv holds no images; it is for imagefolder and fiftyone"),
        (["--to", "csv", "--url", "x"], "--url is for labelstudio"),
        (["--to", "csv", "--out", "{home}/labels.csv"], "an export is a folder; name one without .csv"),
        (["--to", "imagefolder", "--copy", "--out", "{home}/images/sorted"], "where the next run would label it too"),
        (["--to", "imagefolder", "--copy", "--images", "{home}/out"], "no image 'a.png' in .*; --images FOLDER says where they lie"),
        (["--to", "imagefolder", "--copy", "--images", "{home}/gone"], "gone: no such folder"),
    ],
)
def test_what_cannot_be_right_is_refused_and_nothing_is_written(home, capsys, words, message):
    before = sorted(home.rglob("*"))
    out = [] if "--out" in words else ["--out", f"{home}/new"]
    assert main(["export", str(home / "out"), *(word.format(home=home) for word in words), *out]) == 1
    assert re.search(message, capsys.readouterr().err) and sorted(home.rglob("*")) == before


def test_a_folder_that_was_not_labelled_is_told(home, capsys):
    assert main(["export", str(home / "images"), "--to", "csv", "--out", str(home / "new")]) == 1
    assert "predictions.csv: not there; `python -m gta label" in capsys.readouterr().err


def test_images_may_have_moved(home):
    (home / "images").rename(home / "moved")
    folder = exported(home, "imagefolder", "--copy", "--images", home / "moved")
    assert len(ImageFolder(folder)) == 7


def test_an_interrupted_export_leaves_nothing_and_goes_on(home, monkeypatch):
    whole = content(exported(home, "imagefolder", "--copy", "--out", home / "whole") and home / "whole")
    true_copy, copied = export.shutil.copy2, []

    def breaks(source, target):
        if len(copied) == 3:
            Path(target).write_bytes(b"half")
            raise KeyboardInterrupt
        copied.append(target)
        true_copy(source, target)

    monkeypatch.setattr(export.shutil, "copy2", breaks)
    words = ["export", str(home / "out"), "--to", "imagefolder", "--copy", "--out", str(home / "new")]
    assert main(words) == 130 and not (home / "new").exists()
    monkeypatch.setattr(export.shutil, "copy2", lambda *of: (copied.append(of[1]), true_copy(*of)))
    assert main(words) == 0
    assert content(home / "new") == whole and len(copied) == 7, "three before the interruption are not copied again"
    assert sorted(home.glob(".*")) == []


@pytest.mark.slow
def test_kills_of_an_export_leave_all_or_nothing(home):
    """SIGKILL at 12 moments of a copy of 400 images; each time the folder is absent, at the end whole."""
    data = (home / "images/a.png").read_bytes() + b"\0" * 200_000
    rows = []
    for i in range(400):
        (home / f"images/{i}.png").write_bytes(data + str(i).encode())
        rows.append([f"{i}.png", CLASSES[i % 5], "0.9", "", "0.9", CLASSES[0], "0.1"])
    (home / "out/predictions.csv").write_text(HEAD + written(rows), encoding="utf-8")
    (home / "out/reviews.csv").unlink()
    words = [
        sys.executable,
        "-m",
        "gta",
        "export",
        str(home / "out"),
        "--to",
        "imagefolder",
        "--copy",
        "--out",
        str(home / "new"),
        "--images",
        str(home / "images"),
    ]
    part, killed = home / ".new.part", 0
    for kill in range(12):
        process = subprocess.Popen(words, cwd=ROOT)
        while process.poll() is None and len(list(part.rglob("*.png"))) < 30 * (kill + 1):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
            process.wait()
            assert not (home / "new").exists()
    assert killed >= 6
    assert subprocess.run(words, cwd=ROOT).returncode == 0
    found = content(home / "new")
    assert len(found) == 401 and not part.exists()
    for row in labelling.rows(home / "new/index.csv"):
        assert found[row["file"]] == (home / "images" / row["path"]).read_bytes()


# Of label-studio-sdk and megadetector what the environment of the tests lacks; all that they depend on would be 500 MB.
PACKAGES = ["label-studio-sdk", "xmljson", "jsf", "faker", "rstr", "lxml", "PyJWT", "cryptography", "appdirs"]
PACKAGES += ["megadetector", "opencv-python-headless", "jsonpickle"]
FOREIGN = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
from megadetector.postprocessing.validate_batch_results import ValidateBatchResultsOptions, validate_batch_results
home, told = sys.argv[1], {}
interface = LabelInterface(open(f"{home}/labelstudio/config.xml", encoding="utf-8").read())
interface.validate()
tasks = json.load(open(f"{home}/labelstudio/tasks.json", encoding="utf-8"))
told["tasks"] = [interface.validate_task({"data": task["data"]}) for task in tasks]
told["predictions"] = [interface.validate_prediction(p, return_errors=True) for task in tasks for p in task["predictions"]]
told["annotations"] = [interface.validate_annotation(a) for task in tasks for a in task["annotations"] if a["result"]]
unknown = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["x"]}}
told["wrong"] = interface.validate_prediction({"result": [unknown]}, return_errors=True)
told["choices"] = list(interface.get_control("label").labels)
options = ValidateBatchResultsOptions()
options.raise_errors = options.return_data = True
read = validate_batch_results(f"{home}/megadetector/megadetector.json", options)
told["images"], told["found"] = len(read["images"]), read["validation_results"]
print(json.dumps(told))
"""


@pytest.mark.slow
def test_other_tools_read_what_is_for_them(home, tmp_path_factory):
    """The checks of label-studio-sdk and MegaDetector, installed from the index into a folder of their own; torchvision and pyarrow, the
    other two, are above."""
    site = tmp_path_factory.mktemp("foreign")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *PACKAGES], check=True)
    exported(home, "labelstudio"), exported(home, "megadetector")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", FOREIGN, str(home)], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["tasks"] and all(told["tasks"]) and told["choices"] == CLASSES
    assert told["predictions"] == [[]] * 7 and told["annotations"] == [True] * 2 and told["wrong"]
    assert told["images"] == len(IMAGES) + 1 and told["found"]["errors"] == told["found"]["warnings"] == []
