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


def line(dataset, seed, difference, p_holm, variant=""):
    setting = {"dataset": dataset, "backbone": "b", "shots": 0, "seed": seed, "method": "GTA-CLIP", "variant": variant}
    points = {"difference": difference, "low": difference - 1, "high": difference + 1, "p_holm": p_holm}
    return {**dict.fromkeys(statistics.COLUMNS, 0), **setting, "reference": "CLIP", **points}


def test_worlds_speak_as_seeds_of_one_dataset_and_other_variants_for_themselves():
    paired = pd.DataFrame([line("aviary:0", 0, 4, 0.01), line("aviary:1", 1, 2, 0.01), line("aviary:0", 0, -3, 0.2, "no adapt")])
    found = frames.comparisons(paired)
    whole, part = ("aviary", "b", 0, "GTA-CLIP", "", "CLIP"), ("aviary", "b", 0, "GTA-CLIP", "no adapt", "CLIP")
    assert found.loc[[whole, part], ["difference", "verdict"]].to_numpy().tolist() == [[3, "better"], [-3, ""]]
    assert found.loc[whole, ["seed 0", "seed 1"]].tolist() == ["+4.0 [+3.0, +5.0]", "+2.0 [+1.0, +3.0]"]
    assert pd.isna(found.loc[part, "seed 1"]) and frames.shown(found)["seed 1"].tolist() == ["+2.0 [+1.0, +3.0]", ""]
    drawn = frames.told_apart(paired)
    assert drawn["mean"].tolist() == [3, 3, -3] and drawn.verdict.tolist() == ["better", "better", ""]
    assert frames.told_apart(paired[:0]).empty


def test_a_csv_beside_a_table_keeps_the_names_of_classes(tmp_path):
    file = tmp_path / "confused_pairs.csv"
    file.write_text("dataset,backbone,method,first,second,place\naviary:2,b,CLIP+attributes,007,NA,3\n")
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
