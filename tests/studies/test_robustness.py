"""What is run, what is written, and what a page calls harm, on a few dozen images."""

import numpy as np
import pandas as pd
import pytest

from gta.charts import robustness as charts
from gta.data import tasks
from gta.scores.rows import read_table
from gta.studies import robustness
from gta.studies.robustness import Robustness
from gta.studies.study import Study
from gta.worlds.settings import settings_for
from small import row

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=False, out="o", condition="small", strengths=[])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("imbalanced", [1, 3, 10, 30, 100]), ("classes", [3, 5, 7, 10]), ("small", [20, 50, 100, 300]), ("unseen", [0, 1, 3, 5])],
)
def test_each_condition_is_named_in_all_strengths(condition, expected):
    names = robustness.names(tasks.load("digits"), Robustness(**GIVEN | {"condition": condition, "seed": 2}))
    assert names == [f"digits#{condition}-{strength}-2" for strength in expected]


def test_the_smoke_size_keeps_the_first_and_the_last_strength():
    names = robustness.names(tasks.load("digits"), Robustness(**GIVEN | {"smoke": True}))
    assert names == ["digits#small-20-0", "digits#small-300-0"]


def test_an_unknown_condition_is_refused():
    with pytest.raises(ValueError, match="imbalanced"):
        Robustness(**GIVEN | {"condition": "imbalance"})


def test_a_run_writes_three_rows_a_part_over_the_images_that_count(encoder, glyphs, guide_llm, tmp_path, monkeypatch):
    """60 glyphs in place of the digits, six a class; of three of the ten classes a name is given."""
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
    parameters = Robustness(**GIVEN | {"condition": "unseen", "strengths": [0, 7], "out": str(tmp_path), "store": str(tmp_path / "store")})
    whole = Study.of(tasks.load("digits"), encoder, settings_for("embedded", iterations=1), guide_llm)
    rows = robustness.write(robustness.robustness(whole, parameters), parameters)
    assert {row.method for row in rows} == {"CLIP", "TransCLIP", "GTA-CLIP"}
    assert {row.dataset: row.n_total for row in rows} == {"digits#unseen-0-0": 60, "digits#unseen-7-0": 18}
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert all(len(predictions[f"digits#unseen-{k}-0.image_id"]) == 60 for k in (0, 7))
        assert predictions["digits#unseen-7-0.counted"].sum() == 18 and "digits#unseen-0-0.counted" not in predictions
        assert all(len(predictions[f"{row.run_id}.correct"]) == row.n_total for row in rows)
    assert len(read_table(tmp_path / "rows.csv")) == 6


def measured(dataset, method, seed, right):
    gain = dict(baseline="CLIP+attributes", gain=right - 50, gain_low=right - 52, gain_high=right - 48)
    return row(dataset=dataset, method=method, seed=seed, n_correct=right, n_total=100, accuracy=right, **gain)


def test_harm_is_what_lies_below_zero_and_worse_only_what_the_interval_over_encoders_shows():
    rows, pairs = [], []
    for seed in range(2):
        for strength, right in ((3, 40), (10, 48 - seed), (30, 60 + seed)):
            part = f"aviary:{seed}#imbalanced-{strength}-{seed}"
            rows += [measured(part, "CLIP+attributes", seed, 50), measured(part, "GTA-CLIP", seed, right)]
            line = {
                "dataset": part,
                "backbone": "b",
                "shots": 0,
                "seed": seed,
                "method": "GTA-CLIP",
                "variant": "",
                "better": 0,
                "worse": 0,
            }
            pairs.append({**line, "reference": "CLIP+attributes", "difference": right - 50})
    frame = charts.frame_of(rows)
    assert set(frame.dataset) == {"aviary"} and set(frame.condition) == {"imbalanced"}
    table = charts.standings(frame, pd.DataFrame(pairs))
    assert table[["strength", "CLIP", "gain", "verdict"]].values.tolist() == [
        [3, 50, -10, "worse"],
        [10, 50, -2.5, ""],
        [30, 50, 10.5, "better"],
    ]
    assert table[["encoder 0", "encoder 1"]].values.tolist() == [["-10.0", "-10.0"], ["-2.0", "-3.0"], ["+10.0", "+11.0"]]
    assert charts.harm(table).strength.tolist() == [3, 10]
    assert len(charts.gains(frame).axes) == 1
