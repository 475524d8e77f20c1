"""Students by name: their size, how they read images, what they start from, and the folder that they are kept in."""

import json

import open_clip
import pytest
import timm
import torch

from gta import encoders
from gta.distil import architectures, students
from gta.distil.students import named
from gta.encoders.images import load_images
from gta.worlds import aviary
from small import TINY
from toy_teachers import teacher


@pytest.fixture(scope="module")
def taught(encoder):
    return teacher(encoder)


@pytest.fixture(scope="module")
def birds():
    return encoders.load("embedded", seed=0, device="cpu", embedded=aviary.ENCODERS)


@pytest.mark.parametrize("share", [4, 10])
def test_a_share_of_the_teacher_is_at_most_that_and_the_next_width_is_more(encoder, birds, taught, share):
    for of, step in ((encoder, 3), (birds, 1)):
        whole = sum(p.numel() for p in of.model.visual.parameters())
        found = architectures.smaller(of.config, 1 / share, 32)
        width = found["open_clip"]["vision_cfg"]["width"]
        wider = json.loads(json.dumps(found))
        wider["open_clip"]["vision_cfg"] |= {"width": width + step, "head_width": (width + step) // 3 if step == 3 else 32}
        sizes = []
        for described in (found, wider):
            tower = architectures.build(described)
            features = tower.eval()(torch.zeros(1, 3, of.image_size, of.image_size)).shape[1]
            sizes.append(architectures.size_of(tower) + (features + 1) * 32)
        assert sizes[0] <= whole / share < sizes[1]
    assert named(f"teacher/{share}", taught).parameter_count <= sum(p.numel() for p in encoder.model.visual.parameters()) / share


def test_a_smaller_transformer_has_half_of_the_layers_and_as_many_heads(encoder, taught):
    tower, whole = named("teacher/4", taught).tower, encoder.model.visual
    assert len(tower.transformer.resblocks) == len(whole.transformer.resblocks) // 2
    assert tower.transformer.resblocks[0].attn.num_heads == whole.transformer.resblocks[0].attn.num_heads
    assert tower.positional_embedding.shape[0] == whole.positional_embedding.shape[0], "as many tokens"


def test_a_teacher_of_timm_and_a_share_too_small_are_refused_with_a_mend(birds):
    with pytest.raises(ValueError, match="a tower of vit_x is not made narrower here; name a student of timm"):
        architectures.smaller({"embed_dim": 8, "vision_cfg": {"timm_model_name": "vit_x"}}, 0.25, 10)
    with pytest.raises(ValueError, match=r"teacher/1000: even the narrowest tower with its head has [\d,]+ parameters, not 539"):
        architectures.smaller(birds.config, 1 / 1000, 10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet81", "student 'resnet81'; did you mean 'resnet"),
        ("teacher/x", "after teacher/ stands how many times smaller"),
        ("teacher/1", "after teacher/ stands how many times smaller"),
        ("teacher/nan", "after teacher/ stands how many times smaller"),
    ],
)
def test_an_unknown_name_is_refused(taught, name, said):
    with pytest.raises(ValueError, match=said):
        named(name, taught)


def test_what_reads_images_is_the_students_own_and_the_teacher_sees_the_same_picture(encoder, taught, glyphs):
    student = named("test_vit", taught)
    assert (student.size, student.described, student.started) == (160, {"timm": "test_vit"}, False)
    pixels = load_images(glyphs[0][:3], student.reader, progress=False).pixels
    assert pixels.shape == (3, 3, 160, 160)
    images = student.normalised(pixels)
    own = timm.data.resolve_data_config({}, model=student.tower)
    torch.testing.assert_close(images[:, 1], (pixels[:, 1].float() / 255 - own["mean"][1]) / own["std"][1])
    seen = student.seen_by(encoder, images)
    assert seen.shape == (3, 3, 32, 32)
    held = load_images(glyphs[0][:3], encoder, progress=False).pixels.float() / 255
    apart = (seen * 0.35 + 0.3 - held).abs().mean().item()  # mean and std of the embedded encoder
    assert apart < 0.02, "up and down again it is the picture that the teacher would store"
    same = named("teacher/4", taught)
    small = load_images(glyphs[0][:3], encoder, progress=False).pixels
    torch.testing.assert_close(same.seen_by(encoder, same.normalised(small)), same.normalised(small), atol=1e-5, rtol=0)


def test_the_same_seed_is_the_same_student_and_the_callers_random_numbers_stay(taught):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (named("teacher/10", taught, seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert first.sha256 == again.sha256 != other.sha256


def test_a_kept_student_is_the_same_one(taught, glyphs, encoder, tmp_path):
    student = named("test_resnet", taught, seed=3)
    student.tower(torch.rand(4, 3, student.size, student.size))  # moves its running statistics
    student.save(tmp_path)
    again = students.load(tmp_path)
    pixels = load_images(glyphs[0][:5], student.reader, progress=False).pixels
    torch.testing.assert_close(student.label(pixels), again.label(pixels), atol=1e-6, rtol=1e-5)
    assert (again.name, again.sha256) == ("test_resnet", student.sha256)
    torch.testing.assert_close(student.label(pixels).sum(1), torch.ones(5))
    onward = named(str(tmp_path), taught)
    assert onward.started and torch.equal(onward.head.weight, student.head.weight)


def test_a_student_starts_from_folders_of_timm_and_of_open_clip(taught, tmp_path):
    model = timm.create_model("test_vit", num_classes=7)
    timm.models.save_for_hf(model, tmp_path / "timm", safe_serialization=True)
    student = named(str(tmp_path / "timm"), taught)
    assert torch.equal(student.tower.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight) and student.started
    student.save(tmp_path / "kept")
    assert students.load(tmp_path / "kept").sha256 == student.sha256


def test_an_architecture_of_open_clip_starts_from_random_weights(taught, monkeypatch):
    monkeypatch.setattr(open_clip, "list_models", lambda: ["Tiny"])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: TINY)
    student = named("Tiny", taught)
    assert (student.size, student.head.in_features, student.started) == (32, 16, False)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "facts"])
def test_a_damaged_student_is_named(taught, tmp_path, damage):
    student = named("teacher/10", taught)
    student.save(tmp_path)
    weights, facts = tmp_path / students.WEIGHTS, tmp_path / students.FACTS
    if damage == "missing":
        weights.unlink()
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-9])
    if damage == "other":
        named("teacher/4", taught).save(tmp_path / "b")
        weights.write_bytes((tmp_path / "b" / students.WEIGHTS).read_bytes())
    if damage == "facts":
        facts.write_text(facts.read_text(encoding="utf-8").replace('"open_clip"', '"open_clop"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"student\.(json|safetensors)"):
        students.load(tmp_path)
