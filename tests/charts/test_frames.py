"""What every chart reads: which rows are seeds of one dataset, and what all seeds say, on lines made by hand."""

import pandas as pd
import pytest

from gta.charts import frames
from gta.charts.drawing import aside
from gta.scores import statistics
from gta.studies.zero_shot import WITHHELD
from small import row


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "digits"),
        ("aviary:12", "aviary"),
        ("aviary:2#small-40-2", "aviary#small-40"),
        ("digits#unseen-3-0", "digits#unseen-3"),
        ("dtd#base", "dtd#base"),
        ("my-birds-2", "my-birds-2"),
    ],
)
def test_what_goes_with_the_seed_is_no_part_of_a_dataset(name, expected):
    assert frames.dataset_of(name) == expected


def test_rows_carry_the_label_of_their_method():
    frame = frames.frame_of([row(dataset="aviary:1", method="GTA-CLIP", variant="no adapt", seed=1), row(dataset="aviary:0")])
    assert frame[["dataset", "label"]].to_numpy().tolist() == [["aviary", "GTA-CLIP, no adapt"], ["aviary", "CLIP"]]
    assert frames.frame_of([]).empty


def test_the_draws_of_an_encoder_are_one_line_and_other_encoders_others():
    rows = [row(seed=s, draw=d, n_correct=n, n_total=10, accuracy=10 * n, gain=n) for s, d, n in ((0, 0, 4), (0, 1, 7), (1, 0, 9))]
    frame = frames.frame_of(rows)
    assert frame[["seed", "accuracy", "gain"]].to_numpy().tolist() == [[0, 55, 5.5], [1, 90, 9]]


def line(dataset, seed, difference, draw=0, variant=""):
    setting = {"dataset": dataset, "backbone": "b", "shots": 0, "seed": seed, "draw": draw, "method": "GTA-CLIP", "variant": variant}
    points = {"difference": difference, "low": difference - 1, "high": difference + 1, "better": 5, "worse": 2}
    return {**dict.fromkeys(statistics.COLUMNS, 0), **setting, "reference": "CLIP", **points}


def test_worlds_speak_as_encoders_of_one_dataset_and_other_variants_for_themselves():
    """Means of two draws, 4.1 and 4.0: 4.05 +- 12.706 * 0.0707 / sqrt(2) = 4.05 +- 0.635; between draws sqrt((0.02 + 0.02) / 2)."""
    drawn = {("aviary:0", 0): (4.0, 4.2), ("aviary:1", 1): (3.9, 4.1)}
    lines = [line(dataset, seed, d, draw) for (dataset, seed), of in drawn.items() for draw, d in enumerate(of)]
    paired = pd.DataFrame([*lines, line("aviary:0", 0, -3, variant="no adapt")])
    found = frames.comparisons(paired)
    whole, part = ("aviary", "b", 0, "GTA-CLIP", "", "CLIP"), ("aviary", "b", 0, "GTA-CLIP", "no adapt", "CLIP")
    assert found.loc[[whole, part], "difference"].tolist() == pytest.approx([4.05, -3])
    assert found.loc[[whole, part], ["verdict", "interval"]].to_numpy().tolist() == [["better", "[+3.4, +4.7]"], ["", ""]]
    assert found.loc[whole, "between draws"] == pytest.approx(0.02**0.5) and pd.isna(found.loc[part, "between draws"])
    assert found.loc[whole, ["encoder 0", "encoder 1"]].tolist() == ["+4.1 (+4.0 to +4.2)", "+4.0 (+3.9 to +4.1)"]
    assert found.loc[part, "encoder 0"] == "-3.0" and pd.isna(found.loc[part, "encoder 1"])
    assert frames.shown(found)["encoder 1"].tolist() == ["+4.0 (+3.9 to +4.1)", ""]
    told = frames.told_apart(paired)
    assert told["mean"].tolist() == pytest.approx([4.05, 4.05, -3]) and told.verdict.tolist() == ["better", "better", ""]
    assert told[["difference", "low", "high"]].to_numpy().tolist() == [
        pytest.approx([4.1, 4.0, 4.2]),
        pytest.approx([4.0, 3.9, 4.1]),
        [-3, -3, -3],
    ]
    assert told[["better", "worse", "encoders", "draws"]].to_numpy().tolist() == [[10, 4, 2, 2], [10, 4, 2, 2], [5, 2, 1, 1]]
    assert frames.told_apart(paired[:0]).empty


def test_a_csv_beside_a_table_keeps_the_names_of_classes(tmp_path):
    file = tmp_path / "confused_pairs.csv"
    file.write_text("dataset,backbone,method,first,second,place\naviary:2,b,CLIP+attributes,007,NA,3\n", encoding="utf-8")
    assert frames.read(file).to_numpy().tolist() == [["aviary", "b", "CLIP", "007", "NA", 3]]
    with pytest.raises(FileNotFoundError, match=r"gone\.csv does not exist"):
        frames.read(tmp_path / "gone.csv")


def test_withheld_names_are_called_as_the_study_calls_them():
    assert frames.WITHHELD == WITHHELD
    assert [frames.bare(variant) for variant in ("", WITHHELD, f"{WITHHELD}, no adapt", "no adapt")] == ["", "", "no adapt", "no adapt"]


@pytest.mark.parametrize("seeds", [[0], [0, 2], [0, 1, 2, 3, 4]])
def test_seeds_stand_around_their_row_and_never_in_the_next(seeds):
    places = [aside(seeds)[seed] for seed in seeds]
    assert sum(places) == pytest.approx(0) and places == sorted(set(places))
    assert max(places) < 0.5
