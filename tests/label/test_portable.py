"""The kept model without this program: the graph against torch, `classify.py` against `predict`, and what has no graph."""

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from gta import encoders
from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.label import models, portable
from gta.label.models import Classifier, Second
from gta.label.predict import predict
from gta.worlds.glyphs import DIGITS
from small import TINY


def made(encoder, names, lam=0.7):
    """A classifier of any texts and mixture, whose z are neither 0 nor 1."""
    width, generator = encoder.config["embed_dim"], torch.Generator().manual_seed(3)
    texts, other = (F.normalize(torch.randn(len(names), width, generator=generator), dim=1).to(encoder.dtype) for _ in range(2))
    variance = (0.5 + torch.rand(width, generator=generator)).to(encoder.dtype) / width
    return Classifier(tuple(names), 0.9 * texts, F.normalize(texts + other, dim=1), variance, 5.0, lam)


@pytest.fixture(scope="module")
def kept(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "model"
    models.save(folder, encoder, made(encoder, DIGITS), Bank.from_template(DIGITS), "# A card\n")
    return folder


def photos(folder):
    """Images of all the kinds that classify.py must read as `predict` does: sizes, colours, transparent ones, turned ones."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (61, 90, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise[:, :, :3]).save(folder / "wide.png")
    Image.fromarray(noise[:, :37, :3]).save(folder / "high.jpg", exif=turned)
    Image.fromarray(noise).save(folder / "clear.png")
    Image.fromarray(noise[:9, :9, 0]).save(folder / "small grey.png")
    Image.fromarray(noise[:, :, :3]).quantize(16).save(folder / "palette.png", transparency=3)
    return folder


def test_the_graph_gives_the_z_of_the_classifier(encoder, kept, glyphs):
    pixels = load_images(glyphs[0][:7], encoder, progress=False).pixels
    session = onnxruntime.InferenceSession(str(kept / "model.onnx"), providers=["CPUExecutionProvider"])
    z = made(encoder, DIGITS).label(encoder.encode_images(pixels))
    for count in (7, 1):
        found = session.run(["z"], {"pixels": pixels[:count].numpy()})[0]
        np.testing.assert_allclose(found, z[:count], atol=2e-5)
    assert float(z.max()) < 0.9 and len(z.argmax(1).unique()) > 1, "else any graph would pass"
    assert {entry.domain: entry.version for entry in onnx.load(kept / "model.onnx").opset_import}[""] == portable.OPSET


def test_classify_labels_files_as_predict_does_and_needs_nothing_of_ours(kept, tmp_path):
    folder = photos(tmp_path / "photos")
    files = sorted(folder.iterdir())
    code = "import sys, classify; print(classify.classify(sys.argv[1:])); print([name for name in ('gta', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], cwd=kept, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found, loaded = map(eval, done.stdout.splitlines())
    assert loaded == []
    text, left_out = predict(kept, folder, "cpu")
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(text))}
    assert left_out == [] and len(found) == len(files) == 5
    for file, (label, confidence) in zip(files, found, strict=True):
        assert label == rows[file.name]["label"] and confidence == pytest.approx(float(rows[file.name]["confidence"]), abs=1e-4), file.name
    spoken = subprocess.run([sys.executable, "classify.py", str(files[0])], cwd=kept, capture_output=True, encoding="utf-8")
    assert spoken.stdout == f"{files[0]}\t{found[0][0]}\t{found[0][1]:.4f}\n"


def test_the_card_says_opset_size_and_speed_of_each(kept):
    card = (kept / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# A card\n") and "`model.onnx` (ONNX, opset 18)" in card
    for file, other in (("model.onnx", "onnxruntime"), ("open_clip_model.safetensors", "torch")):
        assert f"| `{file}`, {other} | {(kept / file).stat().st_size / 1e6:,.1f} MB | " in card
    assert sorted(file.name for file in kept.parent.iterdir()) == ["model"]


@pytest.mark.slow
def test_a_tower_that_squashes_is_read_as_it_reads(tmp_path, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", TINY)
    encoder = encoders.load("ViT-B-32", pretrained="random", device="cpu")
    how = json.loads(encoder.preprocessing) | {"resize_mode": "squash", "interpolation": "bilinear"}
    store = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**how), is_train=False)
    encoder = replace(encoder, preprocessing=json.dumps(how), store=encoders.image_encoder.to_pixels(store))
    (tmp_path / "model").mkdir()
    assert "opset" in portable.write(tmp_path / "model", encoder, made(encoder, ["a", "b", "c"]))
    folder = photos(tmp_path / "photos")
    files = sorted(folder.iterdir())
    done = subprocess.run([sys.executable, "classify.py", *map(str, files)], cwd=tmp_path / "model", capture_output=True, encoding="utf-8")
    z = made(encoder, ["a", "b", "c"]).label(encoder.encode_images(load_images(files, encoder).pixels))
    assert [line.split("\t")[1:] for line in done.stdout.splitlines()] == [
        ["abc"[int(row.argmax())], f"{float(row.max()):.4f}"] for row in z
    ]


@pytest.mark.parametrize("why", ["a second view", "no package", "another resizing", "a tower that cannot be written"])
def test_where_there_is_no_graph_the_model_is_kept_and_the_reason_told(encoder, tmp_path, monkeypatch, capsys, why):
    classifier = made(encoder, DIGITS)
    if why == "a second view":
        classifier = replace(classifier, second=Second("vit_small", "0" * 64, classifier.prototypes.clone(), classifier.variance.clone()))
        said = "the model has a second view, vit_small, which is not in the folder; label without --view"
    elif why == "no package":
        monkeypatch.setattr(portable, "find_spec", lambda name: None)
        said = "onnx, onnxscript, onnxruntime missing; pip install 'gta-clip[onnx]', then the same command writes it"
    elif why == "another resizing":
        encoder = replace(encoder, preprocessing=json.dumps(json.loads(encoder.preprocessing) | {"resize_mode": "longest"}))
        said = "classify.py does not resize as this encoder does (longest"
    else:
        monkeypatch.setattr(portable, "_export", lambda *of: 1 / 0)
        said = "torch cannot write it for this encoder (ZeroDivisionError: division by zero)"
    models.save(tmp_path / "model", encoder, classifier, Bank.from_template(DIGITS), "# A card\n")
    assert f"no model.onnx: {said}" in capsys.readouterr().err
    assert said in (tmp_path / "model/README.md").read_text(encoding="utf-8")
    there = {file.name for file in (tmp_path / "model").iterdir()}
    assert "classifier.safetensors" in there and not there & {"model.onnx", "classify.py", "classify.json"}


def test_a_graph_that_does_not_give_the_same_is_not_kept(encoder, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "_export", lambda module, pixels, file: shutil.copy(kept / "model.onnx", file))
    other = replace(made(encoder, DIGITS), logit_scale=20.0)
    assert "would differ by" in portable.write(tmp_path, encoder, other) and list(tmp_path.iterdir()) == []
