"""`gta label --view`: the labels of two views, what is kept of the second one, and what `predict` does with it."""

import csv
import json
import math
import shutil

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gta import encoders, loop
from gta.__main__ import main
from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.label import models
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for
from gta.worlds.views import GlyphView
from labelling import label, rows
from small import counted

PATHS = [f"deep/{i:02d}.png" for i in range(40)]


@pytest.fixture
def home(tmp_path, glyphs):
    """40 glyphs in a folder, 20 more in `later`, and a class file."""
    (tmp_path / "images/deep").mkdir(parents=True)
    (tmp_path / "later").mkdir()
    for i, image in enumerate(glyphs[0]):
        Image.fromarray(image).save(tmp_path / "images" / PATHS[i] if i < 40 else tmp_path / f"later/{i}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    return tmp_path


def command(home, view, *more, out="out", images="images"):
    return label(home, "--view", view, *more, out=out, images=images, iterations=2)


@pytest.fixture(scope="module")
def second():
    """The encoder whose image tower is the second view of the first one."""
    return encoders.load("embedded", seed=1, device="cpu")


def features(second, images):
    return second.encode_images(load_images(images, second).pixels)


def direct(encoder, images, view, **options):
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    settings = settings_for("embedded", iterations=2, generate=False)
    return loop.run(encoder, images, DIGITS, settings, attributes=bank, augment=GlyphView(32), view=view, progress=False, **options)


def test_the_labels_are_those_of_both_views(home, encoder, second, glyphs, capsys):
    assert command(home, "embedded") == 0
    assert "second view     embedded, which sees images alone and is never trained   (change: --view)" in capsys.readouterr().out
    expected = direct(encoder, glyphs[0][:40], features(second, glyphs[0][:40]))
    found = rows(home / "out/predictions.csv")
    assert [row["path"] for row in found] == PATHS
    for row, z in zip(found, expected.assignments, strict=True):
        assert row["label"] == DIGITS[int(z.argmax())] and float(row["confidence"]) == pytest.approx(float(z.max()), abs=2e-3)
    assert not torch.allclose(direct(encoder, glyphs[0][:40], None).assignments, expected.assignments, atol=1e-3)


def test_examples_come_last_and_what_cannot_be_read_is_left_out_of_both(home, encoder, second, glyphs):
    (home / "images/deep/05.png").write_bytes(b"torn")
    (home / "labels.csv").write_text("path,label\n" + "".join(f"{PATHS[i]},{DIGITS[i % 10]}\n" for i in range(10, 20)), encoding="utf-8")
    assert command(home, "embedded", "--labelled", home / "labels.csv") == 0
    kept = [i for i in range(40) if i != 5 and not 10 <= i < 20]
    query, support = ([glyphs[0][i] for i in of] for of in (kept, range(10, 20)))
    view = torch.cat([features(second, query), features(second, support)])
    expected = direct(encoder, query, view, support=(support, glyphs[1][10:20]))
    found = rows(home / "out/predictions.csv")
    assert [row["path"] for row in found] == [PATHS[i] for i in kept]
    assert [row["label"] for row in found] == [DIGITS[int(j)] for j in expected.assignments.argmax(1)]


def test_the_same_command_encodes_nothing_twice(home, monkeypatch):
    assert command(home, "embedded") == 0
    first, calls = (home / "out/predictions.csv").read_bytes(), counted(monkeypatch)
    assert command(home, "embedded") == 0
    assert calls == [] and (home / "out/predictions.csv").read_bytes() == first
    shutil.copytree(home / "later", home / "images/later")
    assert command(home, "embedded", "--iterations", "1") == 0
    assert calls == [20, 20], "the new images, once by each encoder"


def test_a_kept_model_names_its_second_view_and_predict_reads_it_again(home, second, glyphs, capsys):
    assert command(home, "embedded", "--save-model") == 0
    kept = json.loads((home / "out/model/classifier.json").read_text(encoding="utf-8"))
    assert kept["view"] == "embedded" and len(kept["view_sha256"]) == 64
    card = (home / "out/model/README.md").read_text(encoding="utf-8")
    assert "**Second view.**" in card and f"| second view's weights | seed1.safetensors, sha256 {kept['view_sha256'][:12]} |" in card
    assert "second view&#39;s weights" in (home / "out/report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(home / "out/model"), str(home / "later")]) == 0
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    adapted, found = models.load(home / "out/model", device="cpu")
    x, y = features(adapted, glyphs[0][40:]), features(second, glyphs[0][40:])
    for i, row in enumerate(printed):  # log z = log prior + (the log densities of both views) / 50, up to a constant
        log_z = []
        for j in range(10):
            log_p = [((of - mu[j]) ** 2 / s).sum() for of, mu, s in ((x[i], found.prototypes, found.variance), (y[i], *both(found)))]
            log_z.append(float(found.logit_scale * x[i] @ found.texts[j] - sum(log_p) / 100))
        confidence = 1 / sum(math.exp(of - max(log_z)) for of in log_z)
        assert row["label"] == DIGITS[log_z.index(max(log_z))] and float(row["confidence"]) == pytest.approx(confidence, abs=1e-3)


def both(found):
    return found.second.prototypes, found.second.variance


def timm_folder(folder, seed):
    torch.manual_seed(seed)
    timm.models.save_for_hf(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0), folder, safe_serialization=True)
    return folder


def test_a_view_that_moved_is_named_anew_and_another_one_is_refused(home, capsys):
    assert command(home, timm_folder(home / "vit", 0), "--save-model") == 0
    assert main(["predict", str(home / "out/model"), str(home / "later"), "--out", str(home / "before.csv")]) == 0
    (home / "vit").rename(home / "moved")
    capsys.readouterr()
    assert main(["predict", str(home / "out/model"), str(home / "later")]) == 1
    assert f"view '{home}/vit': no such folder" in capsys.readouterr().err
    words = ["predict", str(home / "out/model"), str(home / "later"), "--out", str(home / "after.csv"), "--view"]
    assert main([*words, str(home / "moved")]) == 0
    assert (home / "after.csv").read_bytes() == (home / "before.csv").read_bytes()
    capsys.readouterr()
    assert main([*words, str(timm_folder(home / "other", 1))]) == 1
    assert f"the second view '{home}/other' (" in (said := capsys.readouterr().err) and "is not" in said and "made with" in said


def test_ready_features_label_images_and_no_new_ones(home, second, glyphs, encoder, capsys):
    save_file({"features": features(second, glyphs[0][:40])}, home / "mine.safetensors")
    (home / "mine.txt").write_text("\n".join(PATHS), encoding="utf-8")
    assert command(home, f"features:{home}/mine.safetensors", "--save-model") == 0
    assert command(home, "embedded", out="same") == 0
    assert (home / "out/predictions.csv").read_bytes() == (home / "same/predictions.csv").read_bytes()
    assert "so `predict` refuses" in (home / "out/model/README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(home / "out/model"), str(home / "later")]) == 1
    assert "new images have no features there. Label them together with `python -m gta label`" in capsys.readouterr().err
    shutil.copytree(home / "later", home / "images/later")
    assert command(home, f"features:{home}/mine.safetensors") == 1
    assert "no features of 20 of 60 images: 'later/40.png', " in capsys.readouterr().err


def test_a_model_without_a_view_takes_none(home, capsys):
    assert label(home, "--save-model", images="later") == 0
    assert "second view     none   (change: --view)" in capsys.readouterr().out
    assert load_file(home / "out/model/classifier.safetensors").keys() == {"texts", "prototypes", "variance"}
    assert main(["predict", str(home / "out/model"), str(home / "later"), "--view", "embedded"]) == 1
    assert "was made without a second view; leave --view 'embedded' out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("vit_small_patch14_dinov2.lvd142n", "did you mean 'vit_small_patch14_dinov2.lvd142m'"),
        ("features:gone.npy", "gone.npy: no such file"),
        ("{home}/images", "a folder without config.json"),
    ],
)
def test_a_wrong_view_is_refused_before_anything_is_read(home, capsys, view, said):
    assert command(home, view.format(home=home)) == 1
    assert said in capsys.readouterr().err and not (home / "out").exists()


def test_a_plan_counts_the_second_view_and_fetches_nothing(home, capsys, monkeypatch):
    monkeypatch.setattr("gta.encoders.hub.hf_hub_download", lambda *_, **__: pytest.fail("a download"))
    assert command(home, "test_vit.r160_in1k", "--plan") == 0
    with_view = capsys.readouterr().out
    assert "of it for the second view, once" in with_view and not (home / "out").exists()
    for view in ("embedded", f"features:{home}/mine.npy"):
        (home / "mine.npy").touch()
        (home / "mine.txt").touch()
        assert command(home, view, "--plan") == 0
        assert ("of it for the second view, once" in capsys.readouterr().out) == (view == "embedded")
