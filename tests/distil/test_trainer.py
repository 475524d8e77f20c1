"""The trainer: the same run however often it is interrupted, what it learns, and what it refuses."""

import dataclasses
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from gta.checkpoints import Checkpoints
from gta.distil import students, trainer
from gta.distil.objectives import Hard, Soft
from gta.distil.rationales import Rationales
from gta.distil.trainer import Recipe, train, views
from gta.encoders.images import load_images
from gta.files import ROOT
from toy_teachers import teacher

RECIPE = Recipe(epochs=4, batch=16, flip=False, seed=1)


@pytest.fixture(scope="module")
def lesson(encoder, glyphs):
    """The teacher, pixels and soft labels of 30 glyphs."""
    taught = teacher(encoder)
    pixels = load_images(glyphs[0][:30], encoder, progress=False).pixels
    return taught, pixels, taught.label(pixels)


def student_of(lesson, objective=Soft, seed=0):
    student = students.named("teacher/10", lesson[0], seed=seed)
    torch.manual_seed(seed)  # of the objective's own maps
    return student, objective(lesson[0], student)


class Cut(Exception):
    """What ends a run."""


@pytest.mark.parametrize("objective", [Soft, Rationales])
def test_a_run_that_is_cut_after_any_epoch_ends_as_one_that_was_not(lesson, tmp_path, monkeypatch, objective):
    _, pixels, soft = lesson
    whole, goal = student_of(lesson, objective)
    history = train(whole, goal, pixels, soft, RECIPE, progress=False)
    save = trainer._Run.save
    for _ in range(RECIPE.epochs - 1):
        with monkeypatch.context() as patched:

            def once(*arguments):
                save(*arguments)
                raise Cut

            patched.setattr(trainer._Run, "save", once)
            with pytest.raises(Cut):
                train(*student_of(lesson, objective), pixels, soft, RECIPE, Checkpoints(tmp_path), progress=False)
    torch.rand(3)  # what the caller draws in between does not matter
    student, again = student_of(lesson, objective)
    assert train(student, again, pixels, soft, RECIPE, Checkpoints(tmp_path), progress=False) == history
    assert student.sha256 == whole.sha256
    if objective is Rationales:
        assert torch.equal(again.head.weight, goal.head.weight)


def test_another_recipe_seed_or_label_does_not_go_on_from_it(lesson, tmp_path):
    _, pixels, soft = lesson
    first, goal = student_of(lesson)
    train(first, goal, pixels, soft, RECIPE, Checkpoints(tmp_path), progress=False)
    other = dataclasses.replace(RECIPE, seed=2)
    for recipe, labels in ((other, soft), (RECIPE, soft.flip(1))):
        found, fresh = ({}, {})
        for name, state in (("kept", Checkpoints(tmp_path)), ("fresh", None)):
            student, goal = student_of(lesson)
            train(student, goal, pixels, labels, recipe, state, progress=False)
            (found if name == "kept" else fresh)["sha"] = student.sha256
        assert found == fresh and found["sha"] != first.sha256


def test_each_objective_learns_what_the_teacher_says(lesson):
    pixels, soft = (of[:10] for of in lesson[1:])
    recipe = Recipe(epochs=80, batch=10, lr=3e-3, flip=False)
    for objective in (Soft, Hard):
        student, goal = student_of(lesson, objective)
        before = (student.label(pixels).argmax(1) == soft.argmax(1)).double().mean().item()
        history = train(student, goal, pixels, soft, recipe, progress=False)
        after = (student.label(pixels).argmax(1) == soft.argmax(1)).double().mean().item()
        assert history[-1]["loss"] < 0.5 * history[0]["loss"] and after > max(0.7, before), (objective, before, after)
        assert not student.training


def test_the_learning_rate_rises_then_falls_along_a_cosine():
    recipe = Recipe(warm=0.1)
    assert [round(recipe.share_of_lr(share), 6) for share in (0, 0.05, 0.1, 0.55, 1)] == [0, 0.5, 1, 0.5, 0]


