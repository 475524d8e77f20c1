"""Which rows are the steps of a benchmark, and whose gains are drawn."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from gta.charts import gains
from gta.charts.drawing import METHODS, VERDICTS
from small import row


def rows(dataset, base, variant="", seed=0, accuracies=(40, 50, 60)):
    names = (base, f"Trans{base}", "GTA-CLIP")
    baseline = f"{base}, {variant}" if variant else base
    return [
        row(
            run_id=f"{dataset}{name}{variant}{seed}", dataset=dataset, method=name, variant=variant, seed=seed, baseline=baseline
        ).model_copy(update={"accuracy": accuracy})
        for name, accuracy in zip(names, accuracies, strict=True)
    ]


def test_steps_begin_at_each_settings_own_baseline():
    others = rows("digits", "CLIP", "no adapt") + rows("aviary:0", "CLIP")[:1]
    others[-1] = others[-1].model_copy(update={"baseline": "CLIP+attributes", "accuracy": 3})
    worlds = rows("aviary:0", "CLIP+attributes") + rows("aviary:1", "CLIP+attributes", seed=1, accuracies=(10, 20, 30))
    frame = gains.steps(
        [*rows("digits", "CLIP"), *rows("digits", "CLIP+attributes", "names withheld", accuracies=(1, 2, 3)), *worlds, *others]
    )
    assert frame.loc[("digits", "b", 0)].tolist() == [40, 50, 60]
    assert frame.loc[("digits, names withheld", "b", 0)].tolist() == [1, 2, 3]
    assert frame.loc["aviary"].to_numpy().tolist() == [[40, 50, 60], [10, 20, 30]]
    assert len(frame) == 4


def test_a_loss_is_hatched_and_a_panel_holds_the_transduction_of_its_own_baseline():
    figure = gains.stacked(gains.steps(rows("digits", "CLIP", accuracies=(40, 50, 45))))
    hatched = [bar for bar in figure.axes[0].patches if bar.get_hatch()]
    assert [(bar.get_x(), bar.get_width()) for bar in hatched] == [(50, -5)]
    line = {"dataset": "aviary:0", "backbone": "b", "shots": 0, "seed": 0, "variant": "", "reference": "CLIP+attributes"}
    line |= {"better": 0, "worse": 0}
    lines = [
        {**line, "method": m, "difference": d, "low": d - 1, "high": d + 1} for m, d in (("TransCLIP", -9), ("TransCLIP+attributes", 6))
    ]
    panel = gains.gains(pd.DataFrame(lines), {"TransCLIP": "TransCLIP"}).axes[0]
    drawn = [list(shown.get_xdata()) for shown in panel.lines if shown.get_marker() == "o"]
    assert drawn == [[6]]


def test_a_row_has_the_colour_of_its_method_on_the_left_and_of_what_all_encoders_say_on_the_right():
    worlds = [measured for seed in (0, 1) for measured in rows(f"aviary:{seed}", "CLIP", seed=seed)]
    part = row(run_id="part", dataset="aviary:0", method="GTA-CLIP", variant="no adapt", n_correct=1, n_total=4, accuracy=25)
    line = {"backbone": "b", "shots": 0, "variant": "", "reference": "CLIP", "better": 0, "worse": 0}
    paired = pd.DataFrame(
        {**line, "dataset": f"aviary:{seed}", "seed": seed, "method": method, "difference": difference}
        for method, of in (("TransCLIP", (-9, -8)), ("GTA-CLIP", (1, 7)))  # -8.5 +- 6.4, and 4 +- 38
        for seed, difference in enumerate(of)
    )
    figure = gains.accuracies_and_gains([part, *worlds, *rows("digits", "CLIP")], paired, "CLIP")
    plt.close(figure)
    digits, _, left, right = figure.axes
    assert [digits.get_title(loc="left"), left.get_title(loc="left")] == ["digits, b", "aviary, b"], "datasets never share a mean"
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["CLIP", "TransCLIP", "GTA-CLIP", "GTA-CLIP, no adapt"]
    expected = [METHODS[name] for name in ("CLIP", "TransCLIP", "GTA-CLIP", "GTA-CLIP")]
    assert all(same_color(bar.get_color(), color) for bar, color in zip(left.lines, expected, strict=True))
    hollow = [same_color(dots.get_facecolor()[0], "white") for dots in left.collections]
    assert hollow == [False, False, False, True] and [len(dots.get_offsets()) for dots in left.collections] == [2, 2, 2, 1]
    drawn = {tuple(shown.get_xdata()): shown.get_color() for shown in right.lines if shown.get_marker() == "o"}
    assert drawn == {(-9,): VERDICTS["worse"], (-8,): VERDICTS["worse"], (1,): VERDICTS[""], (7,): VERDICTS[""]}
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_facecolor()[:3]) for bar in right.patches]
    half = 12.706 / 2  # Student's 97.5 % quantile with one degree of freedom, times the error of the mean of -9 and -8
    expected = [(-8.5 - half, -8.5 + half), (4 - 6 * half, 4 + 6 * half)]
    assert [bar[:2] for bar in bars] == [pytest.approx(ends, abs=1e-2) for ends in expected]
    assert all(same_color(bar[2], VERDICTS[said]) for bar, said in zip(bars, ("worse", ""), strict=True))
