"""The map against numbers by hand: which images a cell is of, what is told apart from chance, and that no text lies on another."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gta.charts import batches
from gta.scores.statistics import paired
from small import row

SCORES = {  # by part: images, right ones of the baseline, and of each method in the worlds 0, 1 and 2
    "low-64x10": (100, 50, {("StatA", ""): (60, 61, 62), ("TransCLIP+attributes", "anchored"): (40, 60, 50)}),
    "low-64x2": (20, 8, {("GTA-CLIP", ""): (3, 4, 2)}),
    "imbalanced-10": (40, 20, {("StatA", ""): (10, 11, 9), ("GTA-CLIP", ""): (20, 22, 24)}),
}


@pytest.fixture(scope="module")
def table():
    rows, right = [], {}
    for seed in range(3):
        for part, (total, base, methods) in SCORES.items():
            of_all = {("CLIP+attributes", ""): base, **{key: counts[seed] for key, counts in methods.items()}}
            for (method, variant), count in of_all.items():
                run = f"{part} {method} {seed}"
                right[run] = np.arange(total) < count
                told = dict(n_correct=count, n_total=total, accuracy=100 * count / total, gain=100 * (count - base) / total)
                told |= dict(run_id=run, dataset=f"aviary:{seed}#{part}-{seed}", seed=seed, baseline="CLIP+attributes")
                rows.append(row(method=method, variant=variant, **told))
    return batches.standings(rows, paired(rows, right, [("GTA-CLIP", "")]))


def test_a_cell_is_the_mean_over_worlds_against_the_baseline_on_the_same_images(table):
    assert table[["condition", "method", "images", "base", "accuracy"]].values.tolist() == [
        ["low-64", "CLIP", 100, 50, 50],
        ["low-64", "TransCLIP, anchored", 100, 50, 50],
        ["low-64", "StatA", 100, 50, 61],
        ["low-64", "GTA-CLIP", 20, 40, 15],
        ["imbalanced-10", "CLIP", 40, 50, 50],
        ["imbalanced-10", "StatA", 40, 50, 25],
        ["imbalanced-10", "GTA-CLIP", 40, 50, 55],
    ]
    assert set(table.dataset) == {"aviary"} and set(table.baseline) == {"CLIP+attributes"}
    cells = table.set_index(["condition", "method"])
    assert np.isnan(cells.gain["low-64", "CLIP"]) and cells.gain["low-64", "StatA"] == pytest.approx(11)
    half = 4.3027 / 3**0.5  # Student's quantile with 2 degrees of freedom; the gains are 10, 11 and 12
    assert [cells.low["low-64", "StatA"], cells.high["low-64", "StatA"]] == pytest.approx([11 - half, 11 + half], abs=1e-3)
    assert cells.verdict.fillna("").tolist() == ["", "", "better", "worse", "", "worse", ""]


def test_what_breaks_is_what_the_interval_over_worlds_shows(table):
    assert batches.broken(table)[["condition", "method", "gain"]].values.tolist() == [
        ["low-64", "GTA-CLIP", -25],
        ["imbalanced-10", "StatA", -25],
    ]
    shown = batches.shown(table)
    assert shown.interval.tolist()[:3] == ["", "[-24.8, +24.8]", "[+8.5, +13.5]"]


def test_the_map_shows_every_cell_and_marks_what_had_fewer_images(table):
    figure = batches.maps(table)
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["CLIP", "TransCLIP, anchored", "StatA", "GTA-CLIP *"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["2-10", "10 : 1"]
    written = [text.get_text() for text in axis.texts]
    assert {"50.0", "+11.0", "-25.0", "+5.0", "[+8.5, +13.5]"} <= set(written) and len(axis.patches) == 7
    assert "accuracy of CLIP+attributes, %" in axis.get_title()
    plt.close(figure)


def test_colours_say_the_sign_and_pale_ones_what_may_be_chance():
    red, _, blue = np.array([batches._colour(gain, 1) for gain in (-30, -3, 3, 30)]).T
    assert (red > blue).tolist() == [True, True, False, False]
    assert batches._colour(0, 1) == pytest.approx((1, 1, 1), abs=0.05)
    assert sum(batches._colour(-30, 1)) < sum(batches._colour(-3, 1)) < sum(batches._colour(-3, batches.PALE)) < 3
    assert batches._colour(-300, 1) == batches._colour(-30, 1)


def test_no_text_of_a_full_map_lies_on_another():
    columns = [condition for group in batches.CONDITIONS.values() for condition in group]
    lines = [
        dict(dataset=dataset, backbone="embedded", condition=condition, method=method, baseline="CLIP+attributes", images=128 + (y < 9))
        | dict(base=50.0, accuracy=50.0, gain=-53.8 if y else np.nan, low=-65.5, high=-42.1, verdict="worse" if y else "")
        for dataset in ("digits", "aviary")
        for condition in columns
        for y, method in enumerate(batches.METHODS)
    ]
    figure = batches.maps(pd.DataFrame(lines))
    figure.canvas.draw()
    texts = [text for axis in figure.axes for text in (*axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels(), axis.title)]
    texts += figure.legends[0].get_texts()
    boxes = np.array([text.get_window_extent().extents for text in texts if text.get_text()])
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    over = (high - low > 0.5).all(2) & ~np.eye(len(boxes), dtype=bool)
    assert len(boxes) > 500 and not over.any()
    assert boxes[:, 0].min() > 0
    plt.close(figure)
