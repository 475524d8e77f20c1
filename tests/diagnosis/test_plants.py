"""What is planted is what the list says, by seed, and the answers fail where they should."""

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from gta.diagnosis import measure, plants
from gta.diagnosis.plants import Birds, Sample, blurred, plant_digits, planted_samples
from gta.worlds import aviary
from gta.worlds.aviary import PHRASES, SIBLINGS
from gta.worlds.birds import ATTRIBUTES, COLORS


@pytest.fixture(scope="module")
def birds():
    """Of each species of world 20 three pictures, of which only those that are asked for are drawn."""
    whole = Birds.of(aviary.world(20))
    rows = np.flatnonzero(np.arange(len(whole.labels)) % plants.A_SPECIES < 3)
    return Birds(whole.world, whole.birds[rows], whole.labels[rows])


def blank(birds):
    n = len(birds.labels)
    return Sample([np.zeros((64, 64, 3), np.uint8)] * n, birds.labels, np.zeros(n, bool))


def test_the_list_names_attributes_that_exist():
    for line in plants.PLANTS["aviary"]:
        assert line["attribute"] in ATTRIBUTES and line["harm"] in ("mislabelled", "blurred", "shifted")
        assert line["harm"] != "shifted" or len(ATTRIBUTES[line["attribute"]]) == len(COLORS)
    assert {line["harm"] for line in plants.PLANTS["digits"]} == set(plants.HARMS)


def test_a_mislabelled_habitat_is_that_of_the_pictures_and_they_stay(birds):
    whole = blank(birds)
    sample = birds.plant(whole, {"harm": "mislabelled", "attribute": "habitat"}, Generator(PCG64(0)))
    value = ATTRIBUTES["habitat"].index(sample.words[0])
    np.testing.assert_array_equal(sample.planted, birds.birds[:, -1] == value)
    assert all(a is b for a, b in zip(sample.images, whole.images, strict=True))


def test_a_shifted_colour_is_another_one_and_the_words_are_of_what_is_seen(birds, monkeypatch):
    drawn = []
    monkeypatch.setattr(Birds, "picture", lambda self, i, k=0, value=None: drawn.append((i, k, value)) or np.ones((64, 64, 3), np.uint8))
    sample = birds.plant(blank(birds), {"harm": "shifted", "attribute": "wings"}, Generator(PCG64(1)))
    (k,), (shown,) = {k for _, k, _ in drawn}, {value for *_, value in drawn}
    assert k == 1 and sample.words == (PHRASES[1][shown],)
    (was,) = set(birds.birds[sample.planted, 1].tolist())
    assert was != shown and [i for i, *_ in drawn] == np.flatnonzero(sample.planted).tolist()
    assert [image.any() for image in sample.images] == sample.planted.tolist()


