"""What the aviary's page says of a run, on banks and predictions made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gta import encoders
from gta.attributes import Bank
from gta.charts import aviary as aviary_charts
from gta.data import tasks
from gta.encoders.images import load_images
from gta.loop import run
from gta.scores import results, truth
from gta.scores.rows import write_run
from gta.studies import zero_shot
from gta.studies.study import Study
from gta.worlds import aviary
from gta.worlds.aviary import ENCODERS, PHRASES, world
from gta.worlds.birds import ATTRIBUTES, SIZES, STYLES, draw, draw_look
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

WORLD = world(1000)
A, B = 0, 1  # siblings


@pytest.fixture(scope="module")
def birdwatcher():
    return encoders.load("embedded", seed=0, device="cpu", embedded=ENCODERS)


def empty():
    return Bank.from_template(WORLD.names, aviary.BIRD, aviary.SENTENCE)


def differences():
    """(true of A, true of B) for each attribute in which the two differ."""
    pairs = zip(WORLD.facts[WORLD.names[A]], WORLD.facts[WORLD.names[B]], strict=True)
    return [(a, b) for a, b in pairs if a != b]


def false_of(c):
    true = WORLD.facts[WORLD.names[c]]
    return next(phrase for values in PHRASES for phrase in values if phrase not in true)


def test_statements_are_held_against_the_facts():
    bank = empty().add(A, [WORLD.facts[WORLD.names[A]][2], false_of(A)], source="static")
    bank = bank.add(B, [false_of(B)], source="pair", against=WORLD.names[A], iteration=3)
    said = truth.statements(WORLD, bank)
    assert said.true.tolist() == [True, False, False]
    assert said.name.tolist() == [WORLD.names[c] for c in (A, A, B)] and said.iteration.tolist()[2] == 3


def test_coverage_counts_differences_that_a_true_statement_names():
    true_of_a, true_of_b = differences()[0]
    other = false_of(B)
    assert {len(differences())} <= {1, 2}
    begun = replace(empty().add(B, [other], source="static"), asked=((0, A, B, 5),))
    told = begun.add(A, [true_of_a], source="pair", against=WORLD.names[B], iteration=0)
    for bank, after in ((begun, 0), (told, 1), (told.add(B, [true_of_b], source="pair", against=WORLD.names[A], iteration=0), 1)):
        row = truth.coverage(WORLD, bank).iloc[0]
        assert (row.differences, row.before, row.after, row.siblings) == (len(differences()), 0, after, True)
    from_the_first = begun.add(A, [true_of_a], source="static")
    assert truth.coverage(WORLD, from_the_first).before.tolist() == [1]
    assert not truth.coverage(WORLD, replace(empty(), asked=((0, A, 31, 5),))).siblings.any()


def test_without_errors_only_what_is_true_is_left_and_no_class_is_empty():
    true = WORLD.facts[WORLD.names[A]][0]
    bank = empty().add(A, [true, false_of(A)], source="static").add(B, [false_of(B)], source="static")
    bank = bank.add(B, [WORLD.facts[WORLD.names[B]][4]], source="pair", against=WORLD.names[A], iteration=2).without_templates()
    cleaned = truth.without_errors(WORLD, replace(bank, asked=((2, A, B, 1),)))
    assert truth.statements(WORLD, cleaned).true.tolist() == [True, True]
    assert cleaned.asked == ((2, A, B, 1),)
    assert all(of_class for of_class in cleaned.at(-1).texts)
    assert cleaned.at(-1).texts[B] == [aviary.BIRD.format(WORLD.names[B])]


def test_errors_are_parted_by_family():
    labels = WORLD.labels("query")
    wrong = labels.copy()
    wrong[:96] ^= 1  # a sibling
    wrong[96:240] = (wrong[96:240] + 8) % 32  # two families on
    shares = truth.errors_by_family(WORLD, {"all right": labels, "some wrong": wrong})
    np.testing.assert_allclose(shares.loc["all right"], [100, 0, 0])
    np.testing.assert_allclose(shares.loc["some wrong"], [75, 10, 15])
    assert len(aviary_charts.stacked_shares(shares).axes[0].patches) == 6


def test_the_encoder_reads_attributes_it_was_never_shown_together(birdwatcher):
    """Random birds in the style of pretraining; the field is harder. Attributes that are exchanged are read wrong."""
    means = {}
    for style in STYLES:
        rng = np.random.Generator(np.random.PCG64(77))
        birds = rng.integers(SIZES, size=(150, len(SIZES)))
        pictures = [draw(bird, STYLES[style], draw_look(STYLES[style], rng), rng) for bird in birds]
        right = truth.attribute_accuracy(birdwatcher, load_images(pictures, birdwatcher).pixels, birds)
        assert list(right.index) == list(ATTRIBUTES)
        means[style] = right.mean()
    assert means["studio"] > 80 > 100 / SIZES.min() and means["field"] < means["studio"] - 5
    shifted = truth.attribute_accuracy(birdwatcher, load_images(pictures, birdwatcher).pixels, (birds + 1) % SIZES)
    assert shifted.mean() < 100 - means["field"]


def test_names_are_hollow_to_the_encoder(birdwatcher):
    """Texts that differ in the name alone are nearer to one another than texts that differ in an attribute."""
    names = birdwatcher.encode_texts([aviary.SENTENCE.format(name=name, attribute="a red belly") for name in aviary.HOLLOW])
    bellies = birdwatcher.encode_texts([aviary.SENTENCE.format(name=aviary.HOLLOW[0], attribute=value) for value in ATTRIBUTES["belly"]])
    assert (names @ names.T).mean() > 0.9 > (bellies @ bellies.T).fill_diagonal_(-1).max()


def test_all_facts_and_the_classifier_bound_a_run_and_a_study_replays_it(birdwatcher, tmp_path, monkeypatch):
    monkeypatch.setattr(aviary, "PICTURES", {"query": 8, "train": 8})
    task = tasks.load("aviary:1000", cache=tmp_path / "worlds")
    settings = settings_for("embedded", task.name, iterations=2)
    with language_model("fieldguide", 0, facts=task.facts) as llm:
        study = Study.of(task, birdwatcher, settings, llm)
        outcomes = zero_shot.zero_shot(study, ["", "all facts"])
    scored = study.outcomes | zero_shot.classifier(task, birdwatcher, cache=tmp_path / "worlds")
    right = {key: results.correct(task.source, z).mean() for key, (z, _, _) in scored.items()}
    assert right["CLIP", ""] < 0.1  # the names say nothing
    assert right["CLIP+attributes", "all facts"] > right["CLIP+attributes", ""] + 0.1
    assert right["linear classifier", "256 labelled images"] > right["CLIP+attributes", ""]
    assert {baseline for _, _, baseline in scored.values()} == {("CLIP+attributes", "")}
    all_facts = outcomes["all facts"].attributes
    assert truth.statements(WORLD, all_facts).true.all() and set(map(len, all_facts.texts)) == {10} and not all_facts.asked

    rows, predictions = results.measure("t", task, "embedded", birdwatcher, settings, scored, scored.keys(), "hash")
    write_run(tmp_path, rows, predictions)
    outcomes[""].attributes.save(tmp_path / "attributes.json")
    one = truth.study(tmp_path, 1000, settings, tmp_path / "worlds")
    assert one.accuracy == pytest.approx(100 * right["GTA-CLIP", ""])
    assert one.errors.loc["GTA-CLIP", "right"] == pytest.approx(one.accuracy)
    assert not one.statements.true.all() and (one.attributes.before != one.attributes.after).any()
    table = truth.of_all([one, one])
    assert table.loc[1, "accuracy"] == round(one.accuracy, 1) and table.pairs[0] == len(outcomes[""].attributes.asked)
    frame = truth.attributes_by_world([one, one])
    assert frame.index[:2].tolist() == [("body", 0), ("body", 1)]
    assert aviary_charts.before_and_after(frame, "x").axes[0].get_yticklabels()[9].get_text() == "habitat"
    cleaned = run(birdwatcher, task.images, task.class_names, settings, attributes=truth.without_errors(WORLD, all_facts), progress=False)
    assert isinstance(cleaned.assignments, torch.Tensor) and isinstance(truth.mean_errors([one]), pd.DataFrame)


def test_all_facts_of_a_folder_are_not_known(tmp_path):
    with pytest.raises(ValueError, match="all facts are known of the embedded datasets alone"):
        zero_shot.with_all_facts(empty(), replace(tasks.load("digits"), class_names=WORLD.names))
