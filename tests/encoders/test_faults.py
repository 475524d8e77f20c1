"""Checkpoints and folders as people have them: what is wrong is told with the file and a true mend, what belongs to weights holds."""

import json
import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gta import encoders
from gta.__main__ import main
from gta.encoders import weights
from gta.files import sha256
from small import TINY

MOBILE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)


@pytest.fixture(autouse=True)
def state(monkeypatch):
    """Small weights, and architectures of open_clip that are as small."""
    for name in ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-L-14", "MobileCLIP-S1", "ViT-S-16"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, {**TINY, "quick_gelu": name.endswith("quickgelu")})
    torch.manual_seed(3)
    return open_clip.CLIP(**TINY).state_dict()


def load(name, file):
    return encoders.load(name, pretrained=str(file), device="cpu")


def empty(file, state):
    file.write_bytes(b"")


def text(file, state):
    file.write_text("<html>please log in</html>", encoding="utf-8")


def cut(file, state):
    save_file(state, file) if file.suffix == ".safetensors" else torch.save(state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other(file, state):
    save_file({"visual.proj": torch.zeros(2, 2)}, file)


def script(file, state):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))


def a_list(file, state):
    torch.save([1, 2], file)


def nothing(file, state):
    torch.save({}, file)


def objects(file, state):
    np.savez(file, weights=np.array([{"a": 1}], dtype=object))


