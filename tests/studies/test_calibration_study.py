"""What is run, what is written and what is drawn, on a few dozen images and on frames by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gta.charts import calibration as charts
from gta.data import tasks
from gta.files import ROOT
from gta.scores.calibration import wilson
from gta.studies import calibration
from gta.studies.parameters import RunParameters
from gta.studies.study import Study
from gta.worlds.settings import settings_for

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=2, smoke=False)


@pytest.fixture
def made(encoder, glyphs, guide_llm, tmp_path, monkeypatch):
    """A study of 60 glyphs in place of the digits, and what its methods said."""
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
    study = Study.of(tasks.load("digits"), encoder, settings_for("embedded", iterations=2), guide_llm, checkpoints=tmp_path / "state")
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "query_labels", lambda name: pytest.fail("a label of a query image"))
        said = calibration.calibration(study, study.checkpoints)
    return SimpleNamespace(study=study, said=said, folder=tmp_path)


def test_every_method_and_iterate_is_measured_by_the_logits_of_its_z(made, encoder):
    study, said = made.study, made.said
    keys = [("CLIP", ""), ("TransCLIP", ""), ("GTA-CLIP", "iterate 00"), ("GTA-CLIP", "iterate 01"), ("GTA-CLIP", "")]
    assert list(said) == keys and set(study.outcomes) == set(keys)
    for key, of in said.items():
        torch.testing.assert_close(torch.from_numpy(of.logits).softmax(1), study.outcomes[key][0].double(), atol=1e-9, rtol=0)
    assert not np.allclose(said[keys[2]].logits, said[keys[3]].logits)
    cosines = encoder.encode_images(study.images.pixels).double()
    cosines = (cosines @ cosines.T).fill_diagonal_(-2)
    for key in keys[:3]:  # the encoder as it came
        assert (cosines[range(60), said[key].neighbours] >= cosines.amax(1) - 1e-9).all()
    assert all((of.neighbours != np.arange(60)).all() for of in said.values())


def test_what_is_written_agrees_with_the_rows(made):
    parameters = RunParameters(**GIVEN | {"out": str(made.folder / "out")})
    rows = {(row.method, row.variant): row for row in made.study.write(parameters, "zero_shot.ipynb", "calibration")}
    calibration.write(made.study, parameters, made.said)
    frame = pd.read_csv(made.folder / "out/temperatures.csv", keep_default_na=False)
    plain = frame[frame.rule == "as it is"].set_index(["method", "variant"])
    for key, row in rows.items():
        assert (plain.ece[key], plain.brier[key]) == pytest.approx((row.ece, row.brier), abs=1e-3)
    assert set(frame.rule) == {"as it is", "neighbours", "CLIP's confidence", "20 labels"}, "60 images are too few to ask for 50 labels"
    of_clip = frame[frame.method == "CLIP"].set_index("rule").temperature
    assert of_clip["CLIP's confidence"] == pytest.approx(1, abs=1e-4) and of_clip["as it is"] == 1
    bins = pd.read_csv(made.folder / "out/reliability.csv", keep_default_na=False)
    counts = bins.groupby(["method", "variant", "rule"])["count"].sum()
    assert (counts == 60).all() and len(counts) == 15
    of = bins[bins.rule == "as it is"]
    right = (of["count"] * of.accuracy).groupby([of.method, of.variant]).sum()
    assert all(right[key] == pytest.approx(row.n_correct, abs=1e-3) for key, row in rows.items())


def temperatures(seeds=(0, 1), iterates=3):
    """ECE of CLIP 10 (8 for seed 1), of all else 20 as it is; half of it with labels."""
    keys = [("CLIP", ""), ("TransCLIP", ""), ("GTA-CLIP", ""), *(("GTA-CLIP", f"iterate {t:02}") for t in range(iterates))]
    lines = []
    for seed in seeds:
        for method, variant in keys:
            for rule, share, draws in (("as it is", 1, 1), ("neighbours", 1.5, 1), ("20 labels", 0.5, 20)):
                error = share * (10 - 2 * seed if method == "CLIP" else 20)
                line = {"dataset": "digits", "backbone": "embedded", "seed": seed, "method": method, "variant": variant, "rule": rule}
                line |= {"draws": draws, "temperature": 1 / share, "temperature_spread": 0.0, "ece": error, "ece_spread": 0.4 * (draws > 1)}
                lines.append(line | {"ece_if_calibrated": 1.25, "brier": 0.3 + 0.1 * seed, "nll": 1.0})
    return pd.DataFrame(lines)


def bins():
    """Two bins: of seed 0, 8 images, half right, and 2, right; of seed 1 only the first, 6 images, none right."""
    lines = []
    for method, variant in (("CLIP", ""), ("TransCLIP", ""), ("GTA-CLIP", "iterate 00"), ("GTA-CLIP", "")):
        for rule in ("as it is", "CLIP's confidence"):
            for seed, b, count, confidence, accuracy in ((0, 7, 8, 0.5, 0.5), (0, 14, 2, 0.95, 1.0), (1, 7, 6, 0.52, 0.0)):
                line = {"dataset": "digits", "backbone": "embedded", "seed": seed, "method": method, "variant": variant, "rule": rule}
                lines.append({**line, "bin": b, "count": count, "confidence": confidence, "accuracy": accuracy, "low": 0, "high": 1})
    return pd.DataFrame(lines)


def written(tmp_path, frame):
    frame.to_csv(tmp_path / "frame.csv", index=False)
    return charts.read(tmp_path / "frame.csv")


def test_of_many_iterates_the_first_and_the_middle_are_shown_and_the_last_is_the_answer(tmp_path):
    steps = {count: charts.steps_of(written(tmp_path, temperatures(iterates=count))) for count in (1, 2, 3, 30)}
    assert steps[1] == ["CLIP", "TransCLIP", "GTA-CLIP"]
    assert steps[2] == ["CLIP", "TransCLIP", "GTA-CLIP, iteration 0", "GTA-CLIP"]
    assert steps[3] == ["CLIP", "TransCLIP", "GTA-CLIP, iteration 0", "GTA-CLIP, iteration 1", "GTA-CLIP"]
    assert steps[30] == ["CLIP", "TransCLIP", "GTA-CLIP, iteration 0", "GTA-CLIP, iteration 14", "GTA-CLIP"]


def test_the_table_has_means_over_encoders_and_the_spread_between_draws(tmp_path):
    frame = charts.table(written(tmp_path, temperatures(iterates=1))).set_index("method")
    assert frame.loc["CLIP", ["ECE, as it is", "ECE, neighbours", "ECE, 20 labels"]].tolist() == ["9.0", "13.5", "4.5 ± 0.4"]
    assert frame.loc["CLIP", ["ECE, 50 labels", "if calibrated", "Brier", "NLL"]].tolist() == ["", "1.2", "0.350", "1.00"]


def test_bins_of_encoders_are_pooled_by_their_images(tmp_path):
    frame = written(tmp_path, bins())
    pooled = charts.pooled(frame[(frame.step == "CLIP") & (frame.rule == "as it is")])
    assert pooled.accuracy.tolist() == pytest.approx([4 / 14, 1]) and pooled.share.tolist() == pytest.approx([14 / 16, 2 / 16])
    assert pooled.confidence.tolist() == pytest.approx([(8 * 0.5 + 6 * 0.52) / 14, 0.95]) and pooled.each.tolist() == [7, 1]
    assert (pooled.low[7], pooled.high[7]) == pytest.approx(wilson(4 / 14, 7))


def test_the_figures_show_every_step_and_rule(tmp_path):
    of_errors, of_bins = written(tmp_path, temperatures(iterates=2)), written(tmp_path, bins())
    figure = charts.diagrams(of_bins, of_errors)
    titles = [axis.get_title().split("\n") for axis in figure.axes]
    assert titles == [["CLIP", "ECE 9.0 %"], ["TransCLIP", "ECE 20.0 %"], ["GTA-CLIP", "ECE 20.0 %"]]
    marks = figure.axes[1].collections[-1].get_offsets()
    assert marks.tolist() == [pytest.approx([100 * (8 * 0.5 + 6 * 0.52) / 14, 400 / 14])], "the bin of one image an encoder is left out"
    plt.close(figure)
    figure = charts.errors(of_errors)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["CLIP", "TransCLIP", "GTA-CLIP, iteration 0", "GTA-CLIP"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*charts.RULES, "if calibrated"]
    plt.close(figure)


def test_the_page_holds_what_was_published_and_before_that_nothing():
    page = (ROOT / "docs/calibration.md").read_text(encoding="utf-8")
    if (ROOT / "results/tables/temperatures.csv").exists():
        assert charts.filled(page, ROOT / "results/tables") == page
    else:
        assert page.partition(f"<!-- {charts.MARK} -->")[2].partition("<!-- end -->")[0].strip() == ""


def test_the_table_is_written_between_the_marks_of_a_document(tmp_path):
    temperatures(iterates=1).to_csv(tmp_path / "temperatures.csv", index=False)
    lines = charts.filled(f"before\n<!-- {charts.MARK} -->\nold\n<!-- end -->\nafter", tmp_path).splitlines()
    assert lines[:2] == ["before", "<!-- calibration: temperatures -->"] and lines[-2:] == ["<!-- end -->", "after"]
    assert lines[4] == "| digits | embedded | CLIP | 9.0 | 13.5 |  | 4.5 ± 0.4 |  | 1.2 | 0.350 | 1.00 |" and len(lines) == 9
    with pytest.raises(ValueError, match="no lines <!-- calibration: temperatures --> and <!-- end -->"):
        charts.filled("text", tmp_path)
