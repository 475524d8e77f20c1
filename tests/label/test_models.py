"""The model that a user keeps: what stock open_clip reads, what labels new images, and what is refused."""

import json
import math

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from gta import encoders
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.image_encoder import weights_hash
from gta.encoders.images import load_images
from gta.label import models
from gta.label.models import Classifier
from gta.label.unknowns import unfitness
from gta.labels import answer
from gta.loop import run
from gta.transduct import posterior, text_prior, transduct
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for
from small import TINY

TASK = tasks.load("digits")


@pytest.fixture(scope="module")
def result(encoder, glyphs):
    bank = Bank.from_template(DIGITS, TASK.template, TASK.sentence)
    settings = settings_for("embedded", iterations=2)
    return run(encoder, glyphs[0], DIGITS, settings, attributes=bank, augment=tasks.glyph_view(32), progress=False)


@pytest.fixture
def kept(result, tmp_path):
    models.save(tmp_path / "model", result.encoder, Classifier.of(result), result.attributes, "# A card")
    return tmp_path / "model"


def test_the_posterior_is_that_of_text_and_mixture(rng):
    n, m, d = 7, 4, 5
    x, mu = (F.normalize(torch.tensor(rng.normal(size=(k, d))), dim=1) for k in (n, m))
    prior, variance = torch.tensor(rng.dirichlet(torch.ones(m), n)), torch.tensor(rng.uniform(0.1, 2, d))
    for lam in (1.0, 0.5):
        z = posterior(x, prior, mu, variance, lam)
        for i in range(n):
            log_p = [-0.5 * sum((x[i, k] - mu[j, k]) ** 2 / variance[k] for k in range(d)) for j in range(m)]
            weight = [float(prior[i, j]) ** lam * math.exp(float(log_p[j]) / 50) for j in range(m)]
            torch.testing.assert_close(z[i], torch.tensor([w / sum(weight) for w in weight], dtype=z.dtype))


def test_the_posterior_is_transduction_without_neighbours(result):
    """With an empty graph the last z of a transduction is the posterior of its own images."""
    prior = text_prior(result.features, result.text_features, result.encoder.logit_scale)
    alone = transduct(result.features, prior, affinity=torch.zeros(len(prior), len(prior)))
    torch.testing.assert_close(posterior(result.features, prior, alone.prototypes, alone.variance), alone.assignments, atol=1e-4, rtol=0)


def test_unfitness_is_the_distance_to_the_nearest_class():
    texts = torch.tensor([[1.0, 0, 0], [0, 0.5, 0]])
    torch.testing.assert_close(unfitness(torch.eye(3), texts), torch.tensor([0.0, 0.5, 1.0]))


