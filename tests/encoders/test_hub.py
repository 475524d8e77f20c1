"""What a user reads where the Hub, its cache or the way to it fails: what was asked, what was answered, and a mend that is true."""

import json
from pathlib import Path

import open_clip
import pytest
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save

from gta.__main__ import main
from hub import played, point
from small import TINY

CONFIG = json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}).encode()
TOKEN = "`hf auth login`, or the variable HF_TOKEN, says who asks"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with played(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def label(tmp_path, capsys):
    """`gta label` with an encoder: its exit code, and what it says."""
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (80 * i, 90, 200)).save(tmp_path / f"images/{i}.png")
    (tmp_path / "classes.txt").write_text("crane\nheron", encoding="utf-8")

    def run(encoder, *more):
        words = ["label", tmp_path / "images", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "out", "--iterations", 1]
        code = main([str(word) for word in (*words, "--device", "cpu", "--encoder", encoder, *more)])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (401, "GatedRepo", "Access to model o/birds is restricted."),
            "401 GatedRepo: Access to model o/birds is restricted. Its owner gives access to accounts: ask for it at {hub}/o/birds; then "
            + TOKEN,
        ),
        ((403, "GatedRepo", "You are not in the list."), "403 GatedRepo: You are not in the list. Its owner gives access to accounts"),
        ((401, "RepoNotFound", "Repository not found"), f"Check OWNER/REPOSITORY letter by letter; if it is private, {TOKEN}"),
        ((404, "RepoNotFound", "Repository not found"), "404 RepoNotFound: Repository not found. Check OWNER/REPOSITORY letter by letter"),
        ((401, "", "Invalid credentials in Authorization header"), "The token that was sent is not valid: log in again"),
        (
            (403, "", "Your token lacks a permission"),
            "403 Forbidden: Your token lacks a permission. The token that was sent may not read it",
        ),
        ((503, "", ""), "503 Service Unavailable. The Hub is busy or out of order: the same command works later"),
        ((407, "", ""), "No Hub answers so. Check the connection, the proxy (HTTPS_PROXY) and the address of the Hub (HF_ENDPOINT)"),
    ],
)
def test_an_answer_of_the_hub_is_told_with_its_mend(hub, label, answer, said):
    hub.answers["/o/birds/"] = answer
    code, told = label("hf-hub:o/birds")
    asked = f"open_clip_config.json of o/birds at revision main: {hub.url}/o/birds/resolve/main/open_clip_config.json answered {answer[0]}"
    assert code == 1 and told.startswith(asked) and said.format(hub=hub.url) in told
    assert "pretrained=FILE" not in told and "neither" not in told


def test_a_wrong_revision_is_told_with_where_the_right_ones_are(hub, label):
    hub.answers["/o/birds/resolve/v9"] = (404, "RevisionNotFound", "Invalid rev id: v9")
    code, told = label("hf-hub:o/birds", "--revision", "v9")
    mend = f"`revision` is a branch, a tag or a commit; {hub.url}/o/birds/commits/main lists them, and without it `main` is read"
    assert code == 1 and "at revision v9" in told and f"404 RevisionNotFound: Invalid rev id: v9. {mend}" in told


def test_a_repository_of_transformers_is_told_what_it_lacks(hub, label):
    hub.files["/openai/clip/resolve/main/config.json"] = json.dumps({"model_type": "clip"}).encode()
    code, told = label("hf-hub:openai/clip")
    said = "It is a model of transformers (clip): it lacks open_clip_config.json, and open_clip has other names for its weights."
    assert code == 1 and "404 EntryNotFound" in told and said in told and "OpenAI's are ViT-B/32, ViT-B/16, ViT-L/14" in told
    code, told = label("hf-hub:openai/dataset")
    assert code == 1 and "An encoder is a repository of open_clip, which has open_clip_config.json" in told


def test_a_repository_without_weights_is_told_which_were_looked_for(hub, label):
    hub.files["/o/birds/resolve/main/open_clip_config.json"] = CONFIG
    code, told = label("hf-hub:o/birds")
    assert code == 1 and "open_clip_model.safetensors or open_clip_pytorch_model.bin of o/birds at revision main" in told
    assert f"The repository has no such file; it lists its files at {hub.url}/o/birds/tree/main" in told


def test_a_tag_that_cannot_be_reached_may_be_given_as_a_file(hub, label, monkeypatch):
    point(monkeypatch, "http://127.0.0.1:9")
    code, told = label("ViT-B/32")
    url = "http://127.0.0.1:9/timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors"
    assert code == 1 and f"not in the cache ({constants.HF_HUB_CACHE}), and {url} failed: " in told and "refused" in told
    assert "`hf download timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors`, and carry the cache here; or fetch" in told
    assert "give `openai=FILE` as `pretrained`" in told


def test_offline_mode_is_told_as_such(hub, label, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, told = label("hf-hub:o/birds")
    assert code == 1 and f"not in the cache ({constants.HF_HUB_CACHE}), and offline mode is on. Unset HF_HUB_OFFLINE" in told
    assert not hub.log


def test_a_cache_that_cannot_be_written_is_told_with_what_moves_it(hub, label, tmp_path, monkeypatch):
    (tmp_path / "cache").write_bytes(b"")
    hub.files["/o/birds/resolve/main/open_clip_config.json"] = CONFIG
    code, told = label("hf-hub:o/birds")
    assert code == 1 and "the cache of the Hub cannot be used: " in told and "Not a directory" in told
    assert f"Set HF_HUB_CACHE to a folder that can be written, now {tmp_path / 'cache'}" in told


def test_a_download_that_is_always_cut_is_told(hub, label, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.files["/o/birds/resolve/main/open_clip_config.json"] = CONFIG
    hub.cuts = [10] * 99
    code, told = label("hf-hub:o/birds")
    assert code == 1 and "open_clip_config.json of o/birds at revision main" in told and "failed: peer closed connection" in told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf-hub:a b/c", "no name of a repository. Repo id must use alphanumeric chars"),
        ("hf-hub:one/two/three", "A repository of the Hub is hf-hub:OWNER/REPOSITORY"),
        ("laion/CLIP-ViT-B-32", "unknown backbone 'laion/CLIP-ViT-B-32'; a repository of the Hub is hf-hub:laion/CLIP-ViT-B-32"),
    ],
)
def test_a_name_of_no_repository_is_told_without_asking(hub, label, name, said):
    code, told = label(name)
    assert code == 1 and said in told and not hub.log


def test_what_the_cache_holds_is_used_though_the_hub_refuses(hub, label, monkeypatch):
    for name, content in (("open_clip_config.json", CONFIG), ("open_clip_model.safetensors", save(open_clip.CLIP(**TINY).state_dict()))):
        hub.files[f"/o/birds/resolve/main/{name}"] = content
    assert label("hf-hub:o/birds")[0] == 0
    hub.answers["/o/birds/"] = (401, "GatedRepo", "")
    assert label("hf-hub:o/birds")[0] == 0
    snapshot = next(Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/open_clip_model.safetensors"))
    snapshot.resolve().write_bytes(b"")
    code, told = label("hf-hub:o/birds")
    assert code == 1 and f"{snapshot}: damaged or cut off, or no checkpoint: 0 bytes" in told
    assert "`hf download o/birds open_clip_model.safetensors --force-download` fetches it again" in told
