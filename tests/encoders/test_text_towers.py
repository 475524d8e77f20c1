"""Encoders of real kinds of towers, in small: a network of timm with batch norms, and a BERT of transformers in the same folder."""

import importlib.util
import json
import shutil
import socket

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F

from gta import encoders
from gta.adapt import Batch, adapt
from gta.attributes import Bank
from gta.encoders import text_towers, weights
from gta.encoders.text_towers import ConSE
from gta.label import models as kept_models
from gta.label.models import Classifier
from gta.loop import run
from gta.settings import Settings

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["a bee", "a photo of a crane, which has long legs", "owl", "a photo of an owl."]
TIMM = "test_efficientnet"
NODES, DIM, WIDTH, CONTEXT = 7, 12, 16, 48


def write_tokenizer(folder, padding):
    special = ["[UNK]", "[CLS]", "[SEP]"]
    special.insert(padding, "[PAD]")
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), ".", ",", "photo", "of"]
    words = {word: number for number, word in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    ends = [(token, words[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}), encoding="utf-8")
    return len(words)


def write(folder, padding=0):
    """A folder of small random towers with a ConSE head, as `gta.workshop.pocket` writes it."""
    folder.mkdir(parents=True)
    size = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    tokens = {"vocab_size": write_tokenizer(folder, padding), "pad_token_id": padding, "max_position_embeddings": CONTEXT}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **size, **tokens}), encoding="utf-8")
    image = {"image_size": 64, "timm_model_name": TIMM, "timm_pool": "avg", "timm_proj": "linear", "timm_proj_bias": True}
    text = {"hf_model_name": ".", "hf_tokenizer_name": ".", "hf_pooler_type": "mean_pooler", "context_length": CONTEXT}
    described = {"embed_dim": DIM, "vision_cfg": image, "text_cfg": {**text, "conse_nodes": NODES}}
    config = {"model_cfg": described, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(padding)
        model = text_towers.build(folder, described)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module", params=[0, 3])
def folder(tmp_path_factory, request):
    return write(tmp_path_factory.mktemp("towers") / "made", request.param)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def conse(x, names, vectors):
    """Norouzi et al., with loops in float64."""
    rows = []
    for row in x.double():
        weight = [torch.exp(20 * (row @ name) / row.norm()) for name in names.double()]
        rows.append(sum(w / sum(weight) * vector for w, vector in zip(weight, vectors.double().T, strict=True)))
    return torch.stack(rows)


def by_hand(folder, texts, pixels):
    """Unit features of texts, one at a time without padding, and of pixels, from the two libraries alone."""
    state = load_file(folder / "open_clip_model.safetensors")

    def part(prefix):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

    bert = transformers.BertModel(transformers.BertConfig.from_pretrained(str(folder)), add_pooling_layer=False).eval()
    bert.load_state_dict(part("text.transformer."))
    trunk = timm.create_model(TIMM, num_classes=0).eval()
    trunk.load_state_dict(part("visual.trunk."))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with torch.no_grad():
        pooled = [bert(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0) for text in texts]
        said = conse(torch.stack(pooled), state["text.proj.names.weight"], state["text.proj.vectors.weight"])
        seen = trunk((pixels / 255 - 0.5) / 0.5) @ state["visual.head.proj.weight"].T + state["visual.head.proj.bias"]
    return F.normalize(said, dim=1).float(), F.normalize(seen, dim=1)


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(256, (5, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_conse_by_hand():
    head = ConSE(2, 2, 3)
    with torch.no_grad():
        head.names.weight.copy_(torch.eye(2))
        head.vectors.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 4]]))
        between, first = head(torch.tensor([[3.0, 3.0], [7.0, 0.0]]))
        torch.testing.assert_close(between, torch.tensor([0.5, 0.5, 3.0]))  # equally like both
        other = 1 / (1 + 2.718281828**20)
        torch.testing.assert_close(first, torch.tensor([1 - other, other, 2 + 2 * other]), atol=1e-7, rtol=0)


def test_conse_equals_the_loops():
    torch.manual_seed(0)
    head, x = ConSE(6, 9, 4).double(), torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(head(x), conse(x, head.names.weight, head.vectors.weight), atol=1e-12, rtol=0)


def test_a_folder_is_read_where_it_is_moved_without_a_network(folder, tmp_path, pixels, no_network, monkeypatch):
    before = encoders.load(str(folder), device="cpu")
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "moved")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(moved.parent)
    encoder = encoders.load("moved", device="cpu")
    said, seen = by_hand(moved, TEXTS, pixels)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), said, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_images(pixels), seen, atol=1e-5, rtol=0)
    assert encoder.weights_sha256 == before.weights_sha256 and encoder.image_size == 64 and encoder.mean == (0.5, 0.5, 0.5)


