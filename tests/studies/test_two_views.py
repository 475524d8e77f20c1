"""Two views in a study: what is run with one and with two, what rows are compared with, and what their names keep apart."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gta import encoders
from gta.affinity import knn_graph, smoother
from gta.charts import second_view as charts
from gta.data import tasks
from gta.encoders.images import load_images
from gta.encoders.vision import load_view
from gta.studies import few_shot, second_view
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.second_view import SecondView
from gta.studies.study import Study
from gta.transduct import select_gamma, transduct
from gta.worlds.settings import settings_for
from small import row

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=False, out="o")
SETTINGS = settings_for("embedded", iterations=2, margin=0.9, lr=1e-3, lr_projection=1e-3, confident=3)


@pytest.fixture
def study(encoder, glyphs, guide_llm, monkeypatch):
    """60 glyphs in place of the digits, seen by the encoder of seed 0 and, unless there is none, the image tower of another."""
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))

    def made(view=True, draws=1):
        second = load_view("embedded", device="cpu") if view else None
        return Study.of(tasks.load("digits"), encoder, SETTINGS, guide_llm, second=second, draws=draws)

    return made


def seen(images):
    """What the second encoder sees, without a study."""
    other = encoders.load("embedded", seed=1, device="cpu")
    return other.encode_images(load_images(images, other).pixels)


def test_each_method_is_run_with_one_view_and_with_two(study, glyphs):
    made, alone = study(draws=2), study(view=False)
    torch.testing.assert_close(made.view, seen(glyphs[0]), atol=1e-12, rtol=0)
    assert alone.view is None
    runs = second_view.second_view(made)
    assert list(runs) == ["", "two views", "no adapt", "two views, no adapt"]
    rows, _ = made.score("embedded + embedded", "t", "hash", "done")
    compared = {(row.method, row.variant): row.baseline for row in rows}
    assert compared == {
        ("CLIP", ""): "CLIP",
        ("TransCLIP", ""): "CLIP",
        ("TransCLIP", "two views"): "TransCLIP",
        ("GTA-CLIP", ""): "CLIP",
        ("GTA-CLIP", "two views"): "GTA-CLIP",
        ("GTA-CLIP", "no adapt"): "CLIP",
        ("GTA-CLIP", "two views, no adapt"): "GTA-CLIP, no adapt",
    }
    assert sorted(row.variant for row in rows if row.draw == 1) == ["", "two views"], "what adapts draws"
    once = alone.run(alone.names_only, changes=ONCE)
    assert torch.equal(made.outcomes["TransCLIP", ""][0], once.assignments) and torch.equal(made.outcomes["CLIP", ""][0], once.clip)
    both = transduct(once.features, once.clip, view=seen(glyphs[0])).assignments
    torch.testing.assert_close(made.outcomes["TransCLIP", "two views"][0], both, atol=1e-9, rtol=0)
    for variant in ("", "no adapt"):
        one, two = (made.outcomes["GTA-CLIP", name][0] for name in (variant, second_view.with_two(variant)))
        assert not torch.allclose(one, two, atol=1e-3)


def test_a_part_has_its_own_view(study, glyphs):
    made, part = study(), tasks.load("digits#small-20-0")
    ids = [int(name.partition("/")[2]) for name in part.image_ids]
    torch.testing.assert_close(made.on(part).view, seen([glyphs[0][i] for i in ids]), atol=1e-12, rtol=0)
    assert torch.equal(made.fresh().view, made.view)


def test_few_shot_transduction_sees_both_views_of_query_and_labelled_images(encoder, monkeypatch):
    task = tasks.load("digits")
    part = replace(task, images=task.images[:60], image_ids=task.image_ids[:60])
    study = Study.of(part, encoder, settings_for("embedded", seed=1), None, second=load_view("embedded", device="cpu"))
    found = few_shot.Shots.of(study, study.run(study.names_only, changes=ONCE, progress=False), 2)
    shots, _ = tasks.few_shot("digits", 2, 1)
    view, of_support = found.view
    torch.testing.assert_close(view, seen(part.images), atol=1e-12, rtol=0)
    torch.testing.assert_close(of_support, seen(shots.images), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.given["view"], torch.cat([view, of_support]), atol=0, rtol=0)
    graph = knn_graph(*smoother((found.features, found.support), found.view, found.prior))
    judged = (found.support, found.labels, found.val_features, found.val_labels)
    gamma, by_hand = select_gamma(found.features, found.prior, *judged, affinity=graph, view=view, support_view=of_support)
    chosen, z, _ = found.transclip()
    assert chosen == gamma
    torch.testing.assert_close(z, by_hand.assignments, atol=1e-9, rtol=0)
    assert not torch.allclose(replace(found, view=None).transclip()[1], z, atol=1e-3)


def test_the_names_of_rows_keep_encoders_with_and_without_a_view_apart(study):
    plain, viewed = RunParameters(**GIVEN), RunParameters(**GIVEN, view="embedded")
    assert (plain.named_backbone, viewed.named_backbone) == ("embedded", "embedded + embedded")
    made = study()
    made.add_once(made.names_only)
    scored = [made.score(parameters.named_backbone, "t", "hash", "done")[0] for parameters in (plain, viewed)]
    assert not {row.run_id for row in scored[0]} & {row.run_id for row in scored[1]}


def test_a_written_row_says_its_view(study, tmp_path):
    made = study()
    made.add_once(made.names_only)
    parameters = SecondView(**{**GIVEN, "view": "embedded", "out": str(tmp_path)})
    assert {row.backbone for row in made.write(parameters, "second_view.ipynb", "second_view")} == {"embedded + embedded"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"view": "embeded"}, "view: unknown view 'embeded'.*did you mean 'embedded'"),
        ({"view": "features:gone.npy"}, "view: gone.npy: no such file"),
        ({"view": "embedded", "preset": "as_released"}, "view 'embedded': the released program has no second encoder"),
        ({}, "view: name the second encoder"),
    ],
)
def test_a_view_that_cannot_be_is_refused_by_the_name_of_the_parameter(given, said):
    with pytest.raises(ValueError, match=said):
        SecondView.read(GIVEN | given)


def compared(method, variant, reference, differences):
    base = {"dataset": "aviary:0", "backbone": "b + v", "shots": 0, "better": 0, "worse": 0}
    named = {"method": method, "variant": variant, "reference": reference}
    return [{**base, **named, "seed": seed, "difference": difference} for seed, difference in enumerate(differences)]


def measured(method, variant, accuracies):
    given = {"dataset": "aviary:0", "backbone": "b + v", "method": method, "variant": variant, "n_total": 100}
    return [row(run_id=f"{method}{variant}{s}", seed=s, n_correct=a, accuracy=a, **given) for s, a in enumerate(accuracies)]


def test_a_gain_is_over_the_same_method_with_one_view_and_stacks_where_both_parts_add():
    rows = measured("CLIP+attributes", "", (30, 30))
    for method, variant, one, two in (
        ("TransCLIP+attributes", "", (36, 36), (40, 41)),
        ("GTA-CLIP", "no adapt", (44, 44), (44, 46)),
        ("GTA-CLIP", "", (45, 45), (50, 51)),
    ):
        rows += measured(method, variant, one) + measured(method, second_view.with_two(variant), two)
    paired = pd.DataFrame(
        [
            *compared("TransCLIP+attributes", "two views", "TransCLIP+attributes", (4.0, 5.0)),
            *compared("TransCLIP+attributes", "two views", "CLIP+attributes", (10.0, 11.0)),
            *compared("GTA-CLIP", "two views, no adapt", "GTA-CLIP, no adapt", (0.0, 2.0)),
            *compared("GTA-CLIP", "two views, no adapt", "TransCLIP+attributes, two views", (4.0, 5.0)),
            *compared("GTA-CLIP", "two views", "GTA-CLIP", (5.0, 5.5)),
            *compared("GTA-CLIP", "two views", "TransCLIP+attributes, two views", (9.5, 10.0)),
            *compared("GTA-CLIP", "", "TransCLIP+attributes, two views", (5.0, 5.0)),
        ]
    )
    gains = charts.second_gains(rows, paired)
    assert gains[["row", "one view", "two views", "difference", "verdict"]].to_numpy().tolist() == [
        ["TransCLIP+attributes", 36.0, 40.5, 4.5, ""],  # +- 12.7 * 0.5, Student's interval of two
        ["GTA-CLIP, no adapt", 44.0, 45.0, 1.0, ""],
        ["GTA-CLIP", 45.0, 50.5, 5.2, "better"],
    ]
    assert charts.stacked(paired)[["row", "reference", "verdict"]].to_numpy().tolist() == [
        ["GTA-CLIP, two views, no adapt", "GTA-CLIP, no adapt", ""],
        ["GTA-CLIP, two views, no adapt", "TransCLIP+attributes, two views", ""],
        ["GTA-CLIP, two views", "GTA-CLIP", "better"],
        ["GTA-CLIP, two views", "TransCLIP+attributes, two views", "better"],
    ]
    figure = charts.views(rows, paired)
    left, right = figure.axes
    plt.close(figure)
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["TransCLIP", "GTA-CLIP, no adapt", "GTA-CLIP"]
    drawn = {tuple(line.get_xdata()) for line in right.lines if line.get_marker() == "o"}
    assert drawn == {(4.0,), (5.0,), (0.0,), (2.0,), (5.5,)}
    assert {tuple(dots.get_offsets()[:, 0]) for dots in left.collections} >= {(36.0, 36.0), (40.0, 41.0), (50.0, 51.0)}