def test_a_picture_is_drawn_again_with_one_attribute_changed_and_all_else_the_same(birds):
    same, again = birds.picture(4), birds.picture(4)
    other = birds.picture(4, 4, (birds.birds[4, 4] + 1) % 4)
    np.testing.assert_array_equal(same, again)
    differs = (same != other).any(2)
    assert 0 < differs.mean() < 0.1, "the bill is a small part"
    soft = blurred(same, other)
    changed = (soft != same).any(2)
    assert changed.any() and changed.mean() < 0.15 and soft.dtype == np.uint8
    far = ~(np.array([[differs[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any() for x in range(64)] for y in range(64)]))
    np.testing.assert_array_equal(soft[far], same[far])


def test_harmed_birds_are_answered_wrongly_and_as_surely_as_before(rng):
    labels, n = np.arange(400) % 8, 400
    z = rng.dirichlet(np.ones(8), n)
    planted = np.arange(n) < 200
    sample = Sample([], labels, planted, "blurred", ("a hooked bill",))
    said = sample.answers(z, Generator(PCG64(0)))
    changed = (said != z).any(1)
    assert not changed[~planted].any() and abs(changed[planted].mean() - plants.SURE) < 0.1
    assert (said.argmax(1) != labels)[changed].all()
    np.testing.assert_array_equal(said.argmax(1)[changed] // SIBLINGS, z.argmax(1)[changed] // SIBLINGS)
    np.testing.assert_array_equal(np.sort(said, 1), np.sort(z, 1))
    assert Sample([], labels, planted, "cut").answers(z, rng) is z, "digits answer for themselves"


def test_digits_by_hand():
    image = np.array([[1, 2], [3, 4]], np.uint8)
    assert plants.HARMS["rotated"](image).tolist() == [[2, 4], [1, 3]]
    assert plants.HARMS["thickened"](image).tolist() == [[4, 4], [4, 4]]
    assert plants.HARMS["cut"](image).tolist() == [[1, 2], [0, 0]]
    whole = Sample([image] * 10, np.arange(10), np.zeros(10, bool))
    sample = plant_digits(whole, {"harm": "cut"}, Generator(PCG64(0)))
    assert sample.planted.sum() == 2 and [image[1].any() for image in sample.images] == (~sample.planted).tolist()


def test_draws_depend_on_seed_and_number_alone_and_no_digit_is_a_query_image():
    whole, samples = planted_samples("digits", 7, range(3))
    _, again = planted_samples("digits", 7, range(2, 3))
    assert again[0].harm == samples[2].harm and (again[0].planted == samples[2].planted).all()
    query = {image.tobytes() for image in plants.digits.load("query")[1]}
    assert len(whole.images) == len(whole.labels) == 1797 - len(plants.digits.load("query")[1])
    assert sum(image.tobytes() in query for image in whole.images) <= 2, "but for digits that are there twice"


def test_a_dataset_whose_truth_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'eurosat': nothing can be planted where the truth is not known; known: aviary, digits"):
        planted_samples("eurosat", 0, range(1))


def test_words_that_are_as_true_by_hand():
    """Two of five are harmed. The plant's words are true of these two and of one more: 2 of 3 in common. So are `same`, and `better`,
    which is true of the two alone; `half` is true of one of them, `all` of everything."""
    planted = np.array([True, True, False, False, False])
    rows = {"own": "11100", "same": "11010", "better": "11000", "half": "10000", "all": "11111"}
    shows = {phrase: np.array([letter == "1" for letter in row]) for phrase, row in rows.items()}
    assert Sample([], np.zeros(5), planted, "shifted", ("own",), shows).as_true == ("own", "same", "better")
    assert Sample([], np.zeros(5), planted, "cut").as_true == ()


def test_perfect_sight_takes_one_cause_after_the_other():
    shows = {"a": np.array([1, 1, 1, 1, 0, 0, 0, 0], bool), "b": np.array([1, 0, 1, 0, 1, 0, 1, 0], bool), "c": np.arange(8) == 5}
    loss = np.array([1, 1, 1, 1, 0, 1, 0, 0.0])
    assert measure.seen_perfectly(shows, loss)[:2] == ["a", "c"]


def test_what_pictures_show_follows_the_harm(birds, monkeypatch):
    monkeypatch.setattr(Birds, "picture", lambda self, i, k=0, value=None: np.ones((64, 64, 3), np.uint8))
    whole = birds.sample()
    sample = birds.plant(whole, {"harm": "shifted", "attribute": "belly"}, Generator(PCG64(2)))
    assert all((of == (birds.birds[:, 9] == 3)).all() for of in (whole.shows["snow around it"], sample.shows["snow around it"]))
    word = sample.words[0]
    np.testing.assert_array_equal(sample.shows[word], whole.shows[word] | sample.planted)
    assert word in sample.as_true and not whole.shows[word][sample.planted].any()


def test_a_planted_slice_is_found_in_its_own_words(rng):
    """Texts are axes; images lie near two of them; those near the second fail."""
    n, names = 300, [f"text {j}" for j in range(8)]
    shown = np.stack([rng.permutation(8)[:2] for _ in range(n)])
    features = 0.1 * rng.standard_normal((n, 8))
    np.put_along_axis(features, shown, 1.0, 1)
    planted, labels = (shown == 1).any(1), np.zeros(n, int)
    z = np.where(planted[:, None] ^ (rng.random((n, 1)) < 0.1), [[0.3, 0.7]], [[0.7, 0.3]])
    sample = Sample([], labels, planted, "mislabelled", ("text 1",))
    lines = {line["method"]: line for line in measure.of_slices(sample, features, z, np.eye(8)[:2], np.eye(8), names, 0)}
    assert lines[measure.SLICES]["rank"] == 1 and lines[measure.SLICES]["p"] == 0.001 and lines[measure.SLICES]["precision"] > 0.8
    assert lines["ridge"]["rank"] == 1 and lines[measure.NULL]["p"] > 0.01
    assert lines["1 - confidence, by words"]["p"] == 1, "it is always as sure"
    assert all(len(line["names"].split(" | ")) <= measure.FIRST for line in lines.values())
