"""The loop and the folder tool where z is held by its largest entries: equal to the whole z where nothing is left out."""

import pytest
import torch

from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import load_images
from gta.labels import SparseZ, answer
from gta.loop import run
from gta.settings import Settings
from gta.transduct import from_texts, sparse
from gta.transduct.neighbors import large_graph
from gta.worlds.settings import settings_for

TASK = tasks.load("digits")
SETTINGS = settings_for("embedded", iterations=3, margin=0.5)


def label(encoder, glyphs, llm=None, settings=SETTINGS, **options):
    bank = Bank.from_template(TASK.class_names, TASK.template, TASK.sentence)
    images = load_images(glyphs[0], encoder, progress=False)
    augment = TASK.augmentation(encoder.image_size)
    return run(encoder, images, TASK.class_names, settings, attributes=bank, llm=llm, augment=augment, progress=False, **options)


@pytest.fixture
def all_entries_sparse(monkeypatch):
    """A sparse z that leaves nothing out."""
    monkeypatch.setattr("gta.loop.entries_held", lambda keep, images, classes: classes)


@pytest.mark.parametrize("shots", [0, 12])
def test_with_every_entry_held_a_run_is_that_of_the_whole_z(encoder, glyphs, guide_llm, request, shots):
    """Questions, confident images and steps of adapt among it."""
    pixels = load_images(glyphs[0], encoder, progress=False).pixels
    support = {"support": (pixels[:shots], glyphs[1][:shots])} if shots else {}
    whole = label(encoder, glyphs, guide_llm, **support)
    request.getfixturevalue("all_entries_sparse")
    found = label(encoder, glyphs, guide_llm, **support)
    assert isinstance(found.held, SparseZ) and isinstance(whole.held, torch.Tensor)
    assert found.attributes == whole.attributes and len(whole.attributes.asked) > 0
    torch.testing.assert_close(found.assignments, whole.assignments, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.clip, whole.clip, atol=1e-11, rtol=0)
    for mine, theirs in zip(found.history, whole.history, strict=True):
        assert mine["asked"] == theirs["asked"] and mine["labels"].tolist() == theirs["labels"].tolist()
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-8)
        assert mine["objective"] == pytest.approx(theirs["objective"], abs=1e-6)


def test_a_few_entries_give_nearly_the_same_labels(encoder, glyphs):
    whole, found = label(encoder, glyphs), label(encoder, glyphs, keep=4)
    assert found.held.values.shape == (60, 4) and found.prior.values.shape == (60, 4)
    assert (answer(found.held) == answer(whole.held)).float().mean() > 0.95
    torch.testing.assert_close(found.held.values.sum(1) + found.held.rest, torch.ones(60, dtype=torch.float64))


def test_a_run_goes_on_from_its_checkpoints(encoder, glyphs, tmp_path, monkeypatch):
    straight = label(encoder, glyphs, keep=4)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gta.loop.confident_images", stop)
        with pytest.raises(KeyboardInterrupt):
            label(encoder, glyphs, keep=4, checkpoints=tmp_path)
    resumed = label(encoder, glyphs, keep=4, checkpoints=tmp_path)
    assert torch.equal(resumed.assignments, straight.assignments) and torch.equal(resumed.clip, straight.clip)


def test_without_transduction_z_is_the_prior(encoder, glyphs):
    found = label(encoder, glyphs, settings=Settings(iterations=1, transduct=False), keep=4)
    assert torch.equal(found.assignments, found.clip)
    assert torch.equal(answer(found.held), answer(label(encoder, glyphs, settings=Settings(iterations=1, transduct=False)).held))


def test_from_a_stated_size_on_entries_are_left_out():
    assert from_texts.entries_held(None, 50_000, 1000) is None, "whole as before"
    assert from_texts.entries_held(None, 1_000_000, 1000) == sparse.KEEP
    assert from_texts.entries_held(None, 1_000_000, 10) is None
    assert from_texts.entries_held(5, 10, 6) == 5 and from_texts.entries_held(6, 10, 6) is None
    for keep in (1, 0, -1):
        with pytest.raises(ValueError, match=f"keep is {keep}; hold 2 or more"):
            from_texts.entries_held(keep, 10, 6)


@pytest.mark.parametrize(("changes", "told"), [({"balance": 1.0}, "settings.balance"), ({"anchor": 1.0}, "settings.anchor")])
def test_what_needs_z_whole_is_refused_before_anything_is_encoded(encoder, glyphs, changes, told):
    with pytest.raises(ValueError, match=rf"{told}: z of 60 images and 10 classes .* give keep=10"):
        label(encoder, glyphs, settings=SETTINGS.model_copy(update=changes), keep=4)
    with pytest.raises(ValueError, match="view: z of"):
        label(encoder, glyphs, keep=4, view=torch.ones(60, 1))
    with pytest.raises(ValueError, match="gamma: z of"):
        label(encoder, glyphs, keep=4, gamma=lambda *_: 0.1)


def test_the_graph_of_many_images_serves_the_loop(encoder, glyphs):
    assert torch.equal(label(encoder, glyphs, keep=4, affinity=large_graph).assignments, label(encoder, glyphs, keep=4).assignments)
