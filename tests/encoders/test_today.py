"""Encoders of today: their manifests against what open_clip builds and reads, small models in their formats through the loader."""

import copy
import json
import math
from functools import cache

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image
from safetensors.torch import save
from timm.layers import SwiGLU
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from gta import encoders
from gta.__main__ import main
from gta.adapt import Batch, adapt, parameter_groups
from gta.data import manifests
from gta.data.encoder_facts import Activations
from gta.doctor import needed
from gta.encoders import hub_tokenizer
from gta.encoders.hub import MissingWeights
from gta.encoders.tags import KNOWN
from gta.files import ROOT
from gta.settings import Settings
from gta.transduct import text_prior
from hub import played
from small import TINY

TODAY = {manifest.name: manifest for manifest in manifests.encoders("today")}
ALL = {manifest.name: manifest for manifest in manifests.encoders()} | TODAY
TAGGED = [name for name, manifest in TODAY.items() if manifest.pretrained]
SIGLIP = TODAY["SigLIP2-B/16"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with played(monkeypatch, tmp_path / "cache") as server:
        yield server


@cache
def built(architecture):
    """The real architecture without memory for its weights."""
    with torch.device("meta"):
        return open_clip.create_model(architecture, device="meta").eval()


def activation(tower):
    kinds = {QuickGELU: "quick_gelu", SwiGLU: "swiglu", nn.GELU: "gelu"}
    found = [(kinds[type(module)], getattr(module, "approximate", "none")) for module in tower.modules() if type(module) in kinds]
    (kind,) = {name if exact == "none" else f"{name}-{exact}" for name, exact in found}
    return kind


@pytest.mark.parametrize("name", ALL)
def test_a_manifest_is_what_open_clip_builds(name):
    manifest, model = ALL[name], built(ALL[name].architecture)
    image, text = model.visual, getattr(model, "text", model)
    counted = sum(p.numel() for p in image.parameters())
    biased = getattr(model, "logit_bias", None) is not None
    assert (manifest.parameters.image, manifest.parameters.text) == (
        counted,
        sum(p.numel() for p in model.parameters()) - counted - 1 - biased,
    )
    assert manifest.loss == ("sigmoid" if biased else "softmax")
    assert image.image_size == (manifest.image_size,) * 2 and text.context_length == manifest.texts.context
    assert manifest.texts.mask == ("none" if text.attn_mask is None else "causal")
    assert manifest.texts.pool == (text.pool_type if hasattr(text, "pool_type") else text.text_pool_type)
    blocks = text.transformer
    assert manifest.activation == Activations(image=activation(image), text=activation(blocks))
    described = open_clip.get_model_config(manifest.architecture)
    assert described["embed_dim"] == manifest.embedding
    assert ("hf_tokenizer_name" in described["text_cfg"]) == (manifest.texts.tokenizer == "hub")


@pytest.mark.parametrize("name", TODAY)
def test_every_weight_of_both_towers_learns_in_adapt(name):
    """No tower comes frozen; only the scale and the bias of the logits are left out."""
    model = built(TODAY[name].architecture)
    assert all(p.requires_grad for p in model.parameters())
    learning = [id(p) for group in parameter_groups(model, Settings()) for p in group["params"]]
    left = {of for of, p in model.named_parameters() if id(p) not in set(learning)}
    assert len(learning) == len(set(learning)) and {"logit_scale"} <= left <= {"logit_scale", "logit_bias"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_both_towers_end_in_the_embedding_and_training_keeps_what_the_manifest_says(name):
    """Bytes of all tensors that the backward pass of one image with its text needs, weights apart; within a fifth, for versions differ."""
    manifest, model, kept = ALL[name], built(ALL[name].architecture), {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor  # the tensor, so that no storage takes the place of another
        return tensor

    pixels = torch.zeros(2, 3, *(manifest.image_size,) * 2, device="meta")
    tokens = torch.zeros(2, manifest.texts.context, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image, text = model.encode_image(pixels), model.encode_text(tokens)
    assert image.shape == text.shape == (2, manifest.embedding)
    megabytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2e6
    assert megabytes == pytest.approx(manifest.kept, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileCLIP2-S0", "EVA02-B/16"])
def test_a_real_architecture_reads_images_and_texts(name):
    encoder = encoders.load(TODAY[name].architecture, pretrained="random", device="cpu")
    features = encoder.encode_images(torch.zeros(1, 3, *(encoder.image_size,) * 2, dtype=torch.uint8))
    assert features.shape == encoder.encode_texts(["a heron"]).shape == (1, TODAY[name].embedding)


def small(monkeypatch, manifest):
    """A small model under the name of a real architecture, which keeps how the real one reads texts."""
    real = open_clip.get_model_config(manifest.architecture)
    config = {**copy.deepcopy(real), "embed_dim": 16, "vision_cfg": TINY["vision_cfg"]}
    config["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1, "vocab_size": min(real["text_cfg"]["vocab_size"], 49408)}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, manifest.architecture, config)
    torch.manual_seed(0)
    return open_clip.create_model(manifest.architecture), config


def put(hub, repository, files, revision="main"):
    for name, content in files.items():
        hub.files[f"/{repository}/resolve/{revision}/{name}"] = content if isinstance(content, bytes) else json.dumps(content).encode()


@pytest.mark.parametrize("name", [name for name in TAGGED if name != SIGLIP.name])
def test_a_tag_is_read_as_its_manifest_says(name, hub, monkeypatch):
    manifest = TODAY[name]
    model, _ = small(monkeypatch, manifest)
    put(hub, manifest.hub, {"open_clip_model.safetensors": save(model.state_dict())})
    encoder = encoders.load(name, device="cpu")
    read = json.loads(encoder.preprocessing)
    assert {fact: read[fact] for fact in ("interpolation", "resize_mode")} == manifest.preprocessing.model_dump(exclude={"mean", "std"})
    assert (encoder.mean, encoder.std) == (manifest.preprocessing.mean, manifest.preprocessing.std)
    assert encoder.tokens(["a heron " * 50]).shape == (1, manifest.texts.context)
    wide = Image.new("RGB", (64, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (0, 0, 16, 32))
    left = encoder.store(wide)[:, 16, 0].tolist()  # a squash keeps the blue quarter at the left, a crop loses it
    assert left == ([0, 0, 255] if manifest.preprocessing.resize_mode == "squash" else [255, 0, 0])


def test_every_name_of_a_manifest_loads_its_architecture_and_tag():
    assert {name: (of.architecture, of.pretrained) for name, of in ALL.items() if of.pretrained} == KNOWN


def test_a_tag_whose_tokenizer_is_on_the_hub_reads_it_at_the_revision_of_its_weights(hub, monkeypatch):
    model, _ = small(monkeypatch, SIGLIP)
    files, vocabulary = tokenizer_files()
    others, _ = tokenizer_files("zyxwvutsrqponmlkjihgfedcba")
    put(hub, SIGLIP.hub, {"open_clip_model.safetensors": save(model.state_dict()), **files}, SIGLIP.revision)
    put(hub, SIGLIP.hub, others)
    encoder = encoders.load(SIGLIP.name, revision=SIGLIP.revision, device="cpu")
    assert encoder.tokens(["HERO"])[0].tolist() == by_hand(vocabulary, ["he", "ro"], 64)


def test_images_are_labelled_by_the_name_of_the_page(hub, monkeypatch, tmp_path, capsys):
    manifest = TODAY["PE-Core-B/16"]
    model, _ = small(monkeypatch, manifest)
    put(hub, manifest.hub, {"open_clip_model.safetensors": save(model.state_dict())})
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 90, 200)).save(tmp_path / f"images/{i}.png")
    (tmp_path / "classes.txt").write_text("crane\nheron", encoding="utf-8")
    words = ["label", str(tmp_path / "images"), "--classes", str(tmp_path / "classes.txt"), "--out", str(tmp_path / "out")]
    assert main([*words, "--encoder", manifest.name, "--iterations", "2", "--device", "cpu"]) == 0
    assert len((tmp_path / "out/predictions.csv").read_text(encoding="utf-8").splitlines()) == 5


SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")


def tokenizer_files(letters="abcdefghijklmnopqrstuvwxyzABCH_!,"):
    """Files of a small tokenizer in the format of Gemma's: letters that are joined in pairs, a bar for a space, an end token."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, "▁", *letters))}
    vocabulary |= {pair: len(vocabulary) + i for i, pair in enumerate(("he", "ro"))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("h", "e"), ("r", "o")], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens(list(SPECIAL))
    names = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token"), SPECIAL, strict=True))
    added = {str(i): {"content": token, "special": True} for i, token in enumerate(SPECIAL)}
    kept = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "model_max_length": 10**30}
    settings = {"tokenizer_class": "GemmaTokenizer", **kept, **names, "added_tokens_decoder": added}
    files = {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": settings, "special_tokens_map.json": names}
    return files, vocabulary


def by_hand(vocabulary, tokens, context):
    ids = [vocabulary[token] for token in tokens] + [1]
    return ids + [0] * (context - len(ids))


def test_a_tokenizer_of_the_hub_has_the_settings_of_its_architecture_and_the_revision_of_the_weights(hub):
    """SigLIP2: 64 tokens, lower case, no punctuation, _ as a space, padding to the end."""
    files, vocabulary = tokenizer_files()
    others, _ = tokenizer_files("zyxwvutsrqponmlkjihgfedcba")
    put(hub, SIGLIP.hub, files, SIGLIP.revision)
    put(hub, SIGLIP.hub, others)
    tokenizer = hub_tokenizer.of_tag(SIGLIP.architecture, SIGLIP.hub, SIGLIP.revision)
    (found,) = tokenizer(["A HERO, a_b!"]).tolist()
    assert found == by_hand(vocabulary, ["a", "▁", "he", "ro", "▁", "a", "▁", "b"], 64)
    assert hub_tokenizer.of_tag(SIGLIP.architecture, SIGLIP.hub, None)(["a"]).tolist() != tokenizer(["a"]).tolist()
    assert hub_tokenizer.of_tag("PE-Core-B-16", "timm/PE-Core-B-16", None) is None
    hub.files.pop(f"/{SIGLIP.hub}/resolve/{SIGLIP.revision}/special_tokens_map.json")
    assert hub_tokenizer.of_tag(SIGLIP.architecture, SIGLIP.hub, SIGLIP.revision)(["a"]).tolist() == tokenizer(["a"]).tolist()


def test_a_tokenizer_whose_settings_cannot_be_had_is_refused(hub):
    """Without them the padding and the end token may be others, and nothing would be said."""
    files, _ = tokenizer_files()
    put(hub, SIGLIP.hub, files)
    hub.answers[f"/{SIGLIP.hub}/resolve/main/tokenizer_config.json"] = (503, "", "")
    with pytest.raises(MissingWeights, match=r"tokenizer_config\.json of timm/ViT-B-16-SigLIP2 at revision main: .* answered 503"):
        hub_tokenizer.of_tag(SIGLIP.architecture, SIGLIP.hub, None)
    hub.answers.clear()
    put(hub, SIGLIP.hub, {"tokenizer.json": b"{}"}, "v2")
    with pytest.raises(MissingWeights, match=r"the tokenizer of ViT-B-16-SigLIP2 cannot be made of \S+: "):
        hub_tokenizer.of_tag(SIGLIP.architecture, SIGLIP.hub, "v2")


@pytest.fixture
def sigmoid(hub, monkeypatch):
    """A small SigLIP2 from a repository that describes itself, and the vocabulary of its tokenizer."""
    files, vocabulary = tokenizer_files()
    model, config = small(monkeypatch, SIGLIP)
    model.logit_bias.data.fill_(-7.5)
    read = SIGLIP.preprocessing.model_dump()
    put(hub, "o/siglip", {"open_clip_config.json": {"model_cfg": config, "preprocess_cfg": read}, **files})
    put(hub, "o/siglip", {"open_clip_model.safetensors": save(model.state_dict())})
    return encoders.load("hf-hub:o/siglip", device="cpu"), vocabulary


def test_a_sigmoid_model_reads_texts_to_the_end_of_the_context(sigmoid):
    """Its last place is pooled and padding is seen, so a text alone and one in a batch must both have 64 places."""
    encoder, vocabulary = sigmoid
    (ids,) = encoder.tokens(["A Hero!"]).tolist()
    assert ids == by_hand(vocabulary, ["a", "▁", "he", "ro"], 64)
    alone, batch = encoder.encode_texts(["A Hero!"]), encoder.encode_texts(["A Hero!", "a " * 20])
    expected = encoder.model.encode_text(torch.tensor([ids]), normalize=True).detach()
    torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(batch[:1], expected)
    shorter = encoder.model.encode_text(torch.tensor([ids[:5]]), normalize=True).detach()
    assert not torch.allclose(shorter, expected, atol=1e-3)


def test_a_long_text_is_shortened_by_words_before_a_sigmoid_model_reads_it(sigmoid):
    encoder, _ = sigmoid
    kept = encoder.shorten("a " * 200)
    assert encoder.shorten("a hero") == "a hero" and set(kept.split()) == {"a"}
    assert encoder.tokens([kept])[0, -1] == 0 and encoder.tokens([kept + " a"])[0, -1] != 0


def test_a_softmax_over_classes_is_what_a_sigmoid_says_if_exactly_one_class_fits(sigmoid):
    """P(only j fits) by the product of sigmoids, from the logits with their bias, which then cancels."""
    encoder, _ = sigmoid
    texts = encoder.encode_texts(["a hero", "a crab", "a bee"])
    images = nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    prior = text_prior(images, list(texts[:, None]), encoder.logit_scale)
    for i in range(5):
        logits = [encoder.logit_scale * float(images[i] @ text) - 7.5 for text in texts]
        fits = [1 / (1 + math.exp(-logit)) for logit in logits]
        alone = [math.prod(p if k == j else 1 - p for k, p in enumerate(fits)) for j in range(3)]
        assert prior[i].tolist() == pytest.approx([p / sum(alone) for p in alone], rel=1e-4)


MOVING = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "timm_drop": 0.5, "timm_drop_path": 0.5}


@pytest.fixture
def moving(monkeypatch):
    """A model whose image tower has batch normalisation, dropout and drop path, as MobileCLIP2's have between them."""
    vision = {**MOVING, "timm_model_pretrained": False, "image_size": 32}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "MobileCLIP2-S0", {**TINY, "custom_text": True, "vision_cfg": vision})
    return encoders.load("MobileCLIP2-S0", pretrained="random", device="cpu")


PIXELS = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def adapted(encoder):
    mine = encoder.copy()
    batch = Batch(torch.arange(6), [f"a photo of a {name}" for name in "abcdef"], torch.eye(6).bool(), PIXELS)
    before = {name: tensor.clone() for name, tensor in mine.model.state_dict().items()}
    adapt(mine, PIXELS.__getitem__, [batch, batch], Settings(lr=1e-3, lr_projection=1e-3), lambda image: image)
    after = mine.model.state_dict()
    return after, {name for name in after if not torch.equal(after[name], before[name])}


def test_adapt_trains_a_tower_with_batch_normalisation_and_leaves_its_statistics(moving):
    """In eval mode: the feature of an image hangs on no other image of its batch, and nothing is dropped at random."""
    kinds = {type(module).__name__ for module in moving.model.visual.modules()}
    assert {"BatchNormAct2d", "DropPath"} <= kinds
    (after, moved), (again, _) = adapted(moving), adapted(moving)
    assert all(torch.equal(after[name], again[name]) for name in after)
    assert not moved & {name for name, _ in moving.model.named_buffers()}
    learnt = {name for name, _ in moving.model.named_parameters()} - {"logit_scale"}
    assert moved <= learnt and {name.partition(".")[0] for name in moved} == {"visual", "text"}
    assert any("bn1.weight" in name for name in moved)
    alone = torch.cat([moving.encode_images(PIXELS[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(moving.image_features(PIXELS).detach(), alone)


def test_adapt_leaves_a_frozen_tower_as_it_is_and_trains_the_other(moving):
    for p in moving.model.visual.parameters():
        p.requires_grad_(False)
    _, moved = adapted(moving)
    assert moved and all(name.startswith("text.") for name in moved)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileCLIP2-S0", "MobileCLIP2-B"])
def test_a_real_tower_with_batch_normalisation_learns_too(name):
    encoder = encoders.load(TODAY[name].architecture, pretrained="random", device="cpu")
    convolutions = [module for module in encoder.model.visual.modules() if isinstance(module, nn.Conv2d)]
    of_pixels = [conv for conv in convolutions if (conv.in_channels, conv.kernel_size) == (3, (1, 1)) and conv.stride != (1, 1)]
    laid_out = all(conv.weight.stride() == (3, 1, 1, 1) for conv in of_pixels)
    assert laid_out, "channels_last: here torch 2.15 on a CPU writes beyond its memory in the backward pass, and Python aborts"
    pixels = nn.functional.interpolate(PIXELS[:2].float(), size=(encoder.image_size,) * 2).byte()
    batch = Batch(torch.arange(2), ["a hero", "a crab"], torch.eye(2).bool(), pixels)
    before = {key: tensor.clone() for key, tensor in encoder.model.state_dict().items()}
    adapt(encoder, pixels.__getitem__, [batch], Settings(), lambda image: image)
    moved = {key for key, tensor in encoder.model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert not moved & {key for key, _ in encoder.model.named_buffers()}
    assert {key.partition(".")[0] for key in moved} == {"visual", "text"}


def gigabytes(manifest, adapt):
    return f"{needed(manifest, adapt) / 1e9:.1f}"


def rows(name, manifest):
    """The lines of the page's two tables about an encoder."""
    sizes = " + ".join(f"{count / 1e6:.0f}" for count in (manifest.parameters.image, manifest.parameters.text))
    needs = [gigabytes(manifest, adapt=False), gigabytes(manifest, adapt=True)]
    yield [name, manifest.licence, manifest.use, str(manifest.image_size), str(manifest.texts.context), sizes, *needs]
    if manifest.imagenet:
        level, _, source = manifest.evidence["imagenet"].partition(": ")
        assert level == "verified"
        yield [name, f"{manifest.imagenet:.1f}", source]


def test_the_tables_of_the_page_are_the_manifests():
    page = (ROOT / "docs/encoders.md").read_text(encoding="utf-8")
    told = [cells for line in page.splitlines() if (cells := line.strip("| ").split(" | "))[0] in ALL]
    assert sorted(told) == sorted(row for name, manifest in ALL.items() for row in rows(name, manifest))
