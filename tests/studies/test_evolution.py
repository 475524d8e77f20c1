"""Measures and maps of the two spaces, against loops and closed forms; the trail of a run; what must not depend on labels."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import reference
from gta import hashes
from gta.attributes import Bank
from gta.charts import evolution as charts
from gta.checkpoints import Checkpoints
from gta.data import tasks
from gta.encoders.images import load_images
from gta.files import ROOT
from gta.generate import describe
from gta.llm.chat import CapReached, LanguageModel
from gta.llm.ledger import Ledger
from gta.loop import run
from gta.scores import results
from gta.scores.rows import Row, oracle_best
from gta.state import State
from gta.studies import evolution
from gta.studies.evolution import Spaces
from gta.worlds import fieldguide
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

FIRST = 50
TASK = tasks.load("digits")
TASK = replace(TASK, images=TASK.images[:FIRST], image_ids=TASK.image_ids[:FIRST])
SETTINGS = settings_for("embedded", iterations=3, margin=0.9)
NAMES = Bank.from_template(["cat", "dog", "fox", "hen"])


def spaces(seed, n=30, classes=6, d=8, iteration=0):
    generator = torch.Generator().manual_seed(seed)

    def unit(rows):
        return F.normalize(torch.randn(rows, d, generator=generator, dtype=torch.float64))

    texts = tuple(unit(1 + j % 3) for j in range(classes))
    return Spaces(iteration, unit(n), texts, (3 * torch.randn(n, classes, generator=generator, dtype=torch.float64)).softmax(1))


def blobs(labels, iteration=0, seed=0):
    """Images of two classes far apart, a gap in another direction, and a text near each class."""
    generator, axes = torch.Generator().manual_seed(seed), torch.eye(8, dtype=torch.float64)
    sign = 1 - 2 * torch.as_tensor(labels, dtype=torch.float64)[:, None]
    images = F.normalize(sign * axes[0] + 2 * axes[1] + 0.1 * torch.randn(len(labels), 8, generator=generator, dtype=torch.float64))
    texts = tuple(F.normalize(s * axes[:1] - 2 * axes[1:2]) for s in (1, -1))
    return Spaces(iteration, images, texts, F.one_hot(torch.as_tensor(labels), 2).double())


@pytest.mark.parametrize("empty", [None, 2])
def test_measures_are_those_of_the_loops(empty):
    for seed in range(5):
        here = spaces(seed)
        if empty is not None:
            here.z[:, empty] = 0
        assert here.measures() == pytest.approx(reference.agreement(here.images, here.texts, here.z), abs=1e-12)


def test_one_space_twice_agrees_in_full_and_two_classes_have_no_structure():
    rows = F.normalize(torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    same = Spaces(0, rows, tuple(rows[:, None]), torch.eye(5, dtype=torch.float64)).measures()
    assert same["structure"] == pytest.approx(1) and same["own"] == pytest.approx(1) and same["gap"] == pytest.approx(0, abs=1e-12)
    assert math.isnan(blobs([0, 1]).measures()["structure"])
    assert blobs([0, 0, 0, 1, 1, 1], seed=1).measures()["gap"] == pytest.approx(4 / math.sqrt(5), abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_no_measure_depends_on(seed):
    here, generator = spaces(seed), torch.Generator().manual_seed(seed)
    measures = here.measures()
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator))[0]
    rows, classes = torch.randperm(30, generator=generator), torch.randperm(6, generator=generator)
    moved = Spaces(0, here.images[rows], tuple(here.texts[j].flip(0) for j in classes), here.z[rows][:, classes])
    turned = replace(here, images=here.images @ rotation, texts=tuple(texts @ rotation for texts in here.texts))
    assert moved.measures() == pytest.approx(measures, abs=1e-9)
    assert turned.measures() == pytest.approx(measures, abs=1e-9)
    images_alone = replace(here, images=here.images @ rotation).measures()
    assert images_alone["structure"] == pytest.approx(measures["structure"], abs=1e-9)
    assert abs(images_alone["own"] - measures["own"]) > 1e-6
    doubled = replace(here, texts=(torch.cat([here.texts[0]] * 3), *here.texts[1:]))
    assert doubled.measures() == pytest.approx(measures, abs=1e-9)


def test_pairs_are_the_named_the_most_asked_or_the_likeliest():
    clip = torch.tensor([[0.5, 0.4, 0.1, 0.0], [0.4, 0.5, 0.1, 0.0], [0.0, 0.1, 0.4, 0.5]])
    asked = replace(NAMES, asked=((0, 0, 1, 3), (0, 2, 3, 9), (1, 1, 2, 9), (2, 0, 3, 4)))
    assert evolution.pairs_to_follow([("fox", "cat")], asked, clip) == [(2, 0)]
    assert evolution.pairs_to_follow([], asked, clip) == [(2, 3), (1, 2), (0, 3)]
    assert evolution.pairs_to_follow([], NAMES, clip) == [(0, 1), (2, 3)]
    for named, message in ((("cat", "dgo"), "'dgo' is no class; did you mean 'dog'"), (("cat", "cat"), "two classes")):
        with pytest.raises(ValueError, match=message):
            evolution.pairs_to_follow([named], NAMES, clip)
    with pytest.raises(ValueError, match="two classes"):
        evolution.pairs_to_follow([], Bank.from_template(["cat"]), torch.ones(3, 1))


def test_turn_is_the_best_of_all_turns_and_mirrorings(rng):
    points, onto = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))

    def distance(matrix):
        return np.linalg.norm(points @ matrix - onto)

    angles = np.linspace(0, 2 * np.pi, 2000)
    turns = [np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in angles]
    best = min(distance(matrix) for turn in turns for matrix in (turn, turn * [1, -1]))
    found = evolution.turn(points, onto)
    assert distance(found) == pytest.approx(best, abs=1e-4)
    assert found @ found.T == pytest.approx(np.eye(2))


def test_a_map_holds_the_images_of_the_last_view_with_their_labels_of_then():
    first, last = blobs([0, 1] * 20), blobs([0, 1] * 20, iteration=3)
    first.z[:4], last.z[:4] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    more = [replace(v, texts=(*v.texts, v.texts[0]), z=F.pad(v.z, (0, 1))) for v in (first, last)]
    more[1].z[10] = torch.tensor([0.0, 0.0, 1.0])  # now in a class of its own: on no map
    more[0].z[20] = torch.tensor([0.0, 0.0, 1.0])  # was in it: on the map, with that label
    frame = evolution.pair_map(more, (0, 1))
    images = frame[frame.kind == "image"]
    rows = [i for i in range(40) if i != 10]
    assert images[images.iteration == 0].label.tolist() == more[0].z[rows].argmax(1).tolist()
    assert images[images.iteration == 3].label.tolist() == more[1].z[rows].argmax(1).tolist()
    assert frame[frame.kind == "text"].label.tolist() == [0, 1] * 2
    assert len(evolution.pair_map(more, (0, 1), most=7)) == 2 * (7 + 2)


def test_a_map_shows_which_class_a_text_is_near_although_the_kinds_are_far_apart():
    frame = evolution.pair_map([blobs([0, 1] * 20)], (0, 1))
    center = frame.groupby(["kind", "label"])[["x", "y"]].mean()
    for j in (0, 1):
        distances = [np.linalg.norm(center.loc[("text", j)] - center.loc[("image", k)]) for k in (j, 1 - j)]
        assert distances[0] < distances[1] / 2


def test_what_does_not_move_stays_where_it_is_on_the_next_map():
    view, tilted = (
        blobs([0, 1] * 10),
        torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0],
    )
    same = Spaces(1, view.images @ tilted, tuple(texts @ tilted for texts in view.texts), view.z)
    frame = evolution.pair_map([view, same], (0, 1))
    first, second = (frame[(frame.iteration == t) & (frame.kind == "image")][["x", "y"]].to_numpy() for t in (0, 1))
    side = first[:, 0] - first[:, 0].mean()
    assert np.linalg.norm(first - second) < 0.8 * np.linalg.norm(first + second)
    assert np.corrcoef(side, second[:, 0])[0, 1] > 0.8


def test_a_pair_without_an_image_is_a_map_of_its_texts():
    view = blobs([0, 1, 0, 1])
    view = replace(view, z=F.one_hot(torch.full((4,), 3)).double(), texts=view.texts[:1] + view.texts[1:] * 3)
    for pair in ((0, 1), (1, 2)):  # of which the last two have one text
        frame = evolution.pair_map([view, view], pair)
        assert frame.kind.tolist() == ["text"] * 4 and np.isfinite(frame[["x", "y"]]).all(axis=None)


def label(encoder, llm, folder=None, trail=True, settings=SETTINGS):
    bank = describe(Bank.from_template(TASK.class_names, TASK.template, TASK.sentence), llm)
    checkpoints = folder and Checkpoints(folder, trail=trail)
    augment = TASK.augmentation(encoder.image_size)
    options = {"attributes": bank, "llm": llm, "augment": augment, "checkpoints": checkpoints, "progress": False}
    return run(encoder, TASK.images, TASK.class_names, settings, **options)


@pytest.fixture(scope="module")
def followed(encoder, tmp_path_factory):
    with language_model("fieldguide", 0) as llm:
        return label(encoder, llm, tmp_path_factory.mktemp("followed"))


def test_the_trail_is_what_each_iteration_saw(encoder, followed):
    states = list(followed.trail)
    assert [state.iteration for state in states] == [0, 1, 2]
    assert all(torch.equal(s.z.argmax(1), step["labels"].long()) for s, step in zip(states, followed.history, strict=True))
    assert torch.equal(states[-1].z, followed.assignments)
    pixels = load_images(TASK.images, encoder).pixels
    for state, by in ((states[0], encoder), (states[-1], followed.encoder)):
        here, bank = Spaces.of(state), followed.attributes.at(state.iteration)
        torch.testing.assert_close(here.images, by.encode_images(pixels).double(), atol=1e-5, rtol=0)
        for texts, features in zip(bank.texts, here.texts, strict=True):
            torch.testing.assert_close(features, by.encode_texts(texts).double(), atol=1e-5, rtol=0)
    assert sum(map(len, Spaces.of(states[-1]).texts)) > sum(map(len, Spaces.of(states[0]).texts))
    assert [view.iteration for view in evolution.views(followed.trail, 3, 2)] == [0, 2]
    assert [view.iteration for view in evolution.views(followed.trail, 3, 9)] == [0, 1, 2]


def test_images_with_a_label_and_later_texts_are_left_out():
    bank = NAMES.add_texts(0, ["a late text"], source="pair", iteration=5)
    texts, images = torch.eye(5), torch.randn(7, 5)
    tensors = {"features": {"images": images}, "texts": {"texts": texts}, "z": {"z": torch.full((3, 4), 0.25)}}
    here = Spaces.of(State(bank, iteration=4, texts=["a late text", *(of_class[0] for of_class in NAMES.texts)], tensors=tensors))
    assert torch.equal(here.images, images[:3].double())
    assert torch.equal(torch.cat(here.texts), texts[1:].double()) and [len(of_class) for of_class in here.texts] == [1] * 4


def test_a_run_that_kept_no_trail_says_how_to_keep_one(encoder, guide_llm, tmp_path):
    short = SETTINGS.model_copy(update={"iterations": 1})
    with pytest.raises(ValueError, match="0 of 1 iterations were kept; run with Checkpoints"):
        list(label(encoder, guide_llm, settings=short).trail)
    label(encoder, guide_llm, tmp_path, trail=False, settings=short)
    with pytest.raises(ValueError, match=f"{tmp_path}.*0 of 1"):  # finished: nothing is left to keep
        list(label(encoder, guide_llm, tmp_path, settings=short).trail)


def test_a_run_that_was_cut_leaves_the_same_trail(encoder, followed, tmp_path):
    """A cap stands for whatever ends a run."""
    with fieldguide.serve(fieldguide.draw_guide(0)) as url:
        with pytest.raises(CapReached):
            label(encoder, LanguageModel("guide", url, Ledger(tmp_path), max_calls=12, progress=False), tmp_path / "run")
        assert any((tmp_path / "run").rglob("*.safetensors"))  # cut while it ran, not before
        again = label(encoder, LanguageModel("guide", url, Ledger(tmp_path), progress=False), tmp_path / "run")
    assert evolution.table(followed.trail).equals(evolution.table(again.trail))


def test_the_headline_is_the_last_iterate_and_the_oracle_is_apart(encoder, followed, monkeypatch):
    labels = tasks.query_labels("digits")[:FIRST]
    monkeypatch.setattr(tasks, "query_labels", lambda name: labels)
    iterates = evolution.iterates(followed)
    rows, _ = results.measure("evolution", TASK, "embedded", encoder, SETTINGS, iterates, iterates.keys(), "hash")
    right = [int((step["labels"].numpy() == labels).sum()) for step in followed.history]
    assert [(row.method, row.variant) for row in rows[:2]] == [("CLIP+attributes", ""), ("GTA-CLIP", "")]
    assert [row.n_correct for row in rows[1:]] == [right[-1], *right]
    assert [row.variant for row in rows[2:]] == [f"iterate {t:02}" for t in range(3)]
    assert rows[-1].seconds == pytest.approx(rows[1].seconds) and rows[2].seconds < rows[3].seconds
    best = oracle_best(rows[2:])
    assert best.n_correct == max(right) and best.variant == f"iterate {right.index(max(right)):02}"


def test_the_measures_take_the_calibration_of_each_iterate_from_its_row():
    rows = [row.model_copy(update={"ece": 10.0 * i, "brier": i / 10}) for i, row in enumerate(rows_of(5, 8, 6))]
    measures = pd.DataFrame({"iteration": range(3), "gap": [0.3, 0.2, 0.1]}).set_index("iteration")
    found = evolution.with_scores(measures, rows)
    assert found.to_csv().splitlines() == ["iteration,gap,ece,brier", "0,0.3,20.0,0.2", "1,0.2,30.0,0.3", "2,0.1,40.0,0.4"]


def rows_of(*n_correct):
    common = {"table": "evolution", "dataset": "d", "backbone": "b", "seed": 0, "n_total": 10, "baseline": "CLIP+attributes", "gain": 0}
    common |= {"gain_low": 0, "gain_high": 0, "seconds": 0, "device": "", "versions": "", "weights": "", "source_hash": ""}
    named = [("CLIP+attributes", ""), ("GTA-CLIP", ""), *(("GTA-CLIP", f"iterate {t:02}") for t in range(len(n_correct)))]
    return [
        Row(run_id=str(i), method=method, variant=variant, n_correct=n, accuracy=10 * n, **common)
        for i, ((method, variant), n) in enumerate(zip(named, (2, n_correct[-1], *n_correct), strict=True))
    ]


def test_of_equals_the_oracle_is_the_first_and_the_figure_calls_it_no_result():
    rows = rows_of(5, 8, 8, 6)
    assert oracle_best(rows[2:]).variant == "iterate 01"
    (axis,) = charts.accuracy_by_iteration(rows).axes
    baseline, line, last, oracle = axis.lines
    assert list(line.get_ydata()) == [50, 80, 80, 60] and baseline.get_ydata()[0] == 20
    assert (last.get_xdata()[0], last.get_ydata()[0], last.get_label()) == (3, 60, "GTA-CLIP, the last iterate: 60.0 %")
    assert (oracle.get_xdata()[0], oracle.get_ydata()[0]) == (1, 80) and "no result" in oracle.get_label()


def test_figures_show_every_pair_iteration_and_measure():
    views = [blobs([0, 1] * 10, iteration=t) for t in (0, 4)]
    figure = charts.pair_maps([evolution.pair_map(views, pair) for pair in ((0, 1), (1, 0))], [(0, 1), (1, 0)], ["cat", "dog"])
    assert [axis.get_title() for axis in figure.axes] == ["iteration 0", "iteration 4", "", ""]
    labels = [text.get_text() for text in figure.axes[3].get_legend().get_texts()]
    assert labels == ["another class", "dog", "dog, texts", "cat", "cat, texts"]
    frame = pd.DataFrame([spaces(t).measures() for t in range(3)])
    drawn = [line.get_ydata().tolist() for axis in charts.agreement(frame).axes for line in axis.lines]
    assert drawn == [frame[name].tolist() for name in ("structure", "own", "other", "gap")]
    flat = pd.DataFrame([spaces(0).measures()] * 3)
    assert all(np.ptp(axis.get_ylim()) > 0.099 for axis in charts.agreement(flat).axes)


def test_nothing_here_can_reach_a_label():
    assert {"tasks.py", "results.py"}.isdisjoint(file.name for file in hashes.sources(ROOT / "gta/studies/evolution.py"))