def test_the_learning_rate_is_that_of_the_kind_of_student(lesson):
    student, goal = student_of(lesson)
    rates = [trainer._Run(student, goal, RECIPE).lr, trainer.usual_lr(students.named("test_resnet", lesson[0]))]
    student.started = True
    rates += [trainer._Run(student, goal, recipe).lr for recipe in (RECIPE, Recipe(lr=0.5))]
    assert rates == [trainer.FRESH, trainer.NORMALISED, trainer.TUNED, 0.5]


class Told(nn.Module):
    """An objective with stages and a map of its own; the map counts in the first half alone."""

    def __init__(self, student):
        super().__init__()
        self.student, self.map, self.shares = student, nn.Parameter(torch.ones(1)), []
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def at(self, share):
        self.shares.append(share)

    def forward(self, images, soft):
        logits = self.student(images)
        return {"all": (logits * (self.map if self.shares[-1] < 0.5 else 1.0)).square().mean()}


def test_an_objective_is_told_its_share_and_its_own_map_is_learnt(lesson, tmp_path):
    _, pixels, soft = lesson
    student = students.named("teacher/10", lesson[0])
    goal = Told(student)
    train(student, goal, pixels, soft, RECIPE, Checkpoints(tmp_path), progress=False)
    assert goal.shares == [0, 0.25, 0.5, 0.75] and goal.map.item() != 1 and goal.frozen.item() == 1
    assert train(student, Told(student), pixels, soft, RECIPE, progress=False)


def test_views_depend_on_the_seed_alone_and_flips_can_be_left_out():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, :, 4:] = 255
    for flip in (True, False):
        torch.manual_seed(0)
        drawn = [views(8, flip)(image) for _ in range(20)]
        torch.manual_seed(0)
        assert all(torch.equal(view, views(8, flip)(image)) for view in drawn)
        mirrored = sum(bool(view[..., :2].sum() > view[..., -2:].sum()) for view in drawn)
        assert mirrored > 3 if flip else mirrored == 0
        assert drawn[0].shape == image.shape and drawn[0].dtype == torch.uint8


def test_labels_that_do_not_fit_and_a_loss_that_is_no_number_are_refused(lesson):
    _, pixels, soft = lesson
    student, goal = student_of(lesson)
    for wrong in (soft[:-1], soft[:, :-1], 2 * soft):
        with pytest.raises(ValueError, match="a row for each image is needed, which sums to 1"):
            train(student, goal, pixels, wrong, RECIPE, progress=False)
    with torch.no_grad():
        student.head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"the loss is nan: soft nan; a lower lr helps"):
        train(student, goal, pixels, soft, RECIPE, progress=False)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": float("nan")}])
def test_a_recipe_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"--epochs|--lr"):
        Recipe(**wrong)


def test_a_last_batch_of_one_image_is_no_trouble(lesson):
    _, pixels, soft = lesson
    student = students.named("test_resnet", lesson[0])  # batch normalisation over 1 x 1 maps
    small = nn.functional.interpolate(pixels[:3].float(), (student.size,) * 2).to(torch.uint8)
    assert len(train(student, Soft(None, student), small, soft[:3], Recipe(epochs=1, batch=2, flip=False), progress=False)) == 1


@pytest.mark.slow
def test_a_distillation_that_is_killed_goes_on(tmp_path):
    """kill -9 at three moments; the weights are those of a run that nothing ended."""
    for name, kills in (("whole", 0), ("cut", 3)):
        command = [sys.executable, str(ROOT / "tests/killed_student.py"), str(tmp_path / name)]
        for count in range(1, kills + 1):
            with subprocess.Popen(command, cwd=ROOT / "tests", stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and _done(tmp_path / name) < 2 * count:
                    time.sleep(0.01)
                assert process.poll() is None, "it ended before it was killed"
                process.kill()
        subprocess.run(command, cwd=ROOT / "tests", check=True)
    assert (tmp_path / "whole/sha256").read_text(encoding="utf-8") == (tmp_path / "cut/sha256").read_text(encoding="utf-8")


def _done(folder):
    return max((int(file.name[:6]) + 1 for file in (folder / "state").glob("[0-9]*.json")), default=0)
