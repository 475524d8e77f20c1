"""A factor changes what it names, every T is a run of that T, and the default stands in every panel."""

from dataclasses import replace

import pytest
import torch
from matplotlib import pyplot as plt

from gta.charts import factors as charts
from gta.data import tasks
from gta.settings import Settings
from gta.studies import ablation_hyperparameters
from gta.studies.ablation_hyperparameters import FACTORS, changes, default, variant
from gta.studies.study import Study
from gta.worlds.settings import settings_for
from small import row


@pytest.fixture
def study(encoder, glyphs, guide_llm, tmp_path):
    task = replace(tasks.load("digits"), images=glyphs[0][:30])
    return Study.of(task, encoder, settings_for("embedded", iterations=2, margin=0.9), guide_llm, checkpoints=tmp_path / "state")


def test_every_t_is_what_a_run_of_so_many_iterations_gives(study):
    ablation_hyperparameters.hyperparameters(study, "T", (1, 2, 3))
    assert set(study.outcomes) == {("CLIP+attributes", ""), ("GTA-CLIP", ""), ("GTA-CLIP", "T = 1"), ("GTA-CLIP", "T = 3")}
    for t, name in ((1, "T = 1"), (2, ""), (3, "T = 3")):
        alone = study.run(study.static, study.llm, changes={"iterations": t}, checkpoints=None)
        torch.testing.assert_close(study.outcomes["GTA-CLIP", name][0], alone.assignments, atol=1e-6, rtol=0)
        assert len(alone.history) == t


def test_without_a_folder_the_iterates_are_not_to_be_had(study):
    study.checkpoints = None
    with pytest.raises(ValueError, match="open the study with a folder"):
        ablation_hyperparameters.hyperparameters(study, "T", (1, 2))


def test_a_value_is_the_run_with_that_setting_and_the_default_is_left_to_t(study):
    ablation_hyperparameters.hyperparameters(study, "k", (1, study.settings.confident))
    assert set(study.outcomes) == {("CLIP+attributes", ""), ("GTA-CLIP", "k = 1")}
    alone = study.run(study.static, study.llm, changes={"confident": 1}, checkpoints=None)
    torch.testing.assert_close(study.outcomes["GTA-CLIP", "k = 1"][0], alone.assignments, atol=1e-6, rtol=0)


def test_more_neighbours_pull_an_image_no_harder_than_three():
    """All cosines are 1, so that a row's weights sum to its number of neighbours before, and to 3 after."""
    x = torch.nn.functional.normalize(torch.ones(20, 4), dim=1)
    for neighbors in (1, 3, 10):
        sums = ablation_hyperparameters.of_equal_pull(x, None, neighbors).to_dense().sum(1)
        torch.testing.assert_close(sums, torch.full((20,), 3.0))


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_changes_its_settings_alone_and_its_default_changes_nothing(factor):
    settings = settings_for("embedded", "aviary:1")
    changed = {"learning rate": {"lr", "lr_projection"}}.get(factor, {FACTORS[factor].setting})
    value = next(value for value in FACTORS[factor].values if value != default(settings, factor))
    other = Settings(**{**settings.model_dump(), **changes(settings, factor, value)})
    assert {name for name, was in settings.model_dump().items() if getattr(other, name) != was} == changed
    same = settings.model_dump() | changes(settings, factor, default(settings, factor))
    assert {**same, "lam": None} == settings.model_dump() and same["lam"] in (None, 1)


def test_the_learning_rate_multiplies_both_and_a_misspelt_factor_is_named():
    assert changes(Settings(), "learning rate", 3) == pytest.approx({"lr": 6e-7, "lr_projection": 3e-6})
    assert variant("alpha", 0.05) == "alpha = 0.05" and variant("k", 16.0) == "k = 16"
    with pytest.raises(ValueError, match="did you mean 'lambda'"):
        ablation_hyperparameters.of("lamda")


def test_the_default_stands_in_every_panel_of_its_dataset():
    measured = {"digits": ("", "k = 2", "lambda = 0"), "aviary:0": ("", "beta = 0.05")}
    rows = [
        row(run_id=f"{dataset}{v}", dataset=dataset, backbone="embedded", method="GTA-CLIP", variant=v)
        for dataset, variants in measured.items()
        for v in variants
    ]
    found = charts.points([*rows, row(run_id="clip", dataset="digits", backbone="embedded", method="CLIP+attributes")])
    lines = sorted((line.dataset, line.factor, line.value, line.default) for line in found.itertuples())
    k = settings_for("embedded").confident
    digits = [("digits", "k", 2, False), ("digits", "k", k, True), ("digits", "lambda", 0, False), ("digits", "lambda", 1, True)]
    assert lines == [("aviary", "beta", 0.05, False), ("aviary", "beta", 0.5, True), *digits]
    figure = charts.curves(rows)
    labels = [axis.get_xlabel() for axis in figure.axes if axis.axison]
    plt.close(figure)
    assert labels == [FACTORS[factor].symbol for factor in ("k", "lambda", "beta")]


def test_one_value_that_ruins_the_method_flattens_no_other_and_its_number_is_shown():
    measured = {"": 80, "k = 2": 81, "k = 4": 79, "lambda = 0": 20}
    rows = [row(run_id=v, dataset="digits", backbone="embedded", method="GTA-CLIP", variant=v) for v in measured]
    rows = [line.model_copy(update={"accuracy": accuracy}) for line, accuracy in zip(rows, measured.values(), strict=True)]
    figure = charts.curves(rows)
    k, lam = (axis for axis in figure.axes if axis.axison)
    plt.close(figure)
    assert k.get_ylim() == lam.get_ylim() and 60 < k.get_ylim()[0] < 79
    assert [text.get_text() for text in lam.texts] == ["▼\n20.0"] and not k.texts
