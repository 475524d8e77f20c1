"""The second view by a name: timm's architectures with random weights, read as timm reads them, and what is refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from gta import encoders
from gta.encoders import hub as gta_hub
from gta.encoders import vision
from gta.encoders.images import UnreadableImages, load_images
from gta.encoders.vision import load_view, view_features
from gta.worlds import aviary
from hub import played, point
from small import counted

SMALL = {  # architecture, and what makes it small: class tokens with and without registers, a mean over maps, with and without classes
    "vit_tiny_patch16_224": {"img_size": 48, "depth": 1, "num_classes": 0},
    "vit_small_patch14_reg4_dinov2": {"img_size": 28, "depth": 1, "num_classes": 0},
    "vit_small_patch16_dinov3": {"img_size": 32, "depth": 1, "num_classes": 0},
    "test_resnet": {},
    "resnet18": {"num_classes": 7},
}


def saved(folder, architecture="test_resnet", pretrained_cfg=None, **options):
    """A folder as timm writes it, with random weights."""
    torch.manual_seed(0)
    model = timm.create_model(architecture, **(options or SMALL[architecture]))
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    if pretrained_cfg:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["pretrained_cfg"] |= pretrained_cfg
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def photo(tmp_path, rng):
    """A JPEG with edges, not square."""
    array = np.repeat(np.repeat(rng.integers(0, 256, (30, 44, 3), dtype=np.uint8), 7, 0), 9, 1)
    Image.fromarray(array).save(tmp_path / "photo.jpg", quality=90)
    return tmp_path / "photo.jpg"


def test_images_are_read_as_timm_reads_them(tmp_path, photo):
    crops = [
        {},
        {"crop_pct": 0.5},
        {"crop_mode": "squash"},
        {"crop_mode": "border"},
        {"interpolation": "bilinear", "input_size": [3, 96, 64]},
    ]
    for number, changes in enumerate(crops):
        folder = saved(tmp_path / str(number), pretrained_cfg={**changes, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
        view, stock = load_view(str(folder), device="cpu"), timm.create_model(f"local-dir:{folder}", pretrained=True)
        transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=stock), is_training=False)
        mean, std = (torch.tensor(of).view(3, 1, 1) for of in (view.mean, view.std))
        pixels = load_images([photo], view).pixels[0]
        torch.testing.assert_close((pixels / 255 - mean) / std, transform(Image.open(photo)), atol=1e-6, rtol=1e-5)
        assert view.image_size == max(pixels.shape[1:])


@pytest.mark.parametrize(
    ("tag", "size", "crop"), [("vit_small_patch16_dinov3.lvd1689m", 256, 1.0), ("resnet50.a1_in1k", 224, 0.95), ("test_vit", 160, 0.95)]
)
def test_a_tag_brings_its_own_resolution_and_crop(tag, size, crop):
    view = vision.untrained(f"timm:{tag}", "cpu")
    assert view.image_size == size and json.loads(view.preprocessing)["crop_pct"] == crop


@pytest.mark.parametrize("architecture", SMALL)
def test_features_are_the_pooled_output_without_classes(tmp_path, rng, architecture):
    folder = saved(tmp_path / "m", architecture)
    view = load_view(str(folder), device="cpu")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 3, view.image_size, view.image_size), dtype=np.uint8))
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (view.mean, view.std))
    with torch.no_grad():
        expected = F.normalize(model((pixels / 255 - mean) / std))
    found = view.encode_images(pixels, batch_size=2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    assert found.std(0).max() > 1e-4, "images differ"


def test_a_folder_that_moved_is_the_same_view_and_other_pooling_another(tmp_path, photo, monkeypatch):
    folder = saved(tmp_path / "one")
    shutil.copytree(folder, tmp_path / "two")
    other = saved(tmp_path / "three", global_pool="max")
    one, two, three = (load_view(str(tmp_path / name), device="cpu") for name in ("one", "two", "three"))
    assert one.weights_sha256 == two.weights_sha256 != three.weights_sha256
    assert load_file(folder / "model.safetensors").keys() == load_file(other / "model.safetensors").keys()
    calls, given = counted(monkeypatch), {"store": tmp_path / "store", "kept": tmp_path / "kept"}
    found = [view_features(view, [photo], ["photo.jpg"], **given) for view in (one, two, three)]
    assert calls == [1, 1] and torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])
    torch.testing.assert_close(view_features(one, [photo], ["photo.jpg"]), found[0])


class Code:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def no_pickle(folder):
    """A pickle that writes a file when it is read, in place of the weights."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code(folder / "run")))


def pickle_by_another_name(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Code(folder / "run")))


def cut(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])


def part(folder):
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("layer4")}, folder / "model.safetensors")


