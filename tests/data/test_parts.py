"""Parts of a dataset against counts by hand; labels in no order, of classes that are not equally frequent."""

import numpy as np
import pytest
import torch

from gta.data import parts, tasks
from gta.scores import results
from gta.worlds.settings import settings_for

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(8), [40, 41, 42, 43, 44, 45, 46, 47]))


def counts(part):
    cut = parts.cut(part, LABELS, 8)
    assert (np.diff(cut.rows) > 0).all()  # the order of the dataset, no image twice
    return np.bincount(LABELS[cut.rows], minlength=8)


@pytest.mark.parametrize("strength", [1, 3, 10])
def test_an_imbalanced_part_has_its_ratio_and_a_quarter_of_the_images_whatever_the_strength(strength):
    found = np.sort(counts(f"imbalanced-{strength}-0"))[::-1]
    by_hand = np.array([strength ** (-rank / 7) for rank in range(8)])
    assert np.abs(found - 87 * by_hand / by_hand.sum()).max() <= 0.5
    assert abs(found.sum() - 87) <= 4
    assert found[0] / found[-1] == pytest.approx(strength, rel=0.2)


def test_every_class_of_an_imbalanced_part_has_an_image_and_none_more_than_there_are():
    found = counts("imbalanced-300-0")
    assert found.min() == 1 and (found <= np.bincount(LABELS)).all()


def test_some_classes_alone_are_the_same_size_and_all_names_are_given():
    few, many = counts("classes-3-0"), counts("classes-6-0")
    assert (few > 0).sum() == 3 and (many > 0).sum() == 6 and abs(few.sum() - 87) <= 3 and abs(many.sum() - 87) <= 3
    assert set(np.flatnonzero(few)) < set(np.flatnonzero(many))
    assert parts.cut("classes-3-0", LABELS, 8).classes.tolist() == list(range(8))


def test_a_seed_draws_the_same_part_again_another_seed_another_and_small_parts_are_nested():
    rows = {part: set(parts.cut(part, LABELS, 8).rows) for part in ("small-20-0", "small-50-0", "small-20-1")}
    assert rows["small-20-0"] == set(parts.cut("small-20-0", LABELS, 8).rows) and len(rows["small-20-0"]) == 20
    assert rows["small-20-0"] < rows["small-50-0"] and rows["small-20-0"] != rows["small-20-1"]


def test_a_small_part_is_drawn_without_labels():
    assert (parts.cut("small-20-0", LABELS, 8).rows == parts.cut("small-20-0", LABELS[::-1], 8).rows).all()


@pytest.mark.parametrize("part", ["small-0-0", "small-400-0", "classes-9-0", "unseen-8-0", "imbalanced-0-0"])
def test_a_part_that_the_dataset_cannot_give_is_refused(part):
    with pytest.raises(ValueError, match=rf"#{part}: of 348 images in 8 classes, \w+ takes"):
        parts.cut(part, LABELS, 8)


@pytest.mark.parametrize("name", ["digits", "digits#bass", "digits#small-100", "digits#small-x-0", "a#b/base"])
def test_what_is_no_part_is_a_whole_dataset(name):
    assert parts.split(name) == (name, "")


def test_images_of_unseen_classes_are_there_have_no_name_and_do_not_count(encoder):
    whole, part = tasks.load("digits"), tasks.load("digits#unseen-3-0")
    labels, truth = tasks.query_labels("digits"), tasks.query_labels("digits#unseen-3-0")
    assert part.image_ids == whole.image_ids and len(part.class_names) == 7
    hidden = [j for j, name in enumerate(whole.class_names) if name not in part.class_names]
    assert (truth == -1).tolist() == np.isin(labels, hidden).tolist()
    seen = truth >= 0
    assert [part.class_names[j] for j in truth[seen]] == [whole.class_names[j] for j in labels[seen]]

    right = torch.nn.functional.one_hot(torch.from_numpy(truth).clamp(0), 7).float()
    outcomes = {("CLIP", ""): (right.roll(1, dims=1), 1.0, ("CLIP", "")), ("GTA-CLIP", ""): (right, 1.0, ("CLIP", ""))}
    rows, predictions = results.measure("t", part, "embedded", encoder, settings_for("embedded"), outcomes, outcomes.keys(), "hash")
    assert [(row.n_correct, row.n_total, row.gain) for row in rows] == [(0, seen.sum(), 0), (seen.sum(), seen.sum(), 100)]
    assert all(len(predictions[f"{row.run_id}.correct"]) == row.n_total for row in rows)
    assert (predictions["counted"] == seen).all() and len(predictions["image_id"]) == len(truth)


def test_a_confusion_matrix_sums_z_in_the_row_of_the_true_class():
    truth = tasks.query_labels("digits#unseen-8-0")
    z = torch.tensor([0.25, 0.75]).repeat(len(truth), 1)
    both = [(truth == 0).sum(), (truth == 1).sum()]
    assert results.confusion_matrix("digits#unseen-8-0", z).tolist() == [[n / 4, 3 * n / 4] for n in both]


def test_labelled_images_of_a_part_are_of_the_classes_that_it_names():
    part = tasks.load("digits#unseen-3-0")
    drawn, whole = tasks.few_shot(part.source, 2, 0)[0], tasks.few_shot("digits", 2, 0)[0]
    name_of = {i: tasks.load("digits").class_names[j] for i, j in zip(whole.ids, whole.labels, strict=True)}
    assert [part.class_names[j] for j in drawn.labels] == [name_of[i] for i in drawn.ids] and len(drawn.ids) == 14