def test_a_folder_may_have_open_clips_own_head(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "linear")
    described = json.loads((copy / "open_clip_config.json").read_text(encoding="utf-8"))
    described["model_cfg"]["text_cfg"].pop("conse_nodes")
    described["model_cfg"]["text_cfg"]["hf_proj_type"] = "linear"
    (copy / "open_clip_config.json").write_text(json.dumps(described), encoding="utf-8")
    state = load_file(copy / "open_clip_model.safetensors")
    names, vectors = (state.pop(f"text.proj.{name}.weight") for name in ("names", "vectors"))
    save_file({**state, "text.proj.weight": vectors[:, :1] @ names[:1] + torch.eye(DIM, WIDTH)}, copy / "open_clip_model.safetensors")
    encoder = encoders.load(str(copy), device="cpu")
    with torch.no_grad():
        tokens = encoder.tokens(TEXTS)
        mask = tokens != encoder.model.text.config.pad_token_id
        read = encoder.model.text.transformer(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        pooled = [row[words].mean(0) for row, words in zip(read, mask, strict=True)]
        expected = F.normalize(torch.stack(pooled) @ (vectors[:, :1] @ names[:1] + torch.eye(DIM, WIDTH)).T, dim=1)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected, atol=1e-5, rtol=0)


def test_texts_are_padded_to_the_longest_of_the_batch_and_no_further(folder):
    encoder = encoders.load(str(folder), device="cpu")
    read = []
    hook = encoder.model.text.transformer.register_forward_hook(
        lambda module, _, given, out: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    together = encoder.encode_texts(TEXTS)
    hook.remove()
    longest = max(len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids) for text in TEXTS)
    assert read == [longest] and longest < CONTEXT
    with torch.no_grad():
        whole = encoder.model.encode_text(encoder.tokens(TEXTS), normalize=True)
    assert encoder.tokens(TEXTS).shape == (len(TEXTS), CONTEXT)
    torch.testing.assert_close(together, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([encoder.encode_texts([text]) for text in TEXTS]), whole, atol=1e-6, rtol=0)


def test_a_text_that_is_too_long_is_shortened_by_whole_words(folder):
    encoder = encoders.load(str(folder), device="cpu")
    kept = encoder.shorten("bee " * 30)
    assert kept == " ".join(["bee"] * len(kept.split())) and len(kept.split()) == (CONTEXT - 2) // 3
    assert encoder.shorten(TEXTS[1]) == TEXTS[1]


def test_one_step_of_adapt_trains_both_towers_and_leaves_the_statistics_of_batch_norms(folder, pixels):
    encoder = encoders.load(str(folder), device="cpu")
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    batch = Batch(torch.arange(4), TEXTS, torch.eye(4, dtype=torch.bool), pixels[:4])
    adapt(encoder, lambda row: pixels[row], [batch], Settings(lr=1e-3, lr_projection=1e-2, weight_decay=0), lambda image: image)
    parameters = dict(encoder.model.named_parameters())
    same = {name for name, tensor in encoder.model.state_dict().items() if torch.equal(tensor, before[name])}
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")}
    assert statistics and same - statistics == {"logit_scale"}
    assert statistics <= same and not statistics & parameters.keys()


def test_a_model_of_such_an_encoder_is_saved_and_labels_elsewhere(folder, tmp_path, pixels, no_network):
    from torchvision.transforms.functional import to_pil_image

    images = [to_pil_image(image) for image in pixels]
    encoder = encoders.load(str(folder), device="cpu")
    settings = Settings(iterations=1, lr=1e-3, lr_projection=1e-3)
    result = run(encoder, images, ["bee", "owl"], settings, attributes=Bank.from_template(["bee", "owl"]), progress=False)
    assert result.encoder.weights_sha256 == encoder.weights_sha256
    kept_models.save(tmp_path / "model", result.encoder, Classifier.of(result), result.attributes, "# A card")
    (tmp_path / "model").rename(tmp_path / "moved")
    again, classifier = kept_models.load(tmp_path / "moved", device="cpu")
    torch.testing.assert_close(again.encode_images(pixels), result.features, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.encode_texts(TEXTS), result.encoder.encode_texts(TEXTS), atol=1e-6, rtol=0)
    assert torch.equal(again.tokens(TEXTS), encoder.tokens(TEXTS)) and classifier.class_names == ("bee", "owl")
    assert str(folder) not in "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "moved").glob("*.json"))


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "transformers" else find(name, *rest))
    with pytest.raises(weights.MissingWeights, match=r"made: its text tower .* not installed; `pip install '\.\[pocket\]'`"):
        encoders.load(str(folder), device="cpu")


def test_what_a_copy_lacks_is_named(folder, tmp_path):
    for file, words in (("config.json", "config.json, which describes its text tower, is missing"), ("tokenizer.json", "tokenizer.json")):
        copy = shutil.copytree(folder, tmp_path / file.partition(".")[0])
        (copy / file).unlink()
        with pytest.raises(weights.MissingWeights, match=words):
            encoders.load(str(copy), device="cpu")
    (copy := shutil.copytree(folder, tmp_path / "cut")) and (copy / "open_clip_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"cut/open_clip_model\.safetensors: damaged or cut off"):
        encoders.load(str(copy), device="cpu")


def test_open_clip_alone_refuses_the_folder_and_says_why(folder):
    """As docs/pocket.md says: a folder that it read without the head would give other features in silence."""
    with pytest.raises(TypeError, match="conse_nodes"):
        open_clip.create_model(f"local-dir:{folder}")