def described(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_pickle, r"no model\.safetensors; pytorch_model\.bin is a pickle, which may run code when it is read\. `timm\.models\.save_for"),
        (pickle_by_another_name, r"model\.safetensors: damaged or cut off, or no checkpoint: \d+ bytes\. Copy or fetch it again\."),
        (cut, r"model\.safetensors: damaged or cut off, or no checkpoint: 5,000 bytes"),
        (part, r"model\.safetensors: not the weights of .*, but of another architecture: Missing key"),
        (lambda folder: (folder / "config.json").unlink(), r"a folder without config\.json; `timm\.models\.save_for_hf` writes it"),
        (lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"), r"config\.json: damaged"),
        (described(architecture="test_resnot"), r"no architecture of timm: 'test_resnot'; did you mean 'test_resnet'\?"),
        (described(architecture=None, model_type="dinov2"), r"config\.json: a model of transformers \(dinov2\)"),
        (described(model_args={"depths": 3}), r"cannot be built by timm .*: TypeError"),
    ],
)
def test_a_folder_that_is_no_view_is_told_by_file(tmp_path, damage, message):
    folder = saved(tmp_path / "m")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_view(str(folder), device="cpu")
    assert not (folder / "run").exists(), "nothing ran"


@pytest.mark.parametrize("options", [{"in_chans": 1}, {"global_pool": ""}])
def test_a_model_that_gives_no_row_for_a_colour_image_is_refused(tmp_path, options):
    folder = saved(tmp_path / "m", num_classes=0, **options)
    with pytest.raises(ValueError, match=rf"view '{folder}' gives \(1, .*\) of an image \(\d, 160, 160\), not a row \(1, d\) of RGB"):
        load_view(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_small_patch14_dinov3.lvd142m", "did you mean 'vit_small_patch14_dinov2.lvd142m'?"),
        ("resnet50.a1_in2k", "did you mean 'resnet50.a1_in1k'?"),
        ("timm:lvd142m", "models with 'lvd142m' in their names: vit_base_patch14_dinov2.lvd142m, "),
        ("embeded", "did you mean 'embedded'?"),
        ("{home}/gone", "view '{home}/gone': no such folder"),
        ("ViT-B/16", "view 'ViT-B/16': no such folder"),
        ("{home}/photo.jpg", "view '{home}/photo.jpg' is a file; features:{home}/photo.jpg reads features"),
        ("gcvit_base.in1k", "timm knows no weights of gcvit_base.in1k on the Hub; or name a folder"),
        ("features:{home}/f.csv", "{home}/f.csv: features are read from .safetensors or .npy, not from '.csv'"),
        ("features:{home}/f.npy", "{home}/f.npy: no such file; a row of f.npy is the image that the same line of f.txt names"),
    ],
)
def test_a_name_that_is_no_view_is_told_without_asking_the_hub(tmp_path, photo, monkeypatch, name, said):
    monkeypatch.setattr(gta_hub, "hf_hub_download", lambda *_, **__: pytest.fail("the Hub is asked"))
    for check in (vision.check_view, load_view):
        with pytest.raises(ValueError) as error:
            check(name.format(home=tmp_path))
        assert said.format(home=tmp_path) in str(error.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with played(monkeypatch, tmp_path / "cache") as server:
        yield server


WEIGHTS = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


def test_weights_of_a_tag_come_from_its_repository(hub, tmp_path, monkeypatch):
    folder = saved(tmp_path / "m")
    hub.files[WEIGHTS] = (folder / "model.safetensors").read_bytes()
    view = load_view("timm:test_resnet", device="cpu")
    commit = view.name.partition("@")[2]
    assert view.name == f"test_resnet.r160_in1k@{commit}" and view.source == f"timm/test_resnet.r160_in1k@{commit}/model.safetensors"
    state, stored = view.model.state_dict(), load_file(folder / "model.safetensors")
    assert all(torch.equal(state[name], stored[name]) for name in state) and stored.keys() - state.keys() == {"fc.weight", "fc.bias"}
    asked = len(hub.log)
    point(monkeypatch, "http://127.0.0.1:9")
    again = load_view(view.name, device="cpu")
    assert again.weights_sha256 == view.weights_sha256 and len(hub.log) == asked, "a commit that the cache holds needs no Hub"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "GatedRepo", "Access is restricted."), "Its owner gives access to accounts: ask for it at {hub}/timm/test_resnet.r160_in1k"),
        ((404, "RepoNotFound", "Repository not found"), "Check OWNER/REPOSITORY letter by letter"),
        ((404, "EntryNotFound", ""), "The repository has no such file; it lists its files at"),
        ((503, "", ""), "The Hub is busy or out of order"),
    ],
)
def test_what_the_hub_answers_is_told_with_its_mend(hub, answer, said):
    hub.answers["/timm/"] = answer
    with pytest.raises(gta_hub.MissingWeights) as error:
        load_view("test_resnet.r160_in1k", device="cpu")
    start = f"model.safetensors of timm/test_resnet.r160_in1k at revision main: {hub.url}{WEIGHTS} answered {answer[0]}"
    assert str(error.value).startswith(start) and said.format(hub=hub.url) in str(error.value)


