"""The uniform map, worked by hand, and students that are some layers of their teacher."""

import pytest
import torch
from test_taps import IMAGES, TOKENS, bert, clip, vit

from gta.distil.layers import fewer_layers, uniform
from gta.distil.taps import blocks


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(4, 12, (3, 6, 9, 12)), (3, 6, (2, 4, 6)), (2, 6, (3, 6)), (4, 6, (2, 3, 5, 6)), (1, 5, (5,)), (3, 3, (1, 2, 3))],
)
def test_the_map_is_uniform_and_the_last_layer_learns_from_the_last(student, teacher, expected):
    assert uniform(student, teacher) == expected


@pytest.mark.parametrize("student", [0, 5])
def test_a_student_has_at_least_one_layer_and_at_most_its_teachers(student):
    with pytest.raises(ValueError, match=f"a student of {student} layers and a teacher of 4"):
        uniform(student, 4)


@pytest.mark.parametrize("kind", ["image", "timm", "bert"])
def test_a_smaller_tower_is_its_teacher_with_other_blocks_passed_by(kind, monkeypatch):
    torch.manual_seed(0)
    if kind == "image":
        tower = clip().visual
        run = lambda it: it(IMAGES)  # noqa: E731
    elif kind == "timm":
        tower = vit(depth=4)
        run = lambda it: it(IMAGES.repeat(1, 1, 2, 2))  # noqa: E731
    else:
        tower = bert(num_hidden_layers=4)
        run = lambda it: it(input_ids=TOKENS).last_hidden_state  # noqa: E731
    tower.eval()
    whole = len(blocks(tower))
    smaller = fewer_layers(tower, whole // 2)
    assert len(blocks(smaller)) == whole // 2 and len(blocks(tower)) == whole
    before = run(tower).clone()
    with torch.no_grad():
        for parameter in fewer_layers(tower, 1).parameters():
            parameter.zero_()
    assert torch.equal(run(tower), before)
    kept = uniform(whole // 2, whole)
    for number, block in enumerate(blocks(tower), start=1):
        if number not in kept:
            monkeypatch.setattr(block, "forward", lambda x, *_, **__: x)
    assert torch.equal(run(smaller), run(tower)) and not torch.equal(run(smaller), before)
    if kind == "bert":
        assert smaller.config.num_hidden_layers == 2 and tower.config.num_hidden_layers == 4
