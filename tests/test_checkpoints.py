import json

import pytest
import torch

from gta import checkpoints
from gta.attributes import Bank
from gta.checkpoints import Checkpoints
from gta.data import tasks
from gta.encoders.images import load_images
from gta.loop import run
from gta.state import State
from gta.worlds.settings import settings_for
from small import full_beyond

CPU = torch.device("cpu")
TASK = tasks.load("digits")
SETTINGS = settings_for("embedded", iterations=3, generate=False)


def save(store, *numbers):
    """Checkpoints that hold their number; the weights change with each, `features` are of the first."""
    features = {"images": torch.arange(5.0)}
    for number in numbers:
        groups = {"weights": {"w": torch.full((3,), float(number))}, "features": features}
        store.save({"number": number}, groups, CPU, milestone=number % 2 == 0)


def test_what_was_saved_comes_back(tmp_path):
    save(Checkpoints(tmp_path), 1, 2)
    found = Checkpoints(tmp_path).latest(CPU)
    assert found.facts == {"number": 2}
    assert torch.equal(found.groups["weights"]["w"], torch.full((3,), 2.0)) and torch.equal(
        found.groups["features"]["images"], torch.arange(5.0)
    )
    assert Checkpoints(tmp_path / "empty").latest(CPU) is None


def test_the_last_k_are_kept_and_what_did_not_change_is_written_once(tmp_path, monkeypatch):
    written = []
    write = checkpoints.save_tensors
    monkeypatch.setattr(checkpoints, "save_tensors", lambda f, t, **how: written.append(sorted(t)) or write(f, t, **how))
    save(Checkpoints(tmp_path, keep=2), *range(5))
    assert written.count(["images"]) == 1 and written.count(["w"]) == 5
    assert len(list(tmp_path.glob("*.json"))) == 2 and len(list(tmp_path.glob("*.safetensors"))) == 3
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_the_trail_keeps_milestones_without_weights(tmp_path):
    save(Checkpoints(tmp_path, keep=1, trail=True), *range(6))
    milestones = list(Checkpoints(tmp_path).trail())
    assert [milestone.facts["number"] for milestone in milestones] == [0, 2, 4]
    assert all(set(milestone.groups) == {"features"} for milestone in milestones)
    assert Checkpoints(tmp_path).latest(CPU).facts["number"] == 5


@pytest.mark.parametrize("victim", ["weights", "facts"])
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, capsys, victim, damage):
    save(Checkpoints(tmp_path), 1, 2)
    manifest = sorted(tmp_path.glob("*.json"))[-1]
    file = (
        manifest if victim == "facts" else tmp_path / f"{json.loads(manifest.read_text(encoding='utf-8'))['groups']['weights']}.safetensors"
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink() if damage == "delete" else file.write_bytes(content if damage == "flip" else content[:-1])
    assert Checkpoints(tmp_path).latest(CPU).facts == {"number": 1}
    said = capsys.readouterr().err
    assert (victim == "facts" and damage == "delete") or (str(file) in said and "the one before it is used" in said)


def test_a_full_disk_leaves_the_last_good_one_and_says_so(tmp_path, capsys):
    store = Checkpoints(tmp_path)
    save(store, 1)
    with full_beyond(60):
        save(store, 2)
    said = capsys.readouterr().err
    assert "cannot be written: " in said and "File too large" in said and "The run goes on; the last good one is" in said
    assert Checkpoints(tmp_path).latest(CPU).facts == {"number": 1}
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_another_machine_or_number_of_threads_is_said(tmp_path, capsys):
    save(Checkpoints(tmp_path), 1)
    Checkpoints(tmp_path).latest(CPU)
    assert not capsys.readouterr().err
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        Checkpoints(tmp_path).latest(CPU)
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads} then, {threads + 1} now" in capsys.readouterr().err


def label(encoder, images, folder, settings=SETTINGS):
    bank = Bank.from_template(TASK.class_names, TASK.template, TASK.sentence)
    options = {"attributes": bank, "augment": TASK.augmentation(32), "progress": False}
    return run(encoder, images, TASK.class_names, settings, checkpoints=folder, **options)


def test_a_finished_run_is_not_run_again(encoder, glyphs, tmp_path, monkeypatch):
    images = load_images(glyphs[0], encoder)
    first = label(encoder, images, tmp_path)
    monkeypatch.setattr(type(encoder), "encode_images", None)
    again = label(encoder, images, tmp_path)
    assert torch.equal(first.assignments, again.assignments) and first.attributes == again.attributes
    assert [step["objective"] for step in first.history] == [step["objective"] for step in again.history]
    assert torch.equal(first.history[0]["labels"], again.history[0]["labels"])
    pairs = zip(first.encoder.model.state_dict().values(), again.encoder.model.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_other_settings_and_images_are_other_runs(encoder, glyphs, tmp_path):
    images = load_images(glyphs[0], encoder)
    label(encoder, images, tmp_path)
    label(encoder, images, tmp_path, SETTINGS.model_copy(update={"seed": 1}))
    label(encoder, load_images(glyphs[0][:50], encoder), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_every_iterate_of_a_trail_is_that_of_the_run(encoder, glyphs, tmp_path):
    result = label(encoder, load_images(glyphs[0], encoder), Checkpoints(tmp_path, trail=True))
    (folder,) = tmp_path.iterdir()
    states = [State.of(found) for found in Checkpoints(folder).trail()]
    assert [state.iteration for state in states] == [0, 1, 2]
    assert all(torch.equal(state.z.argmax(1), step["labels"]) for state, step in zip(states, result.history, strict=True))
    assert all(state.tensors["texts"]["texts"].shape[0] == len(state.texts) for state in states)
