"""The study on a few digits, its tables by hand, and the document that holds what was published."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gta.charts import diagnosis as charts
from gta.data import tasks
from gta.diagnosis import measure, plants, predictors, runs, slices
from gta.files import ROOT
from gta.scores.statistics import t_interval
from gta.studies.study import Study
from gta.worlds.settings import settings_for

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=True, plants=1, first=100)


@pytest.mark.slow
def test_a_run_measures_every_method_and_sees_no_label_of_a_query_image(encoder, glyphs, guide_llm, tmp_path, monkeypatch):
    images, labels = glyphs
    split = ([f"glyph/{i}" for i in range(60)], np.stack(images)[..., 0], labels.numpy())
    monkeypatch.setattr(tasks.digits, "load", lambda name: split)
    monkeypatch.setattr(slices, "PERMUTATIONS", 19)
    monkeypatch.setattr(plants, "SHARE", 0.4)
    monkeypatch.setattr(predictors, "FEWEST", 5)
    study = Study.of(tasks.load("digits"), encoder, settings_for("embedded", iterations=1), guide_llm)
    parameters = runs.Diagnosis(**GIVEN, out=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "query_labels", lambda name: pytest.fail("a label of a query image"))
        measured = runs.diagnosis(study, parameters)
    images_of = measured.of_images
    assert list(images_of.draw.unique()) == [-1, 100] and list(study.outcomes) == [("CLIP", "")]
    assert {measure.OURS, measure.ALONE, measure.NULL, "1 - confidence", "margin", "mixture", "class SVM"} <= set(images_of.method)
    planted = images_of[images_of.draw == 100]
    assert (planted.harmed_images == 48).all() and planted.harm.isin(plants.HARMS).all() and (planted.wrong == planted.alone).all()
    methods = {measure.SLICES, measure.ALIKE, "1 - confidence, by words", measure.NULL, "mixture", "class SVM", "ridge"}
    assert set(measured.of_slices.method) == methods
    assert (measured.of_slices["rank"] == 0).all(), "no harm of digits has words"
    runs.write(measured, parameters)
    assert len(charts.read(tmp_path / "predicted.csv")) == len(images_of) and (tmp_path / "slices.csv").exists()


def test_smoke_runs_plant_less():
    assert list(runs.Diagnosis(**GIVEN | {"plants": 5}, out="o").planted) == [100, 101]
    assert list(runs.Diagnosis(**GIVEN | {"plants": 3, "smoke": False, "first": 0}, out="o").planted) == [0, 1, 2]


def of_slices():
    """Two worlds and two draws: ours finds the plant in three of four, once at rank 2; the null in none."""
    lines = []
    for seed, draw, rank in ((0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 0)):
        for method, of in ((measure.SLICES, rank), (measure.NULL, 0)):
            line = {
                "dataset": f"aviary:{seed}",
                "backbone": "embedded",
                "seed": seed,
                "draw": draw,
                "harm": "shifted" if draw else "blurred",
            }
            line |= {"words": "w", "images": 100, "harmed_images": 10, "wrong": 70.0, "others": 20.0, "alone": 30.0}
            lines.append(
                line | {"method": method, "rank": of, "as_true": 3 if of == 0 else of, "names": "a | b", "p": 0.001, "precision": 0.5}
            )
    nothing = {**lines[0], "draw": -1, "harm": "", "words": "", "rank": 0}
    return pd.DataFrame([nothing, *lines])


def of_images():
    lines = []
    for seed, ours in ((0, 0.9), (1, 0.8)):
        for draw in (-1, 0, 1):
            for method, auroc in ((measure.OURS, ours if draw >= 0 else 0), (charts.CONFIDENCE, 0.7)):
                line = {
                    "dataset": "digits",
                    "backbone": "embedded",
                    "seed": seed,
                    "draw": draw,
                    "harm": "cut",
                    "words": "",
                    "method": method,
                }
                lines.append(line | {"auroc": auroc, "precision": 0.6, "harmed": 0.3})
    return pd.DataFrame(lines)


def written(tmp_path, frame, name):
    frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return charts.read(tmp_path / f"{name}.csv")


def test_the_tables_count_draws_within_worlds(tmp_path):
    frame = written(tmp_path, of_slices(), "slices")
    table = charts.found_table(frame).set_index("method")
    low, _ = t_interval([100, 50])
    assert table.loc[measure.SLICES, ["found", "at rank 1", "blurred (2)", "shifted (2)", "harmed images"]].tolist() == [
        75,
        50,
        100,
        50,
        50,
    ]
    assert table.loc[measure.SLICES, "found, 95 %"] == f"{max(low, 0):.0f} to 100" and table.loc[measure.NULL, "found"] == 0
    assert table.loc[measure.SLICES, "as true"] == 100
    assert charts.draws(frame)["rank"].tolist() == [1, 2, 1, 0]
    precision = charts.precision_table(frame).set_index("method")
    assert precision.loc[measure.SLICES, ["in the best slice", "of all"]].tolist() == [50, 10]


def test_auroc_is_compared_with_confidence_draw_by_draw(tmp_path):
    table = charts.images_table(written(tmp_path, of_images(), "predicted")).set_index("method")
    low, high = t_interval([0.2, 0.1])
    assert table.loc[measure.OURS, ["AUROC", "to 1 - confidence"]].tolist() == [0.85, 0.15]
    assert (
        table.loc[measure.OURS, "95 % interval"] == f"{low:+.3f} to {high:+.3f}" and table.loc[charts.CONFIDENCE, "to 1 - confidence"] == 0
    )


def test_the_figures_have_a_row_for_each_method(tmp_path):
    for figure in (charts.found(written(tmp_path, of_slices(), "slices")), charts.aurocs(written(tmp_path, of_images(), "predicted"))):
        assert len(figure.axes[0].get_yticklabels()) == 2
        plt.close(figure)


def test_the_page_holds_what_was_published_and_before_that_nothing():
    page = (ROOT / "docs/diagnosis.md").read_text(encoding="utf-8")
    if (ROOT / "results/tables/slices.csv").exists():
        assert charts.filled(page, ROOT / "results/tables") == page
    else:
        assert all(page.partition(f"<!-- {mark} -->")[2].partition("<!-- end -->")[0].strip() == "" for mark in charts.MARKS)


def test_both_tables_are_written_between_their_marks(tmp_path):
    written(tmp_path, of_slices(), "slices")
    written(tmp_path, of_images(), "predicted")
    marks = "".join(f"<!-- {mark} -->\nold\n<!-- end -->\n" for mark in charts.MARKS)
    text = charts.filled(marks, tmp_path)
    assert "old" not in text and f"| aviary | embedded | {measure.SLICES} | 75 |" in text and f"| {measure.OURS} | 0.85 | 0.15 |" in text
