"""The cells of the ablation against what their names mean, and what the heat map marks against images made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gta.charts import components as charts
from gta.data import tasks
from gta.scores import results, statistics
from gta.studies import ablation_components
from gta.studies.ablation_components import ATTRIBUTES, STEPS, compared_with, name
from gta.studies.study import Study
from gta.transduct import text_prior, transduct
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for
from small import row

CELLS = [(attributes, *steps) for attributes in ATTRIBUTES for steps in STEPS]


@pytest.fixture(scope="module")
def ran(encoder, glyphs):
    """A study after its three rows, and the runs of each."""
    task = replace(tasks.load("digits"), images=glyphs[0][:30])
    settings = settings_for("embedded", iterations=2, margin=0.9)  # wide, so that few images are enough for a question
    with language_model("fieldguide", 0) as llm:
        study = Study.of(task, encoder, settings, llm)
        runs = {"none": ablation_components.components(study, "none")}
        assert llm.usage.questions == 0, "nothing is asked"
        return study, runs | {attributes: ablation_components.components(study, attributes) for attributes in ATTRIBUTES[1:]}


def test_twelve_cells_have_twelve_names_and_each_is_compared_with_one_component_less():
    assert len({name(cell) for cell in CELLS}) == 12
    assert name(("dynamic", True, True)) == ("GTA-CLIP", "")
    assert name(("none", False, False)) == ("CLIP", "") == name(compared_with(("none", False, False)))
    for cell in CELLS[1:]:
        other = compared_with(cell)
        fewer = [ATTRIBUTES.index(cell[0]) - ATTRIBUTES.index(other[0]), cell[1] - other[1], cell[2] - other[2]]
        assert sorted(fewer) == [0, 0, 1], cell


def test_cells_that_neither_ask_nor_adapt_are_clip_and_transclip(ran):
    study, _ = ran
    features = study.encoder.encode_images(study.images.pixels)
    for bank, suffix in ((study.names_only, ""), (study.static, "+attributes")):
        prior = text_prior(features, [study.encoder.encode_texts(texts) for texts in bank.texts], study.encoder.logit_scale)
        torch.testing.assert_close(study.outcomes[f"CLIP{suffix}", ""][0], prior, atol=1e-5, rtol=0)
        torch.testing.assert_close(study.outcomes[f"TransCLIP{suffix}", ""][0], transduct(features, prior).assignments, atol=1e-4, rtol=0)


def test_only_dynamic_cells_ask_and_only_cells_that_adapt_change_the_encoder(ran):
    study, runs = ran
    before = study.encoder.model.state_dict()
    assert [sorted(of_row) for of_row in runs.values()] == [[(False, True), (True, True)]] * 2 + [sorted(STEPS)]
    for attributes, of_row in runs.items():
        for (_, adapt), run in of_row.items():
            assert bool(run.attributes.asked) is (attributes == "dynamic")
            assert run.attributes.at(-1).texts == (study.names_only if attributes == "none" else study.static).texts
            assert all(torch.equal(value, before[key]) for key, value in run.encoder.model.state_dict().items()) is not adapt


def test_without_transduction_the_answer_is_the_prior_of_the_encoder_and_the_texts_at_the_end(ran):
    study, runs = ran
    for (cell_transducts, _), run in runs["dynamic"].items():
        features = run.encoder.encode_images(study.images.pixels)
        texts = [run.encoder.encode_texts(of_class) for of_class in run.attributes.at(1).texts]
        prior = text_prior(features, texts, run.encoder.logit_scale)
        expected = transduct(features, prior).assignments if cell_transducts else prior
        torch.testing.assert_close(run.assignments, expected, atol=1e-3, rtol=0)


def table(counts):
    """Rows and paired comparisons of 400 images, of which each cell gets the first `counts[cell]` right in each of two seeds."""
    rows, right = [], {}
    for cell, by_seed in counts.items():
        for seed, count in enumerate(by_seed):
            method, variant = name(cell)
            line = {"run_id": f"{cell}{seed}", "method": method, "variant": variant, "seed": seed, "dataset": f"aviary:{seed}"}
            line |= {"n_correct": count, "n_total": 400, "accuracy": count / 4, "baseline": statistics.label(*name(compared_with(cell)))}
            rows.append(row(**line))
            right[line["run_id"]] = np.arange(400) < count
    return rows, statistics.paired(rows, right)


def test_the_heat_map_marks_only_what_the_interval_over_encoders_says():
    counts = {
        ("none", False, False): (200, 220),
        ("none", False, True): (240, 224),  # better in both, and too far apart for two encoders
        ("none", True, False): (240, 261),  # better in both: 10.1 +- 1.6
        ("none", True, True): (238, 264),  # encoders do not agree
        ("static", False, False): (160, 179),  # worse in both than the row above: -10.1 +- 1.6
    }
    figure = charts.heat_maps(*table(counts))
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    plt.close(figure)
    assert sorted(text for text in texts if text[0] in "▲▼") == ["▲ +10.1", "▼ -10.1"]
    assert "50.0 to 55.0" in texts and "52.5" in texts, "the range of the seeds, and their mean"


def test_a_line_of_the_table_is_a_cell_with_the_one_that_it_is_compared_with():
    lines = charts.steps(*table({("none", False, False): (200, 220), ("none", True, False): (240, 261)}))
    assert lines[["attributes", "transduct", "adapt", "compared with", "verdict"]].values.tolist()[1] == [
        "none",
        True,
        False,
        "CLIP",
        "better",
    ]
    assert lines.accuracy.tolist() == [52.5, 62.6] and lines.difference.tolist()[1] == 10.1


def test_only_datasets_of_the_paper_stand_beside_its_averages():
    rows, _ = table({("none", False, False): (200, 220)})
    published = charts.beside_published(rows, results.PUBLISHED)
    assert set(published.here) == {"not run"} and published["in the paper"].tolist()[0] == 60.56
    of_paper = [
        row(run_id=dataset, dataset=dataset, backbone="ViT-B/16", n_correct=n, n_total=100, accuracy=n)
        for dataset, n in (("dtd", 40), ("cub", 50))
    ]
    both = charts.beside_published([*rows, *of_paper], results.PUBLISHED).set_index("row")["ViT-B/16, mean of 2 datasets"]
    assert both["CLIP"] == 45 and pd.isna(both["GTA-CLIP"])
