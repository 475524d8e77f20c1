"""Weights by name, tag, file, folder and Hub repository, on small models in the real formats."""

import json
import pickle

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file

from gta import encoders
from gta.encoders import weights

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(monkeypatch):
    """A small architecture under a name of open_clip, with and without QuickGELU."""
    configs = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(configs, "ViT-B-32", TINY)
    monkeypatch.setitem(configs, "ViT-B-32-quickgelu", {**TINY, "quick_gelu": True})
    torch.manual_seed(3)
    return open_clip.CLIP(**TINY, quick_gelu=True)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The cache of the Hub, and no way to the Hub itself; returns how to put a file into it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository, revision, name, write):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        commit = "c0ffee" * 6 + revision[:4].ljust(4, "0")
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit, encoding="utf-8")
        (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        write(folder / "snapshots" / commit / name)
        return commit

    return put


def same(encoder, model):
    return all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in encoder.model.state_dict().items())


def test_openai_weights_are_quickgelu_and_come_from_safetensors(tiny, hub):
    commit = hub("timm/vit_base_patch32_clip_224.openai", "main", "open_clip_model.safetensors", lambda f: save_file(tiny.state_dict(), f))
    encoder = encoders.load("ViT-B/32", device="cpu")
    assert same(encoder, tiny)
    assert any(isinstance(module, QuickGELU) for module in encoder.model.modules())
    assert encoder.source == f"timm/vit_base_patch32_clip_224.openai@{commit}/open_clip_model.safetensors"
    with pytest.raises(ValueError, match=r"trained with QuickGELU, which 'ViT-B-32' is not: use ViT-B/32 or ViT-B-32-quickgelu"):
        encoders.load("ViT-B-32", pretrained="openai", device="cpu")


def test_a_revision_is_the_one_that_is_read(tiny, hub):
    other = open_clip.CLIP(**TINY, quick_gelu=True)
    repository = "timm/vit_base_patch32_clip_224.openai"
    hub(repository, "main", "open_clip_model.safetensors", lambda f: save_file(tiny.state_dict(), f))
    hub(repository, "v1", "open_clip_model.safetensors", lambda f: save_file(other.state_dict(), f))
    assert same(encoders.load("ViT-B/32", revision="v1", device="cpu"), other)
    assert same(encoders.load("ViT-B/32", device="cpu"), tiny)


def test_what_is_missing_is_named_with_where_to_put_it(tiny, hub):
    with pytest.raises(weights.MissingWeights) as error:
        encoders.load("ViT-B/32", revision="abc", device="cpu")
    message = str(error.value)
    for part in ("open_clip_model.safetensors", "timm/vit_base_patch32_clip_224.openai", "revision abc", "hf download", "`openai=FILE`"):
        assert part in message


def test_the_real_openai_names_are_quickgelu():
    for name, architecture in weights.OPENAI.items():
        assert open_clip.get_model_config(architecture)["quick_gelu"] and "openai" in open_clip.list_pretrained_tags_by_model(architecture)
        assert name.replace("/", "-") in architecture


def test_a_checkpoint_file_is_read_without_running_it(tiny, tmp_path):
    save_file(tiny.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in tiny.state_dict().items()}}, tmp_path / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        assert same(encoders.load("ViT-B/32", pretrained=str(tmp_path / file), device="cpu"), tiny)

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(ValueError, match=r"evil\.pt: a file that would run code when it is read"):
        encoders.load("ViT-B/32", pretrained=str(tmp_path / "evil.pt"), device="cpu")
    assert not (tmp_path / "ran").exists()
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: not the weights"):
        encoders.load("ViT-B/32", pretrained=str(tmp_path / "other.safetensors"), device="cpu")


def test_a_folder_and_a_repository_bring_their_own_architecture(tiny, hub, tmp_path):
    config = json.dumps({"model_cfg": {**TINY, "quick_gelu": True}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}})
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(tiny.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")
    local = encoders.load(str(folder), device="cpu")
    assert same(local, tiny) and local.mean == (0.5, 0.5, 0.5) and local.image_size == 32
    for name, write in (
        ("open_clip_config.json", lambda f: f.write_text(config, encoding="utf-8")),
        ("open_clip_model.safetensors", lambda f: save_file(tiny.state_dict(), f)),
    ):
        commit = hub("somebody/birds", "v2", name, write)
    remote = encoders.load("hf-hub:somebody/birds", revision="v2", device="cpu")
    assert same(remote, tiny) and remote.source == f"somebody/birds@{commit}/open_clip_model.safetensors"
    assert remote.weights_sha256 == local.weights_sha256


def test_random_weights_are_those_of_their_seed(tiny):
    first, again, other = (encoders.load("ViT-B/32", pretrained="random", seed=seed, device="cpu") for seed in (0, 0, 1))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
