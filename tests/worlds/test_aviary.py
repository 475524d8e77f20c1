"""The aviary's pictures show what they are said to show, and its worlds are the same wherever they are made."""

import csv
import hashlib
import os
import runpy
from fractions import Fraction

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from PIL import Image, ImageDraw

from gta.data import tasks
from gta.files import ROOT
from gta.worlds import aviary, birds
from gta.worlds.aviary import FAMILIES, HOLLOW, KNOWN, SIBLINGS, known_species, world
from gta.worlds.birds import ATTRIBUTES, COLORS, FINE, SIDE, SIZES, STYLES, Look, Style, draw, draw_look
from small import full_beyond

STILL = Style(scale=(256, 257), turn=0, shift=0, light=(256, 257), tint=0, shade=0, noise=0, hidden=0)  # nothing is left to chance
PLAIN = Look(np.zeros((3, 3), int))
# Where a bird of the style STILL shows what, in the coordinates of its outlines; it looks left or right.
PLACES = {
    "body": (52, 2),
    "wings": (-40, -20),
    "belly": (8, 30),
    "legs": (-8, 70),
    "crest": (44, -80),
    "far tail": (-118, 3),
    "far bill": (124, -39),
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="session")
def folder(cache):
    return aviary.write(world(1000), cache)


def bird(**said):
    """A bird by its values, e.g. belly="a red belly"; all else is each attribute's first value."""
    return np.array([values.index(said.get(attribute, values[0])) for attribute, values in ATTRIBUTES.items()])