def test_a_hub_that_cannot_be_reached_leaves_a_folder(hub, monkeypatch):
    point(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(
        gta_hub.MissingWeights, match=r"`hf download timm/test_resnet\.r160_in1k model\.safetensors --revision v2`.* or name a f"
    ):
        load_view("test_resnet.r160_in1k@v2", device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(gta_hub.MissingWeights, match="offline mode is on"):
        load_view("test_resnet.r160_in1k", device="cpu")


def test_embedded_is_the_image_tower_of_the_next_seed(encoder, glyphs):
    for seed, following in ((0, 1), (4, 0)):
        view, whole = load_view("embedded", seed=seed, device="cpu"), encoders.load("embedded", seed=following, device="cpu")
        pixels = load_images(glyphs[0][:7], view).pixels
        assert torch.equal(view.encode_images(pixels), whole.encode_images(pixels)) and view.dtype == torch.float64
        assert not hasattr(view, "encode_texts")
    bird = load_view("embedded", embedded=aviary.ENCODERS, device="cpu")
    assert bird.weights_sha256 not in {load_view("embedded", seed=seed, device="cpu").weights_sha256 for seed in range(5)}


def ready(folder, features, names, suffix=".safetensors"):
    file = folder / f"mine{suffix}"
    save_file({"features": features}, file) if suffix == ".safetensors" else np.save(file, features.numpy())
    file.with_suffix(".txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return f"features:{file}"


@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
def test_ready_features_are_found_by_name_and_set_to_unit_norm(tmp_path, suffix):
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]], dtype=torch.float16)
    view = load_view(ready(tmp_path, features, ["a.png", "deep/möwe.png", "c.png"], suffix))
    found = view_features(view, [object(), object()], ["deep/möwe.png", "a.png"])
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    with pytest.raises(ValueError, match=r"no features of 6 of 7 images: '0', '1', '2', '3', '4' and 1 more\. mine\.txt names images as"):
        view_features(view, [object()] * 7, [*"012345", "c.png"])


@pytest.mark.parametrize(
    ("features", "names", "said"),
    [
        (torch.ones(3, 2), ["a", "b"], "3 rows for the 2 names in mine.txt"),
        (torch.ones(0, 2), [], "0 rows for the 0 names"),
        (torch.ones(3), ["a", "b", "c"], "features are floats (N, d), a row for each image, not torch.float32 (3,)"),
        (torch.ones(2, 2, dtype=torch.int32), ["a", "b"], "not torch.int32 (2, 2)"),
        (
            torch.tensor([[1, 1], [1, float("nan")], [float("inf"), 1]]),
            ["a", "b", "c"],
            "row 1, of 'b', is not finite (2 such rows)",
        ),
        (torch.tensor([[0.0, 0.0], [1.0, 1.0]]), ["a", "b"], "row 0, of 'a', is all zero"),
        (torch.ones(3, 2), ["a", "b", "a"], "mine.txt: lines 1 and 3 are both 'a'"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
def test_ready_features_that_cannot_be_right_are_told(tmp_path, features, names, said, suffix):
    name = ready(tmp_path, features, names, suffix)
    with pytest.raises(ValueError) as error:
        load_view(name)
    assert str(error.value).startswith(str(tmp_path)) and said in str(error.value)


def test_a_file_of_objects_or_of_other_tensors_is_refused(tmp_path):
    name = ready(tmp_path, torch.ones(1, 2), ["a"], ".npy")
    np.save(tmp_path / "mine.npy", np.array([Code(tmp_path / "run")]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"mine\.npy: damaged, or no array of numbers: .*allow_pickle"):
        load_view(name)
    assert not (tmp_path / "run").exists()
    save_file({"embeddings": torch.ones(1, 2)}, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=r"mine\.safetensors: no tensor 'features' in it; it holds embeddings"):
        load_view(f"features:{tmp_path}/mine.safetensors")
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(ValueError, match=r"mine\.txt: no such file"):
        vision.check_view(f"features:{tmp_path}/mine.safetensors")


def test_an_image_that_cannot_be_read_is_named(tmp_path, photo):
    (tmp_path / "torn.jpg").write_bytes(photo.read_bytes()[:300])
    with pytest.raises(UnreadableImages, match=r"torn\.jpg"):
        view_features(load_view(str(saved(tmp_path / "m")), device="cpu"), [photo, tmp_path / "torn.jpg"], ["a", "b"])
