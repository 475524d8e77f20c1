"""Both presets side by side: means by hand, and the tables of the page as the published files say them."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from gta.charts import presets
from gta.files import ROOT
from gta.scores.rows import read_table
from small import row

COUNTS = {("as_described", 0): (100, 104), ("as_described", 1): (110, 110), ("as_released", 0): (106, 106), ("as_released", 1): (120, 118)}


def rows():
    """GTA-CLIP with two encoders and two draws: of 200 images, `COUNTS` are right."""
    made = []
    for (preset, seed), of_draw in COUNTS.items():
        for draw, right in enumerate(of_draw):
            line = {
                "run_id": f"{preset}{seed}{draw}",
                "method": "GTA-CLIP",
                "dataset": "digits",
                "preset": preset,
                "seed": seed,
                "draw": draw,
            }
            made.append(row(**line, n_correct=right, n_total=200, accuracy=right / 2, oracle_best=right / 2 + 1))
    return made


def steps():
    """Two groups of tensors, of which one learns in one preset alone."""
    lines = []
    for preset, group, step, fall in (
        ("as_described", "image: MLP", 2e-6, 0.5),
        ("as_described", "image: attention", 4e-6, 0.5),
        ("as_released", "image: MLP", 8e-6, 0.1),
    ):
        for iteration in (0, 1):
            setting = {
                "dataset": "digits",
                "preset": preset,
                "seed": 0,
                "method": "GTA-CLIP",
                "variant": "",
                "draw": 0,
                "iteration": iteration,
            }
            did = {"fall": fall * (iteration + 1), "group": group, "gradient": 0.01, "below_gate": 0.25, "step": step * (1 + iteration)}
            lines.append({**setting, **did})
    return pd.DataFrame(lines)


def test_accuracies_are_means_of_encoders_and_their_difference_has_its_interval():
    line = presets.accuracies(rows()).loc["GTA-CLIP"]
    assert (line.as_described, line.as_released) == (53.0, 56.25)
    assert line.difference == pytest.approx(3.25) and line["oracle_best, as_released"] == 57.25
    half = 12.706 * abs(2.0 - 4.5) / 2  # Student's t with one degree of freedom times the standard error of two
    assert (line.low, line.high) == pytest.approx((3.25 - half, 3.25 + half), abs=0.01)


def test_the_regime_is_told_by_group_and_preset():
    table = presets.regime(steps())
    assert table.loc["image: MLP", ("step", "as_released")] == pytest.approx(12e-6)
    assert table.loc["image: MLP", ("below_gate", "as_described")] == 25
    assert pd.isna(table.loc["image: attention", ("step", "as_released")])
    assert presets.falls(steps()) == pytest.approx({"as_described": 0.75, "as_released": 0.15})
    text = presets.markdown(rows(), steps())
    assert "| GTA-CLIP | 53.0 | 56.2 | +3.2 |" in text and "| image: attention | 0.01 | stays | 25 | stays | 6e-06 | stays |" in text
    figure = presets.chart(steps())
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["image: MLP", "image: attention"]
    plt.close(figure)


def test_the_page_holds_what_was_published():
    folder = ROOT / "results/tables"
    published = presets.markdown(read_table(folder / "presets.csv"), pd.read_csv(folder / "regime.csv", keep_default_na=False))
    assert published in (ROOT / "docs/presets.md").read_text(encoding="utf-8")