def test_what_is_kept_is_what_was_there(result, kept, glyphs):
    encoder, classifier = models.load(kept, device="cpu")
    pixels = load_images(glyphs[0], encoder).pixels
    stored = {name: weight.float().double() for name, weight in result.encoder.model.state_dict().items() if weight.is_floating_point()}
    weights = encoder.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in stored.items()), "float64 weights, as files of float32 hold them"
    assert encoder.dtype == result.encoder.dtype == torch.float64 and encoder.weights_sha256 == weights_hash(result.encoder.model)
    features = encoder.encode_images(pixels)
    torch.testing.assert_close(features, result.encoder.encode_images(pixels), atol=1e-6, rtol=0)
    before, after = Classifier.of(result).label(result.features), classifier.label(features)
    torch.testing.assert_close(classifier.label(result.features), before, atol=1e-12, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    assert torch.equal(answer(after), answer(before)) and len(answer(after).unique()) > 5
    assert classifier.class_names == tuple(DIGITS) and classifier.logit_scale == pytest.approx(result.encoder.logit_scale)
    assert Bank.load(kept / "attributes.json") == result.attributes
    assert (kept / "README.md").read_text(encoding="utf-8") == "# A card"
    with pytest.raises(ValueError, match=r"'thre' in .* did you mean 'three'"):  # our own tokenizer, which drops no word
        encoder.encode_texts(["the digit thre"])


def test_stock_open_clip_reads_the_model_and_its_tokenizer(result, kept):
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{kept}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{kept}")
    texts = ["a picture of the digit zero", "a picture of the digit four with a closed loop at the top"]
    assert torch.equal(tokenizer(texts), result.encoder.tokenizer(texts))
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    ours = load_images([image], result.encoder).pixels
    with torch.no_grad():
        theirs = F.normalize(model.eval().encode_image(preprocess(image)[None]), dim=-1)
        said = F.normalize(model.encode_text(tokenizer(texts)), dim=-1)
    torch.testing.assert_close(theirs.double(), result.encoder.encode_images(ours), atol=1e-5, rtol=0)
    torch.testing.assert_close(said.double(), result.encoder.encode_texts(texts), atol=1e-5, rtol=0)


@pytest.mark.parametrize("quick", [False, True])
def test_a_clip_with_open_clips_own_tokenizer_needs_no_tokenizer_file(tmp_path, glyphs, monkeypatch, quick):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", TINY)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**TINY, "quick_gelu": True})
    encoder = encoders.load("ViT-B/32" if quick else "ViT-B-32", pretrained="random", device="cpu")
    names = ["a <b>crane</b>", "heron"]
    result = run(encoder, glyphs[0][:9], names, settings_for("", iterations=2), progress=False)
    models.save(tmp_path / "model", result.encoder, Classifier.of(result), result.attributes, "")
    assert not list((tmp_path / "model").glob("tokenizer*"))
    again, classifier = models.load(tmp_path / "model", device="cpu")
    pixels = load_images(glyphs[0][:9], again).pixels
    torch.testing.assert_close(again.encode_images(pixels), result.features, atol=1e-5, rtol=0)
    stock, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'model'}")
    texts = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(["a photo of a heron."])
    with torch.no_grad():
        said = F.normalize(stock.eval().encode_text(texts), dim=-1)
    torch.testing.assert_close(said, result.text_features[1], atol=1e-5, rtol=0)
    assert classifier.class_names == tuple(names)


def test_the_folder_of_a_run_is_not_its_model(kept):
    with pytest.raises(ValueError, match=r"classifier.json is missing; did you mean .*/model\?"):
        models.load(kept.parent)


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"gone: no such folder; a model is OUT/model"):
        models.load(tmp_path / "gone")


def test_a_second_save_replaces_a_model_and_nothing_else(result, kept, tmp_path):
    models.save(kept, result.encoder, Classifier.of(result), result.attributes, "second")
    assert (kept / "README.md").read_text(encoding="utf-8") == "second"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="is no model of this program"):
        models.save(tmp_path / "mine", result.encoder, Classifier.of(result), result.attributes, "")
    assert (tmp_path / "mine/thesis.txt").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "model"]


def other_weights(folder):
    state = load_file(folder / "open_clip_model.safetensors")
    state["logit_scale"] += 0.1
    save_file(state, folder / "open_clip_model.safetensors")


def wrong_shape(folder):
    tensors = load_file(folder / "classifier.safetensors")
    save_file({**tensors, "texts": tensors["texts"][:3].clone()}, folder / "classifier.safetensors")


def unknown_field(folder):
    facts = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    (folder / "classifier.json").write_text(json.dumps({**facts, "run": "import os"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "classifier.json").unlink(), "classifier.json is missing"),
        (lambda folder: (folder / "classifier.json").write_text("{", encoding="utf-8"), "classifier.json"),
        (unknown_field, "unknown parameter 'run'"),
        (lambda folder: (folder / "classifier.safetensors").write_bytes(b"\x80\x04pickle"), "damaged"),
        (wrong_shape, "not the tensors of 10 classes"),
        (other_weights, "is not the encoder that"),
        (lambda folder: (folder / "open_clip_model.safetensors").write_bytes(b""), "damaged"),
        (lambda folder: (folder / "open_clip_config.json").write_text("{}", encoding="utf-8"), "damaged"),
    ],
)
def test_a_damaged_model_is_refused_by_name(kept, damage, message):
    damage(kept)
    with pytest.raises(ValueError, match=message):
        models.load(kept)
