"""The command: from a kept model and a folder of digits to a student with its card and its graph, and what it says to bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gta import __main__ as program
from gta.distil import folder, students
from gta.distil.costs import FromPixels, costs
from gta.distil.trainer import Recipe
from gta.encoders.images import load_images
from gta.label import models, portable
from gta.worlds.glyphs import DIGITS
from toy_teachers import teacher


@pytest.fixture(scope="module")
def taught(encoder):
    return teacher(encoder)


@pytest.fixture(scope="module")
def run(encoder, glyphs, taught, tmp_path_factory):
    """What a run of `label --save-model` leaves: `images`, `run/model`; it has labelled nothing yet."""
    base = tmp_path_factory.mktemp("run")
    (base / "images").mkdir()
    for i, image in enumerate(glyphs[0][:40]):
        Image.fromarray(image).save(base / f"images/{i:02d}.png")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(portable, "write", lambda *given: "")
        models.save(base / "run/model", taught.encoder, taught.classifier, taught.bank, "# A card\n")
    return base


@pytest.fixture
def no_graph(monkeypatch):
    monkeypatch.setattr(portable, "leave", lambda *given: "")


def distil(run, out, *more):
    given = ["distil", str(run / "run/model"), str(run / "images"), "--student", "teacher/10", "--out", str(out), "--device", "cpu"]
    return program.main([*given, "--no-flip", "--epochs", "2", *more])


def test_a_folder_of_digits_becomes_a_student_that_runs_alone(run, tmp_path, capsys, encoder):
    assert distil(run, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "40 images: 0 labelled by the run of the model, 40 by the model alone; 36 to learn from, 4 held out" in said
    out = tmp_path / "out"
    assert not (out / "state").exists()
    card = (out / "README.md").read_text(encoding="utf-8")
    student = students.load(out)
    assert (
        f"| parameters that label an image | 482,752 | {student.parameter_count:,} |" in card
    )  # the tower, and 2 x 10 x 128 of the mixture
    assert "held-out images | 4 |" in card and "`soft`, 2 epochs, seed 0" in card and "onnxruntime" in card
    files = sorted((run / "images").iterdir())[:6]
    code = "import sys, classify; print(classify.classify(sys.argv[1:])); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], cwd=out, capture_output=True, encoding="utf-8")
    found, loaded = map(eval, done.stdout.splitlines())
    z = student.label(load_images(files, student.reader, progress=False).pixels)
    assert [name for name, _ in found] == [DIGITS[j] for j in z.argmax(1)] and not loaded
    np.testing.assert_allclose([share for _, share in found], z.max(1).values, atol=1e-3)


@pytest.mark.parametrize("objective", ["hard", "rationales", "tinybert"])
def test_every_objective_trains_by_its_name(run, tmp_path, no_graph, objective):
    assert distil(run, tmp_path, "--objective", objective) == 0
    assert f"`{objective}`, 2 epochs" in (tmp_path / "README.md").read_text(encoding="utf-8")
    students.load(tmp_path)


def labelled(run, lines, answers=""):
    """`predictions.csv`, and where its images lie. Lines: (number, label, confidence, runner_up, margin)."""
    with open(run / "run/predictions.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "confidence", "runner_up", "margin", "unfitness"])
        table.writerows([f"{i:02d}.png", *rest, "0.1"] for i, *rest in lines)
    places = [[f"{i:02d}.png", str(run / f"images/{i:02d}.png")] for i, *_ in lines]
    facts = {"images": places, "class_names": DIGITS, "options": {"images": str(run / "images"), "encoder": "embedded"}}
    (run / "run/state").mkdir(exist_ok=True)
    (run / "run/state/review.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.fixture
def after_a_run(run):
    labelled(
        run, [(0, DIGITS[3], "0.7000", DIGITS[5], "0.4500"), (1, "", "0.2000", DIGITS[1], "0.0100"), (2, DIGITS[4], "1.0000", "", "1.0000")]
    )
    yield run
    (run / "run/predictions.csv").unlink()
    (run / "run/state/review.json").unlink()


def test_labels_of_the_run_win_over_the_model_and_what_it_left_empty_is_left_out(after_a_run, taught, tmp_path):
    found = folder.learn_from(after_a_run / "run/model", after_a_run / "images", taught, tmp_path)
    assert found.told == "39 images: 2 labelled by the run of the model, 37 by the model alone"
    assert [path.name for path in found.paths[:3]] == ["00.png", "02.png", "03.png"]
    expected = torch.full((10,), 0.05 / 8, dtype=torch.float64)
    expected[3], expected[5] = 0.7, 0.25
    torch.testing.assert_close(found.soft[0], expected)
    torch.testing.assert_close(found.soft[1], torch.eye(10, dtype=torch.float64)[4])
    pixels = load_images([found.paths[2]], taught.encoder, progress=False).pixels
    torch.testing.assert_close(found.soft[2:3], taught.label(pixels))


def test_images_of_the_same_name_elsewhere_are_other_images(after_a_run, taught, tmp_path):
    (tmp_path / "others").mkdir()
    for i in (3, 4):
        Image.open(after_a_run / f"images/{i:02d}.png").save(tmp_path / f"others/{i - 3:02d}.png")
    found = folder.learn_from(after_a_run / "run/model", tmp_path / "others", taught, tmp_path)
    assert found.told == "2 images: 0 labelled by the run of the model, 2 by the model alone"


def test_a_reviewers_answer_is_the_label(after_a_run, taught, tmp_path):
    from gta.label import answers

    file = after_a_run / "run" / answers.FILE
    columns = answers.COLUMNS
    line = {"path": "00.png", "label": DIGITS[8], "reviewer": "me", "time": "2026-01-01T00:00:00+00:00", "chosen_by": "random"}
    file.write_text(",".join(columns) + "\n" + ",".join(line.get(name, "") for name in columns) + "\n", encoding="utf-8")
    try:
        found = folder.learn_from(after_a_run / "run/model", after_a_run / "images", taught, tmp_path)
        assert found.soft[0].argmax() == 8 and found.soft[0].max() == 1
    finally:
        file.unlink()


def test_a_run_with_other_classes_is_not_believed(run, taught):
    labelled(run, [(0, "a cat", "0.7000", "a dog", "0.4500")])
    try:
        assert folder.of_run(run / "run", taught.class_names) == {}
    finally:
        (run / "run/predictions.csv").unlink()
        (run / "run/state/review.json").unlink()
    assert folder.of_run(run / "run", taught.class_names) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--student", "teacher/x"], "after teacher/ stands how many times smaller"),
        (["--student", "mobilnetv3_small_100"], "did you mean 'mobilenetv3_small_100'"),
        (["--epochs", "0"], "--epochs 0: at least one is needed"),
        (["--lr", "-1"], "--lr -1.0: a learning rate is above 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(run, tmp_path, capsys, given, said):
    assert distil(run, tmp_path / "out", *given) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_of_label_is_not_written_over_and_what_is_no_model_is_said(run, tmp_path, capsys):
    assert distil(run, run / "run/model") == 1
    assert "holds what `python -m gta label` wrote; name another folder" in capsys.readouterr().err
    assert program.main(["distil", str(run / "run"), str(run / "images"), "--student", "teacher/4", "--out", str(tmp_path)]) == 1
    assert "did you mean" in capsys.readouterr().err


def test_a_teacher_with_a_second_view_says_what_to_do(taught):
    from dataclasses import replace

    second = models.Second("x", "0", taught.classifier.prototypes, taught.classifier.variance)
    with pytest.raises(ValueError, match="the model has a second view, x, and images that it has not labelled would need it"):
        replace(taught, classifier=replace(taught.classifier, second=second)).label(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_held_out_images_are_a_tenth_by_seed_and_never_learnt_from():
    for count in (2, 30, 400):
        taught, held = folder.parted(count, 0)
        assert sorted([*taught.tolist(), *held.tolist()]) == list(range(count)) and len(held) == max(1, count // 10)
    assert not torch.equal(folder.parted(400, 0)[1], folder.parted(400, 1)[1])


def test_costs_are_counted_by_hand_and_threads_stay(taught):
    student = students.named("teacher/10", taught)
    threads = torch.get_num_threads()
    ours, theirs = costs([student, taught], rounds=1)
    assert torch.get_num_threads() == threads
    assert ours.parameters == student.parameter_count and ours.megabytes == pytest.approx(4e-6 * student.parameter_count)
    assert theirs.parameters == 480_192 + 2 * 10 * 128
    assert ours.milliseconds > 0 < theirs.milliseconds


def test_the_graphs_module_is_the_student(taught, glyphs):
    student = students.named("teacher/10", taught)
    pixels = load_images(glyphs[0][:4], student.reader, progress=False).pixels
    torch.testing.assert_close(FromPixels(student)(pixels), student.label(pixels))


def test_a_second_call_goes_on_and_gives_the_same_student(run, tmp_path, no_graph, monkeypatch):
    model, images = run / "run/model", run / "images"
    recipe = Recipe(epochs=3, flip=False)
    folder.distil(model, images, "teacher/10", tmp_path / "whole", recipe=recipe, device="cpu")
    save, calls = folder.train, []

    def cut(*given, **named):
        named["progress"] = False
        checkpoints = given[5]
        write = checkpoints.save

        def once(*what):
            write(*what)
            calls.append(1)
            raise KeyboardInterrupt

        checkpoints.save = once
        return save(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(folder, "train", cut)
        with pytest.raises(KeyboardInterrupt):
            folder.distil(model, images, "teacher/10", tmp_path / "cut", recipe=recipe, device="cpu")
    assert calls == [1] and not (tmp_path / "cut" / students.FACTS).exists()
    folder.distil(model, images, "teacher/10", tmp_path / "cut", recipe=recipe, device="cpu")
    assert Path(tmp_path / "cut" / students.WEIGHTS).read_bytes() == Path(tmp_path / "whole" / students.WEIGHTS).read_bytes()
