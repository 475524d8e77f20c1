import pandas as pd
import pytest
from pydantic import ValidationError

from gta.files import ROOT
from gta.settings import Settings
from gta.studies.zero_shot import ZeroShot
from gta.workshop.choose import CELL, chosen
from gta.worlds.settings import AVIARY, EMBEDDED, settings_for

GOOD = {
    "dataset": "digits",
    "backbone": "embedded",
    "pretrained": None,
    "seed": 0,
    "llm": "fieldguide",
    "ledger": "runs/ledger",
    "mode": "record",
    "max_calls": None,
}
GOOD |= {
    "iterations": None,
    "revision": None,
    "store": "runs/images",
    "variants": [""],
    "classifier": False,
    "smoke": "false",
    "out": "runs/x",
}


def test_the_defaults_are_the_papers():
    paper = {"iterations": 30, "margin": 0.1, "pair_share": 0.05, "neighbors": 3, "confident": 8, "batch_size": 32}
    paper |= {"lr": 2e-7, "lr_projection": 1e-6, "weight_decay": 1e-4}
    assert {key: getattr(settings_for("ViT-B/16"), key) for key in paper} == paper
    assert settings_for("embedded").lr != paper["lr"]


def test_every_setting_is_in_the_digest():
    assert len({Settings().digest, Settings(margin=0.2).digest, Settings(generate=False).digest, Settings(seed=1).digest}) == 4


@pytest.mark.parametrize(("name", "value"), [("iterations", 0), ("margin", 2), ("pairs", "nearest"), ("lr", "fast"), ("batch_size", 1)])
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().iterations = 3


def test_a_notebooks_variables_are_its_parameters():
    namespace = {**GOOD, "In": ["a"], "Out": {}, "_oh": {}, "ZeroShot": ZeroShot, "exit": object()}
    assert ZeroShot.read(namespace).smoke is False


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seeed": 1}, "unknown parameter 'seeed'; did you mean 'seed'"), ({"seed": "one"}, "seed"), ({"smoke": "perhaps"}, "smoke")],
)
def test_a_misspelt_or_ill_typed_parameter_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        ZeroShot.read({**GOOD, **change})


@pytest.mark.parametrize(("file", "settings"), [("choice", EMBEDDED), ("choice_aviary", AVIARY)])
def test_the_embedded_settings_are_those_that_were_chosen(file, settings):
    cells = chosen(pd.read_csv(ROOT / f"gta/workshop/{file}.csv"))
    rate, confident, iterations = cells[cells.rate > 0].iloc[0][CELL]
    assert {"iterations": iterations, "confident": confident, "lr": rate, "lr_projection": rate} == {
        k: v for k, v in settings.items() if k != "pair_share"
    }
