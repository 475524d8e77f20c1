"""What readers see of photographs, against numbers by hand."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gta.charts import photographs as charts
from gta.scores.statistics import t_interval
from small import row

DRAWS = range(3)


def measured(method, variant, accuracies):
    named = {"method": method, "variant": variant, "backbone": "pocket", "n_total": 100, "ece": 5.0, "brier": 0.5, "seconds": 2.0}
    return [
        row(run_id=f"{method}{variant}{s}", dataset=f"shots#small-100-{s}", seed=s, n_correct=a, accuracy=a, **named)
        for s, a in zip(DRAWS, accuracies, strict=True)
    ]


def differences(method, variant, reference, found):
    base = {"backbone": "pocket", "shots": 0, "better": 0, "worse": 0, "method": method, "variant": variant, "reference": reference}
    return [{**base, "dataset": f"shots#small-100-{s}", "seed": s, "difference": d} for s, d in zip(DRAWS, found, strict=True)]


ROWS = [
    *measured("GTA-CLIP", "no attributes", (60, 62, 64)),
    *measured("CLIP", "", (50, 50, 50)),
    *measured("CLIP", "own mean", (58, 60, 65)),
]
PAIRED = pd.DataFrame(
    [
        *differences("GTA-CLIP", "no attributes", "CLIP", (10.0, 12.0, 14.0)),
        *differences("GTA-CLIP", "no attributes", "CLIP, own mean", (2.0, 2.0, -1.0)),
        *differences("CLIP", "own mean", "CLIP", (8.0, 10.0, 15.0)),
    ]
)


def test_the_table_has_means_and_intervals_over_draws():
    table = charts.standings(ROWS, PAIRED)
    assert table.row.tolist() == ["CLIP", "CLIP, own mean", "GTA-CLIP"] and set(table.dataset) == {"shots#small-100"}
    best = table.iloc[2]
    assert (best.accuracy, best.gain, best.verdict, best.draws, best.images) == (62.0, 12.0, "better", 3, 100)
    low, high = t_interval((60, 62, 64))
    assert best["95 %"] == f"[{low:.1f}, {high:.1f}]" == "[57.0, 67.0]", "62 +- 4.303 * 2 / sqrt(3)"
    assert best["ms an image"] == 20.0 and best.brier == "0.500" and table.iloc[0].gain == ""


def test_a_gain_is_set_against_centring():
    table = charts.compared(PAIRED)
    assert table[["row", "against", "difference", "verdict"]].to_numpy().tolist() == [["GTA-CLIP", "CLIP, own mean", 1.0, ""]]
    assert [table.iloc[0][f"draw {s}"] for s in DRAWS] == ["+2.0", "+2.0", "-1.0"]


def test_a_dot_is_a_draw():
    figure = charts.accuracies(ROWS)
    (axis,) = figure.axes
    plt.close(figure)
    assert axis.get_title(loc="left") == "shots, 100 images a draw, pocket"
    dots = {tuple(line.get_xdata()) for line in axis.lines}
    assert dots == {(60, 62, 64), (50, 50, 50), (58, 60, 65)}


@pytest.fixture
def files(tmp_path):
    """Two draws of two iterations; the class 007 loses in each what None gains; none of its images is there in the second draw."""
    about = [("shots#small-100-0", 0), ("shots#small-100-1", 1)]
    base = {"backbone": "pocket", "method": "GTA-CLIP", "variant": "no attributes"}
    iterations = [
        {
            "dataset": name,
            "seed": s,
            **base,
            "iteration": t,
            "accuracy": 50 + 10 * t + s,
            "precision": 70 - 20 * s,
            "loss": "" if t else 1.5,
        }
        for name, s in about
        for t in range(2)
    ]
    classes = [
        {"dataset": name, "seed": s, **base, "iteration": t, "class": of, "images": 4 if of == "None" or not s else 0, "labelled": 2}
        | {"right": "" if s and of == "007" else (40 + 10 * t if of == "None" else 60 - 20 * t), "precision": 80 - 40 * s, "share": 50}
        for name, s in about
        for t in range(2)
        for of in ("007", "None")
    ]
    pd.DataFrame(iterations).assign(missing=0, largest=30, changed="", confidence=90, fall="").to_csv(tmp_path / "iterations.csv")
    pd.DataFrame(classes).to_csv(tmp_path / "classes.csv")
    return charts.read(tmp_path / "iterations.csv"), charts.read(tmp_path / "classes.csv")


def test_reasons_are_means_over_draws(files):
    iterations, classes = files
    table = charts.by_iteration(iterations)
    assert table[["texts", "iteration", "accuracy", "loss"]].to_numpy().tolist() == [["names", 0, 50.5, "1.500"], ["names", 1, 60.5, ""]]
    by_class = charts.by_class(classes)
    assert by_class[["class", "right first", "right last", "precision first"]].to_numpy().tolist() == [
        ["007", 60.0, 40.0, 60.0],
        ["None", 40.0, 50.0, 60.0],
    ]
    assert by_class["crowding first"].tolist() == [0.5, 0.5]
    figure = charts.reasons(iterations, classes)
    left, middle, right = figure.axes
    plt.close(figure)
    assert [list(line.get_ydata()) for line in left.lines] == [[50, 60], [51, 61], [50.5, 60.5]]
    assert list(middle.lines[-1].get_ydata()) == [60, 60]
    assert {text.get_text() for text in right.texts} == {"007", "None"} and list(right.lines[-1].get_ydata()) == [-20, 10]


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv does not exist: `snakemake photographs` makes it"):
        charts.read(tmp_path / "gone.csv")
