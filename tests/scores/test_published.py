"""The paper's figures beside ours: each verdict on made-up rows, the interval against its definition."""

import numpy as np
import pytest
from scipy.stats import beta

from gta.files import ROOT
from gta.scores import published
from gta.scores.rows import read_table
from small import row


def measured(dataset, method, right, total=1000, table="zero_shot", backbone="ViT-B/32", **changes):
    accuracy = {"n_correct": right, "n_total": total, "accuracy": 100 * right / total}
    identity = {"run_id": f"{dataset}{method}{right}{changes}", "table": table, "dataset": dataset, "backbone": backbone, "method": method}
    return row(**identity, **accuracy, **changes)


def cell(frame, **key):
    (line,) = frame[(frame[list(key)] == list(key.values())).all(axis=1)].itertuples()
    return line


DTD = {"table": "zero_shot", "dataset": "dtd", "backbone": "ViT-B/32"}


def test_nothing_run_is_said_and_no_number_is_made_up():
    frame = published.compare([])
    assert set(frame.verdict) == {"not run", "not comparable"} and frame[["ours", "difference", "low", "high"]].isna().all(axis=None)
    assert (frame[frame.verdict == "not comparable"].table == "ablation").all()
    assert len(frame) == len(published.read()) == 115


def test_the_difference_its_interval_and_the_verdict():
    theirs = published.read()
    clip = cell(theirs, method="CLIP", **DTD).accuracy
    near, far = round(10 * (clip + 0.2)), round(10 * (clip + 1.2))
    line = cell(published.compare([measured("dtd", "CLIP", near)]), method="CLIP", **DTD)
    assert line.verdict == "within" and line.difference == pytest.approx(near / 10 - clip)
    low, high = beta.ppf(0.025, near, 1001 - near), beta.ppf(0.975, near + 1, 1000 - near)
    assert (line.low, line.high) == pytest.approx((100 * low - clip, 100 * high - clip))
    assert cell(published.compare([measured("dtd", "CLIP", far)]), method="CLIP", **DTD).verdict == "outside"


def test_seeds_are_averaged_and_the_interval_stays_that_of_the_images():
    one = cell(published.compare([measured("dtd", "TransCLIP", 500)]), method="TransCLIP", **DTD)
    two = cell(
        published.compare([measured("dtd", "TransCLIP", right, seed=s) for s, right in enumerate((490, 510))]), method="TransCLIP", **DTD
    )
    assert (one.ours, one.seeds, two.ours, two.seeds) == (50, 1, 50, 2)
    assert (two.low, two.high) == (one.low, one.high)


def test_smoke_runs_variants_and_other_encoders_do_not_count():
    others = [{"status": "smoke"}, {"variant": "no adapt"}, {"backbone": "embedded"}, {"shots": 4}]
    frame = published.compare([measured("dtd", "CLIP", 440, **other) for other in others])
    assert "within" not in set(frame.verdict) and "outside" not in set(frame.verdict)


def test_an_average_needs_all_twelve():
    names = sorted(set(published.read().query("table == 'zero_shot'").dataset))
    rows = [measured(name, "GTA-CLIP-FS", 700 + i, table="few_shot", backbone="ViT-B/16", shots=4) for i, name in enumerate(names)]
    key = {"table": "few_shot", "dataset": published.AVERAGE, "method": "GTA-CLIP-FS"}
    assert cell(published.compare(rows[:11]), **key).verdict == "not run"
    line = cell(published.compare(rows), **key)
    assert line.ours == pytest.approx(np.mean([70 + i / 10 for i in range(12)])) and line.verdict == "outside"


def test_the_summary_counts_cells():
    counts = published.summary(published.compare([measured("dtd", "CLIP", 1)])).set_index(["table", "method"])
    assert counts.loc[("zero_shot", "CLIP")].tolist() == [0, 1, 35, 0]
    assert counts.to_numpy().sum() == 115


def test_the_best_of_all_calls_stands_beside_the_published_one_and_the_answer_apart():
    runs = [measured("dtd", "GTA-CLIP", 500, oracle_best=52.0), measured("dtd", "GTA-CLIP", 510, oracle_best=53.0, seed=1)]
    line = cell(published.compare(runs), method="GTA-CLIP", **DTD)
    assert (line.ours, line.last_iterate) == (52.5, 50.5)
    assert line.difference == pytest.approx(52.5 - line.published)
    assert line.low == pytest.approx(100 * beta.ppf(0.025, 525, 476) - line.published)


def test_the_tolerance_of_the_whole_method_is_twice_the_spread_of_its_draws():
    rows = [
        measured("digits", "GTA-CLIP", right, draw=d, seed=s) for s, of in enumerate(((500, 504), (600, 600))) for d, right in enumerate(of)
    ]
    assert published.spread(rows) == pytest.approx((np.var([50.0, 50.4], ddof=1) / 2) ** 0.5)
    ours = published.spread(read_table(ROOT / "results/tables/zero_shot.csv"))
    assert 0.5 < published.TOLERANCES["GTA-CLIP"] / (2 * ours) < 2