def code(file, state):
    file.write_bytes(pickle.dumps({"state_dict": print}))


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("w.safetensors", cut, "damaged or cut off, or no checkpoint: "),
        ("w.safetensors", empty, "damaged or cut off, or no checkpoint: 0 bytes. Copy or fetch it again."),
        ("w.safetensors", text, "damaged or cut off, or no checkpoint: 26 bytes. Copy or fetch it again."),
        ("w.safetensors", other, "not the weights of ViT-B-32-quickgelu, but of another architecture: Missing key(s)"),
        ("w.pt", cut, "damaged or cut off, or no checkpoint: "),
        ("w.pt", empty, "damaged or cut off, or no checkpoint: 0 bytes. Copy or fetch it again."),
        ("w.pt", text, "damaged or cut off, or no checkpoint: 26 bytes."),
        ("w.pt", a_list, "damaged or cut off, or no checkpoint: "),
        ("w.pt", nothing, "damaged or cut off, or no checkpoint: "),
        ("w.pt", script, "a file that would run code when it is read (a TorchScript archive, or a pickle of more than tensors)"),
        ("w.pt", code, "a file that would run code when it is read"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_told_by_name(state, tmp_path, name, make, said):
    make(tmp_path / name, state)
    with pytest.raises(ValueError) as error:
        load("ViT-B/32", tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: {said}") and "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("encoder", "pretrained", "said"),
    [
        ("ViT-B/32", "{home}/cut.safetensors", "{home}/cut.safetensors: damaged or cut off, or no checkpoint: "),
        ("ViT-B/32", "{home}/gone.pt", "not '{home}/gone.pt' (no such file)"),
        ("ViT-B/32", "{home}", "not '{home}' (a folder)"),
        ("ViT-B/32", "opnai", "not 'opnai'; did you mean 'openai'?"),
        ("ViT-S-16", "openai", "'ViT-S-16' needs pretrained weights: a checkpoint file, since open_clip names none, not 'openai'"),
        ("{home}/cut.safetensors", None, "is a file; name its architecture, such as ViT-B/16, and give the file as `pretrained`"),
        ("{home}/gone", None, "encoder '{home}/gone': no such folder"),
        (
            "{home}/images",
            None,
            "a folder without open_clip_config.json; it holds 0.png. A folder needs open_clip_config.json and",
        ),
        ("{home}/hf", None, "It is a model of transformers (siglip): it lacks open_clip_config.json"),
        (
            "{home}/bare",
            None,
            "bare: no weights beside open_clip_config.json; put open_clip_model.safetensors or open_clip_pytorch",
        ),
        ("{home}/torn", None, "torn/open_clip_config.json: damaged, or no architecture as open_clip describes it: Expecting"),
        ("{home}/part", None, "part/open_clip_config.json: damaged, or no architecture as open_clip describes it: 'text_cfg' is missing"),
        ("{home}/new", None, "new/open_clip_config.json describes no architecture that this version of open_clip can build, or open_clip_"),
        ("{home}/words", None, "words/tokenizer.json: damaged, no tokenizer in it: "),
        ("{home}/seeds", None, "seeds/seed0.safetensors: damaged or cut off: 0 bytes that are no whole safetensors file"),
        ("{home}/mute", None, "Its files, such as tokenizer.json and tokenizer_config.json, must lie in {home}/mute"),
        ("{home}/hf", "openai", "brings its own weights; leave `pretrained` ('openai') out"),
    ],
)
def test_the_command_tells_what_an_encoder_lacks(state, tmp_path, capsys, encoder, pretrained, said):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images/0.png")
    (tmp_path / "classes.txt").write_text("crane\nheron", encoding="utf-8")
    cut(tmp_path / "cut.safetensors", state)
    config = {"model_cfg": TINY, "preprocess_cfg": {}}
    for folder, name, content in (
        ("hf", "config.json", {"model_type": "siglip"}),
        ("bare", weights.CONFIG, config),
        ("part", weights.CONFIG, {"model_cfg": {"embed_dim": 16, "vision_cfg": {}}}),
        ("new", weights.CONFIG, {"model_cfg": {**TINY, "invented": 1}}),
        ("seeds", weights.CONFIG, config),
        ("mute", weights.CONFIG, {"model_cfg": {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "."}}}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(content), encoding="utf-8")
    for folder, name in (("torn", weights.CONFIG), ("words", "tokenizer.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("{", encoding="utf-8")
    for folder in ("new", "mute"):
        save_file(state, tmp_path / folder / "open_clip_model.safetensors")
    (tmp_path / "seeds/seed0.safetensors").write_bytes(b"")
    words = ["label", tmp_path / "images", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "out", "--device", "cpu"]
    more = ["--pretrained", pretrained.format(home=tmp_path)] if pretrained else []
    assert main([str(word) for word in (*words, "--encoder", encoder.format(home=tmp_path), *more)]) == 1
    assert said.format(home=tmp_path) in capsys.readouterr().err


def test_weights_in_a_file_are_read_as_their_tag_says(state, tmp_path, capsys):
    save_file(state, tmp_path / "mobileclip_s1.safetensors")
    mobile = load("MobileCLIP-S1", tmp_path / "mobileclip_s1.safetensors")
    assert (mobile.mean, mobile.std) == (MOBILE["mean"], MOBILE["std"]) and '"interpolation": "bilinear"' in mobile.preprocessing
    assert load("ViT-B/32", tmp_path / "mobileclip_s1.safetensors").mean == OPENAI_MEAN
    assert not capsys.readouterr().err, "all tags of both agree"


def test_a_file_in_the_folder_of_its_repository_is_that_of_the_tag(state, tmp_path, capsys):
    tags = open_clip.list_pretrained_tags_by_model("ViT-L-14")
    described = {tag: open_clip.get_pretrained_cfg("ViT-L-14", tag) for tag in tags}
    tag = next(tag for tag in tags if tuple(described[tag]["mean"]) != OPENAI_MEAN)
    owner, name = described[tag]["hf_hub"].strip("/").split("/")
    for folder in (name, f"models--{owner}--{name}/snapshots/abc"):
        (tmp_path / folder).mkdir(parents=True)
        save_file(state, tmp_path / folder / "open_clip_model.safetensors")
        assert load("ViT-L-14", tmp_path / folder / "open_clip_model.safetensors").mean == tuple(described[tag]["mean"])
    assert not capsys.readouterr().err


def test_a_file_is_known_by_its_bytes_and_by_its_name(state, tmp_path, monkeypatch, capsys):
    torch.save(state, tmp_path / "mine.pt")
    tag = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), "hf_hub": "", "mean": (0.1,) * 3, "quick_gelu": False}
    url = f"https://example.org/vit-b-{sha256(tmp_path / 'mine.pt')[:8]}.pt"
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32"], "mine", {**tag, "url": url})
    assert load("ViT-B-32", tmp_path / "mine.pt").mean == (0.1,) * 3
    torch.save({**state, "logit_scale": torch.tensor(2.0)}, tmp_path / "named-00000000.pt")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32"], "mine", {**tag, "url": "https://example.org/named-00000000.pt"})
    assert load("ViT-B-32", tmp_path / "named-00000000.pt").mean == (0.1,) * 3
    assert not capsys.readouterr().err


def test_what_is_unknown_of_a_file_is_told_with_how_to_say_it(state, tmp_path, capsys):
    file = tmp_path / "mine.safetensors"
    save_file(state, file)
    assert load("ViT-B-32", file).mean == OPENAI_MEAN
    said = capsys.readouterr().err
    assert f"{file}: read with quick_gelu False: tags of ViT-B-32 differ in them and none is known by this file." in said
    assert "`TAG=FILE` as `pretrained` says that it holds those of a tag (openai, " in said
    load("ViT-B-32", f"laion2b_s34b_b79k={file}")
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match=r"were trained with QuickGELU, which 'ViT-B-32' is not: use ViT-B/32"):
        load("ViT-B-32", f"openai={file}")
    load("ViT-S-16", file)
    said = capsys.readouterr().err
    assert f"read with mean {OPENAI_MEAN}, std " in said and "quick_gelu" in said
    assert "open_clip names no weights of ViT-S-16. A folder with the file and an open_clip_config.json says them" in said
    with pytest.raises(ValueError, match=r"not 'openai=.*gone.pt' \(no such file\)"):
        load("ViT-B-32", f"openai={tmp_path}/gone.pt")
