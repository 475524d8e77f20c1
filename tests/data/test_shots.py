"""Few-shot draws: the same images on every platform, of every copy; and published index files."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gta.data import shots, tasks
from gta.data.splits import Entry
from published import LINES, put_copy

BIRDS = [Entry(f"birds/{c}-{i}.jpg", c) for c in (0, 1) for i in range(1, 21)]
# Made by `sha256sum` and `sort` alone: printf 'cub SEED PATH' | sha256sum, the least of each class.
DRAWN = {
    1: ["birds/0-12.jpg", "birds/0-5.jpg", "birds/1-3.jpg", "birds/1-11.jpg"],
    2: ["birds/0-3.jpg", "birds/0-6.jpg", "birds/1-4.jpg", "birds/1-16.jpg"],
    3: ["birds/0-7.jpg", "birds/0-6.jpg", "birds/1-10.jpg", "birds/1-18.jpg"],
}


@pytest.mark.parametrize("seed", DRAWN)
def test_a_draw_is_the_same_on_every_platform(seed):
    shuffled = random.Random(seed).sample(BIRDS, len(BIRDS))
    assert [entry.path for entry in shots.draw("cub", shuffled, 2, seed)] == DRAWN[seed]


@given(st.integers(1, 16), st.integers(1, 3), st.randoms(use_true_random=False))
def test_a_draw_is_balanced_grows_with_the_shots_and_ignores_order(k, seed, chance):
    drawn = shots.draw("cub", BIRDS, k, seed)
    assert [entry.label for entry in drawn] == [0] * k + [1] * k
    assert drawn == shots.draw("cub", chance.sample(BIRDS, len(BIRDS)), k, seed)
    assert set(drawn) < set(shots.draw("cub", BIRDS, k + 1, seed))


@pytest.mark.parametrize("k", [1, 2, 4, 8, 16])
def test_validation_is_at_most_four_a_class_and_never_a_support_image(k):
    splits = {"train": BIRDS, "val": [], "test": []}
    support, validation = shots.split("cub", splits, k, 1)
    assert not {entry.path for entry in support} & {entry.path for entry in validation}
    assert len(support) == 2 * k and len(validation) == 2 * min(4, k)
    own = [Entry(entry.path.replace("birds", "val"), entry.label) for entry in BIRDS]
    support, validation = shots.split("cub", {"train": BIRDS, "val": own, "test": []}, k, 1)
    assert len(validation) == 2 * min(4, k) and all(entry.path.startswith("val/") for entry in validation)
    if k == 2:  # by `sha256sum` and `sort`, past the first two
        after = shots.split("cub", splits, 2, 1)[1]
        assert [entry.path for entry in after] == ["birds/0-7.jpg", "birds/0-1.jpg", "birds/1-17.jpg", "birds/1-14.jpg"]


def test_a_class_with_fewer_images_gives_them_all():
    assert len(shots.draw("cub", BIRDS[:3], 16, 1)) == 3


def test_few_shot_images_of_a_task_are_labelled_train_images(cut):
    put_copy("dtd", cut)
    support, validation = tasks.few_shot("dtd", 1, 1, cut)
    labels = {path: label for split in ("train", "val") for path, label, _ in LINES["dtd"][split]}
    assert support.labels.tolist() == [labels[path] for path in support.ids] == [0, 30, 46]
    assert validation.labels.tolist() == [labels[path] for path in validation.ids] == [0, 30, 46]
    assert all(image.is_file() for image in (*support.images, *validation.images))
    again, _ = tasks.few_shot(f"dtd@{cut}", 1, 1)
    assert again.ids == support.ids
    with pytest.raises(ValueError, match="'dtdd' has no images to learn from; did you mean 'dtd'"):
        tasks.few_shot("dtdd", 1, 1, cut)


def index(**changes):
    """In the format of cross_modal_adaptation, with its paths."""
    data = {
        part: {"data": [{"impath": f"./data/dtd/images/{path}", "label": label, "classname": name}], "indices": [1]}
        for part, (path, label, name) in {"train": LINES["dtd"]["train"][2], "val": LINES["dtd"]["val"][0]}.items()
    }
    data["train"]["data"][0] |= changes
    return json.dumps(data)


def test_a_published_index_file_is_read(cut, tmp_path):
    put_copy("dtd", cut)
    (tmp_path / "shot_1-seed_1.json").write_text(index(), encoding="utf-8")
    support, validation = tasks.few_shot("dtd", 1, 1, cut, index=tmp_path / "shot_1-seed_1.json")
    assert support.ids == ("polka-dotted/polka-dotted_0114.jpg",) and support.labels.tolist() == [30]
    assert validation.ids == ("banded/banded_0024.jpg",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 29}, "has label 29, in the split 30"),
        ({"impath": "./data/dtd/images/banded/banded_0060.jpg"}, "banded_0060.jpg is not in that split"),  # a test image
    ],
)
def test_an_index_file_of_another_split_is_refused(changes, message, cut, tmp_path):
    put_copy("dtd", cut)
    (tmp_path / "index.json").write_text(index(**changes), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        tasks.few_shot("dtd", 1, 1, cut, index=tmp_path / "index.json")
    (tmp_path / "index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="is no few-shot index file"):
        tasks.few_shot("dtd", 1, 1, cut, index=tmp_path / "index.json")
