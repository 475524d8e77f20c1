"""The few-shot table: which labelled images the methods see, who chooses gamma, and what the figure draws."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gta.adapt import draw_batches
from gta.charts import few_shot as charts
from gta.data import tasks
from gta.encoders.images import load_images
from gta.released import graphs, solver
from gta.settings import Settings
from gta.studies import few_shot
from gta.studies.parameters import ONCE
from gta.studies.study import Study
from gta.transduct import GAMMAS, from_texts, select_gamma, transduct
from gta.worlds import digits
from gta.worlds.settings import settings_for
from small import row

TASK = tasks.load("digits")
QUERIES, SHOTS = 60, 2


def study_of(encoder, llm, task=TASK, **settings):
    part = replace(task, images=task.images[:QUERIES], image_ids=task.image_ids[:QUERIES])
    return Study.of(part, encoder, settings_for("embedded", seed=1, **{"iterations": 2, **settings}), llm)


def seen_by(study):
    return few_shot.Shots.of(study, study.run(study.names_only, changes=ONCE, progress=False), SHOTS)


@pytest.fixture(scope="module")
def seen(encoder):
    return seen_by(study_of(encoder, None))


def test_labelled_images_are_the_draw_of_the_task_and_none_is_a_query_image(seen, encoder):
    support, validation = tasks.few_shot("digits", SHOTS, 1)
    assert seen.labels.tolist() == support.labels.tolist() == [c for c in range(10) for _ in range(SHOTS)]
    assert seen.val_labels.tolist() == validation.labels.tolist()
    torch.testing.assert_close(seen.support, encoder.encode_images(load_images(support.images, encoder).pixels))
    torch.testing.assert_close(seen.val_features, encoder.encode_images(load_images(validation.images, encoder).pixels))
    parts = [{np.asarray(image).tobytes() for image in images} for images in (TASK.images, support.images, validation.images)]
    assert [len(a & b) for a, b in ((parts[0], parts[1]), (parts[0], parts[2]), (parts[1], parts[2]))] == [0, 0, 0]


def by_hand(seen, val_labels):
    """Gamma and z by a loop: every gamma anew, each validation image judged by its nearest query image."""
    judge = [max(range(QUERIES), key=lambda i: float(seen.features[i] @ image)) for image in seen.val_features]
    answers, right = [], []
    for gamma in GAMMAS:
        z = transduct(seen.features, seen.prior, support_features=seen.support, support_labels=seen.labels, gamma=gamma).assignments
        answers.append(z)
        right.append(sum(int(z[i].argmax()) == label for i, label in zip(judge, val_labels.tolist(), strict=True)))
    return right.index(max(right)), answers, judge


def test_validation_labels_alone_choose_gamma(seen):
    number, answers, judge = by_hand(seen, seen.val_labels)
    gamma, z, _ = seen.transclip()
    assert gamma == GAMMAS[number]
    torch.testing.assert_close(z, answers[number], atol=1e-5, rtol=0)
    for wanted in (0, len(GAMMAS) - 1):  # validation labels that say what this gamma says
        labels = answers[wanted][judge].argmax(1)
        chosen, *_ = replace(seen, val_labels=labels).transclip()
        assert chosen == GAMMAS[by_hand(seen, labels)[0]]
    assert chosen != replace(seen, val_labels=answers[0][judge].argmax(1)).transclip()[0]


def test_the_released_row_differs_by_its_graph_alone(seen):
    gamma, z, _ = seen.transclip(few_shot.GRAPHS["released"])
    graph = graphs.knn_graph(seen.features, seen.support)
    few = {"support_features": seen.support, "support_labels": seen.labels, "affinity": graph}
    torch.testing.assert_close(z, transduct(seen.features, seen.prior, gamma=gamma, **few).assignments, atol=1e-5, rtol=0)
    judged = (seen.support, seen.labels, seen.val_features, seen.val_labels)
    assert gamma == select_gamma(seen.features, seen.prior, *judged, affinity=graph)[0]
    assert (z - seen.transclip()[1]).abs().max() > 0.1


def test_the_released_search_returns_the_last_gamma(seen):
    _, z, _ = seen.transclip(graphs.knn_graph, solver.select_gamma)
    graph = graphs.knn_graph(seen.features, seen.support)
    few = {"support_features": seen.support, "support_labels": seen.labels, "gamma": GAMMAS[-1], "affinity": graph}
    torch.testing.assert_close(z, transduct(seen.features, seen.prior, **few).assignments, atol=1e-3, rtol=0)


def test_labels_of_query_images_play_no_part(encoder, guide_llm, monkeypatch):
    true_load = digits.load
    noise = np.random.default_rng(0).integers(0, 10, len(TASK.images))

    def load(split):
        ids, images, labels = true_load(split)
        return ids, images, noise if split == "query" else labels

    answers = []
    for loader in (true_load, load):
        monkeypatch.setattr(digits, "load", loader)
        study = study_of(encoder, guide_llm, tasks.load("digits"))
        gammas = few_shot.few_shot(study, 1)
        answers.append((gammas, {key: z for key, (z, _, _) in study.outcomes.items()}))
    assert (tasks.query_labels("digits") == noise).all()
    assert answers[0][0] == answers[1][0]
    assert list(answers[0][1]) == [("CLIP", ""), ("TransCLIP-FS", "aligned"), ("TransCLIP-FS", "released"), ("GTA-CLIP-FS", "")]
    assert all(torch.equal(z, answers[1][1][key]) for key, z in answers[0][1].items())


def test_labelled_images_are_adapted_to_with_their_true_class_and_the_chosen_gamma(encoder, seen, monkeypatch):
    selections, weights = [], []

    def draw(selection, *rest):
        selections.append(selection)
        return draw_batches(selection, *rest)

    true_transduct = from_texts.transduct
    monkeypatch.setattr(
        from_texts, "transduct", lambda *args, **options: weights.append(options["gamma"]) or true_transduct(*args, **options)
    )
    study = study_of(encoder, None)
    options = {"changes": {"gamma": 0.2}, "draw": draw, "progress": False, **seen.given}
    study.run_draws("GTA-CLIP-FS", "", study.names_only, None, **options)
    (selection,) = selections
    rows = {int(image): of.nonzero().flatten().tolist() for image, of in zip(selection.images, selection.classes, strict=True)}
    assert {image - QUERIES: of for image, of in rows.items() if image >= QUERIES} == {i: [int(c)] for i, c in enumerate(seen.labels)}
    assert set(weights) == {0.2}


def measured(method, variant, shots, seed, n_correct, dataset):
    setting = {"dataset": dataset, "backbone": "embedded", "method": method, "variant": variant, "shots": shots, "seed": seed}
    return row(**setting, n_correct=n_correct, n_total=100, accuracy=n_correct)


ROWS = [
    measured(method, variant, shots, seed, 50 + 2 * place + shots + seed, dataset)
    for dataset in ("digits", "aviary:{}")
    for place, (method, variant) in enumerate([("CLIP", ""), ("TransCLIP-FS", "aligned"), ("GTA-CLIP-FS", "")])
    for shots in (1, 4, 16)
    for seed in (0, 2)
    for dataset in [dataset.format(seed)]
]


def test_a_line_goes_through_the_means_of_the_seeds_in_a_panel_of_each_dataset():
    figure = charts.curves(ROWS)
    assert [axis.get_title().split(",")[0] for axis in figure.axes] == ["digits", "aviary"]
    for axis in figure.axes:
        assert axis.get_xscale() == "log" and [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "4", "16"]
        lines = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
        assert lines["TransCLIP-FS, aligned"] == [54, 57, 69]
        assert sum(len(dots.get_offsets()) for dots in axis.collections) == 3 * 3 * 2


def test_the_table_shows_the_mean_and_the_ends():
    cells = charts.accuracies(ROWS)
    assert cells.loc[("digits", "embedded", "GTA-CLIP-FS"), 4] == "59.0 [58.0, 60.0]"


@pytest.mark.parametrize(("second", "expected"), [(2.1, "better"), (9.0, ""), (-2.0, "")])
def test_only_what_the_interval_over_encoders_shows_has_a_verdict(second, expected):
    line = {"table": "few_shot", "dataset": "digits", "backbone": "embedded", "shots": 4, "method": "GTA-CLIP-FS", "variant": ""}
    drawn = [(0, 1.9), (0, 2.1), (1, second - 1), (1, second + 1)]
    lines = [{**line, "seed": seed, "reference": "CLIP", "difference": of, "better": 0, "worse": 0} for seed, of in drawn]
    shown = charts.differences(pd.DataFrame(lines))
    assert shown.verdict.tolist() == [expected]
    assert shown["encoder 1"].tolist() == [f"{second:+.1f} ({second - 1:+.1f} to {second + 1:+.1f})"]


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_are_no_few_shot_run(shots):
    given = dict.fromkeys(["pretrained", "revision", "max_calls", "iterations"])
    given |= {"dataset": "digits", "backbone": "embedded", "seed": 0, "store": "s", "llm": "fieldguide", "ledger": "l", "mode": "record"}
    with pytest.raises(ValueError, match="shots"):
        few_shot.FewShot(**given, smoke=True, out="o", shots=shots)
    assert few_shot.FewShot(**given, smoke=True, out="o", shots=1).settings.iterations < Settings().iterations