def at(picture, place, side):
    x, y = PLACES[place]
    return tuple(int(level) for level in picture[(SIDE * FINE // 2 + y) // FINE, (SIDE * FINE // 2 + side * x) // FINE])


def shown(place, **said):
    """The colour at a place of a still bird, on the side to which it looks."""
    plain = draw(bird(**said), STILL, PLAIN, Generator(PCG64(0)))
    (side,) = (side for side in (1, -1) if plain[(128 - 42) // FINE, (128 + side * 64) // FINE].sum() < 60)  # the eye is black
    return at(plain, place, side)


@pytest.mark.parametrize("color", COLORS)
def test_the_belly_of_a_red_bellied_bird_is_red(color):
    """So is every colour, of body, wings and belly, whatever the others are."""
    other = "blue" if color != "blue" else "red"
    assert shown("belly", belly=f"a {color} belly", body=f"a {other} body", wings=f"{other} wings") == COLORS[color]
    assert shown("body", body=f"a {color} body", belly=f"a {other} belly", wings=f"{other} wings") == COLORS[color]
    assert shown("wings", wings=f"{color} wings", body=f"a {other} body", belly=f"a {other} belly") == COLORS[color]


def test_shapes_are_where_they_belong():
    wings = COLORS["red"]
    assert shown("far tail", tail="a long tail") == wings
    assert all(shown("far tail", tail=tail) != wings for tail in ATTRIBUTES["tail"] if tail != "a long tail")
    bills = {bill: shown("far bill", bill=bill) for bill in ATTRIBUTES["bill"]}
    assert [bill for bill, color in bills.items() if color[0] > 200 and color[2] < 100] == ["a long straight bill"]
    assert shown("crest", crest="a pointed crest") == COLORS["red"] != shown("crest", crest="a smooth head")
    legs = {value: shown("legs", legs=value) for value in ATTRIBUTES["legs"]}
    assert len(set(legs.values())) == 3 and max(legs["black legs"]) < 60 and legs["pink legs"][0] > 200


def test_every_attribute_shows_and_nothing_else_changes_a_still_picture():
    first = bird()
    reference = draw(first, STILL, PLAIN, Generator(PCG64(1)))
    assert np.array_equal(reference, draw(first, STILL, PLAIN, Generator(PCG64(1))))
    for k, size in enumerate(SIZES):
        pictures = [reference]
        for value in range(1, size):
            changed = first.copy()
            changed[k] = value
            pictures.append(draw(changed, STILL, PLAIN, Generator(PCG64(1))))
        assert len({picture.tobytes() for picture in pictures}) == size


def test_in_the_field_colours_still_tell():
    """Over 200 pictures of each, in light, tint and noise, red bellies are redder than blue ones in nine of ten pairs."""
    rng, field = Generator(PCG64(0)), STYLES["field"]

    def redness(color):
        made = [
            draw(bird(belly=f"a {color} belly", body="a white body", wings="white wings"), field, draw_look(field, rng), rng).astype(int)
            for _ in range(200)
        ]
        middle = np.stack(made)[:, 32:40, 28:38].mean((1, 2))
        return middle[:, 0] - middle[:, 2]

    assert (redness("red") > redness("blue")).mean() > 0.9


def test_a_polygon_is_filled_as_exact_fractions_say(rng):
    """Even-odd rule: pixel columns between each two crossings of the row's line, rounded down."""
    for _ in range(30):
        points = [tuple(map(int, point)) for point in rng.integers(-8, 40, size=(rng.integers(3, 7), 2))]
        image = Image.new("L", (32, 32))
        birds._fill(ImageDraw.Draw(image), points, 1)
        expected = np.zeros((32, 32), int)
        for y in range(32):
            crossings = sorted(
                int((x0 + Fraction(x1 - x0) * (y - y0) / (y1 - y0)).__floor__())
                for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True)
                if min(y0, y1) <= y < max(y0, y1)
            )
            for left, right in zip(crossings[::2], crossings[1::2], strict=True):
                expected[y, max(left, 0) : max(right + 1, 0)] = 1
        assert np.array_equal(np.asarray(image), expected)


def test_families_differ_in_one_or_two_attributes():
    for seed in range(5):
        of = world(1000 + seed)
        species = of.species.reshape(FAMILIES, SIBLINGS, -1)
        differences = (species[:, :, None] != species[:, None]).sum(-1)
        off_diagonal = differences[:, ~np.eye(SIBLINGS, dtype=bool)]
        assert set(np.unique(off_diagonal)) == {1, 2}
        assert len(np.unique(np.concatenate([of.species, known_species()]), axis=0)) == FAMILIES * SIBLINGS + len(KNOWN)
        assert len(set(of.names)) == 32 and set(of.names) <= set(HOLLOW) and not set(HOLLOW) & set(KNOWN)


def test_species_that_are_known_are_never_drawn_again():
    drawn = aviary.draw_species(Generator(PCG64(5)), 2)
    others = aviary.draw_species(Generator(PCG64(5)), 2, besides=drawn)  # the same die would give the same birds
    assert len(np.unique(np.concatenate([drawn, others]), axis=0)) == 4 * SIBLINGS


def test_a_world_has_the_same_bytes_wherever_it_is_made(folder, tmp_path):
    """The index holds the hash of every file; the hash of all pixels was written down when they were first drawn."""
    again = aviary.write(world(1000), tmp_path)
    assert (again / "index.csv").read_bytes() == (folder / "index.csv").read_bytes()
    digest = hashlib.sha256()
    for file in world(1000).files("query"):
        digest.update(np.asarray(Image.open(folder / file)).tobytes())
    assert digest.hexdigest()[:16] == "9a5904d361ece488"
    assert world(1000).names != world(1001).names


def test_the_index_says_what_each_ordinary_png_shows(folder, cache):
    rows = list(csv.DictReader((folder / "index.csv").open()))
    assert len(rows) == 32 * 50 == len(list(folder.rglob("*.png")))
    with Image.open(folder / rows[0]["file"]) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (SIDE, SIDE), "RGB")
    facts = world(1000).facts
    own = [row["habitat"] in facts[row["species"]] for row in rows]
    assert np.mean(own) == pytest.approx(1 - aviary.STRAYS / 100, abs=0.03)
    assert all(row[attribute] in facts[row["species"]] for row in rows for attribute in ATTRIBUTES if attribute != "habitat")
    task = tasks.load(str(folder / "query"))  # as any folder of images
    assert sorted(task.class_names) == sorted(world(1000).names) and len(task.images) == 960


def test_the_task_shows_images_and_names_and_keeps_labels_apart(folder, cache):
    task = tasks.load("aviary:1000", cache=cache)
    assert (task.name, task.baseline, task.class_names) == ("aviary:1000", "CLIP+attributes", world(1000).names)
    labels = tasks.query_labels("aviary:1000")
    assert [path.parent.name for path in task.images] == [task.class_names[c] for c in labels]
    assert not any(name in i for i in task.image_ids for name in task.class_names)
    images, of = tasks.labelled("aviary:1000", cache)
    assert [path.parent.name for path in images] == [task.class_names[c] for c in of] and not set(images) & set(task.images)
    assert tasks.query_labels("aviary").tolist() == labels.tolist()


def test_a_damaged_world_is_made_again_and_a_failed_one_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(aviary, "PICTURES", {"query": 1, "train": 1})
    small = aviary.write(world(1000), tmp_path)
    before = {file: file.read_bytes() for file in small.rglob("*.*")}
    victim = next(small.rglob("*.png"))
    for damage in (lambda: victim.write_bytes(b"x"), victim.unlink, (small / "index.csv").unlink):
        damage()
        assert aviary.write(world(1000), tmp_path) == small
        assert {file: file.read_bytes() for file in small.rglob("*.*")} == before

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(aviary, "sha256", lambda file: "0" * 64)  # as if the drawing code were another
    monkeypatch.setattr(aviary, "draw", fails)
    with pytest.raises(KeyboardInterrupt):
        aviary.write(world(1000), tmp_path)
    assert list(tmp_path.iterdir()) == [small]


def test_a_variable_moves_worlds_and_is_named_where_none_can_be_made(tmp_path, monkeypatch):
    """As in a read-only checkout: no folder can be made below a file, not by root either."""
    (tmp_path / "file").touch()
    closed = tmp_path / "file/worlds"
    monkeypatch.setenv("GTA_WORLDS", str(closed))
    fresh = runpy.run_path(tasks.__file__)  # as a process reads it that begins now
    assert fresh["CACHE"] == closed
    for read in (fresh["load"], fresh["labelled"]):
        with pytest.raises(OSError) as caught:
            read("aviary:1000")
        assert str(caught.value) == (
            f"the world aviary:1000 has no place in '{closed}': nothing can be written in {tmp_path}/file; the variable GTA_WORLDS names "
            "another folder for worlds"
        )
    monkeypatch.setenv("GTA_WORLDS", "")
    assert runpy.run_path(tasks.__file__)["CACHE"] == ROOT / "runs/worlds"


def test_a_world_that_is_there_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    """Whoever is root may write everywhere, so the system's word is put in its mouth."""
    monkeypatch.setattr(aviary, "PICTURES", {"query": 1, "train": 1})
    there, real = aviary.write(world(1000), tmp_path), os.access
    monkeypatch.setattr("os.access", lambda path, mode, **more: str(tmp_path) not in str(path) and real(path, mode, **more))
    assert aviary.write(world(1000), tmp_path) == there
    with pytest.raises(OSError, match=f"nothing can be written in {tmp_path}; the variable GTA_WORLDS names another folder"):
        aviary.write(world(1001), tmp_path)
    assert list(tmp_path.iterdir()) == [there]


def test_a_world_on_a_full_disk_is_told_with_what_moves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(aviary, "PICTURES", {"query": 1, "train": 1})
    said = rf"the world aviary:1000 cannot be written in '{tmp_path}': \[Errno 27\] File too large.*; the variable GTA_WORLDS names"
    with pytest.raises(OSError, match=said), full_beyond(1000):
        aviary.write(world(1000), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "message"), [("aviary:two", "the seed of a world is a number"), ("aviry", "did you mean 'aviary'")])
def test_a_wrong_world_is_told_the_right_form(name, message):
    with pytest.raises(ValueError, match=message):
        tasks.load(name)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_picture_with_a_label_is_one_to_be_labelled(seed):
    of = world(seed)
    query = {picture.tobytes() for picture in of.pictures("query")}
    assert not any(picture.tobytes() in query for picture in of.pictures("train"))
    assert len(query) == 960
