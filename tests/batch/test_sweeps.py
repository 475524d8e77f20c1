"""Grids and pages: what they become, and what they refuse."""

import itertools

import pytest

from gta.batch import sweeps
from gta.batch.steps import Batch
from gta.batch.sweeps import Sweep

GRID = {"dataset": ["digits", "aviary:{seed}"], "backbone": ["embedded"], "shots": [1, 4], "seed": [0, 1]}


def sweep(**changes):
    return Sweep(**{"notebook": "n.ipynb", "target": "demo", "paper": "none", "cost": 1, "grid": [GRID], **changes})


def test_a_grid_is_the_product_of_its_values_but_for_what_is_excluded():
    cells = sweep(exclude=[{"shots": 4, "seed": 1}], smoke={"dataset": ["digits"]}).cells()
    datasets = {"digits": "digits", "aviary:{seed}": "aviary:{}"}
    expected = [
        {"dataset": datasets[d].format(s), "backbone": "embedded", "shots": k, "seed": s}
        for d, k, s in itertools.product(datasets, (1, 4), (0, 1))
        if (k, s) != (4, 1)
    ]
    assert cells == expected
    assert {cell["dataset"] for cell in sweep(smoke={"dataset": ["digits"]}).cells(smoke=True)} == {"digits"}
    first = sweep(exclude=[{"shots": 4, "seed": 1}]).cells(seeds=1)
    assert first == [cell for cell in expected if cell["seed"] == 0], "the first seed of a block"


def test_a_misspelt_preset_is_refused_before_any_run():
    with pytest.raises(ValueError, match="unknown preset 'as_relased'; did you mean 'as_released'"):
        Batch(preset="as_relased")
    assert str(Batch(preset="as_released").base) == "runs/as_released"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outptus": []}, "unknown parameter 'outptus'; did you mean 'outputs'"),
        ({"grid": [{"dataset": ["digits"]}]}, "a block without backbone, seed"),
        ({"exclude": [{"shot": 1}]}, "exclude: shot is in no block of the grid"),
        ({"cost": 0}, "cost"),
        ({"outputs": ["t.csv"]}, "t.csv is made already"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, changes, message):
    (tmp_path / "t.yaml").write_text(sweep().model_dump_json(), encoding="utf-8")
    assert list(sweeps.sweeps(tmp_path)) == ["t"]
    values = {**sweep().model_dump(mode="json"), **changes}
    (tmp_path / "t.yaml").write_text(str(values).replace("None", "null"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.yaml") as error:
        sweeps.sweeps(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("smoke", [False, True])
def test_every_step_of_this_repository_writes_files_of_its_own_and_reads_what_others_make(smoke):
    """Two runs that shared a file would lose each other's rows."""
    batch = Batch(smoke=smoke)
    outputs = [file for step in batch.steps.values() for file in step.outputs]
    assert len(outputs) == len(set(outputs))
    stamps = [step.stamp for step in batch.steps.values()]
    assert len(stamps) == len(set(stamps))
    order = list(batch.steps)
    for name, step in batch.steps.items():
        needs = batch.needs(name)
        assert all(order.index(need) < order.index(name) for need in needs)
        made = {file for need in needs for file in batch.steps[need].outputs}
        ours = {file for file in step.inputs if file.parts[0] == "runs"}
        assert ours <= made, f"{name} reads {ours - made}, which nothing that it needs makes"


def test_the_papers_table_has_twelve_datasets_and_three_encoders():
    cells = [cell for cell in sweeps.sweeps()["zero_shot"].cells() if cell["backbone"] != "embedded"]
    assert len(cells) == 36 and len({cell["dataset"] for cell in cells}) == 12


def test_what_is_not_at_hand_is_left_out_with_the_way_to_bring_it_in(tmp_path, monkeypatch):
    (line,) = [line for line in Batch(data="no/such/folder").left_out if line.startswith("zero_shot:")]
    assert line.startswith("zero_shot: 36 runs on imagenet, ") and line.endswith("not in no/such/folder/ (python -m gta data fetch NAME)")
    monkeypatch.setattr("gta.batch.datasets.ROOT", tmp_path)
    (tmp_path / "data/dtd").mkdir(parents=True)
    assert any(line.startswith("zero_shot: 3 runs on dtd: no language model") for line in Batch().left_out)
    asked = Batch(llm="gpt-4o@https://api.example.org/v1")
    (name,) = [name for name in asked.steps if name.startswith("run/zero_shot/dtd-ViT-B_16")]
    assert asked.steps[name].parameters["llm"] == "gpt-4o@https://api.example.org/v1"
    embedded = [name for name in asked.steps if name.startswith("run/zero_shot/digits-embedded-")]
    assert asked.gpus(name) == 1 and embedded and not any(map(asked.gpus, embedded))
    assert "data_manifests/dtd.yaml" in map(str, asked.steps[name].inputs)


def test_first_attributes_are_read_by_runs_on_the_papers_datasets_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("gta.batch.datasets.ROOT", tmp_path)
    (tmp_path / "data/dtd").mkdir(parents=True)
    (tmp_path / "bank.json").touch()
    of = {value: Batch(llm="m@u", attributes=value).steps for value in ("ask", "adaptclipzs:there", "bank.json")}
    assert not any("attributes" in step.parameters for step in of["ask"].values())
    for value in ("adaptclipzs:there", "bank.json"):
        runs = {name: step for name, step in of[value].items() if name.startswith("run/") and not name.startswith("run/ablation_")}
        on_dtd = {name for name in runs if name.split("/")[2].startswith("dtd-")}
        assert on_dtd and {name for name, step in runs.items() if step.parameters.get("attributes") == value} == on_dtd
        asking = [step for name, step in of[value].items() if name.startswith(("run/ablation_generation/dtd", "run/ablation_released/dtd"))]
        assert asking and not any("attributes" in step.parameters for step in asking)
        assert all(("bank.json" in map(str, runs[name].inputs)) is (value == "bank.json") for name in on_dtd)


def test_how_a_model_is_asked_reaches_the_runs_that_ask_an_endpoint_and_is_checked_first(tmp_path, monkeypatch):
    monkeypatch.setattr("gta.batch.datasets.ROOT", tmp_path)
    (tmp_path / "data/dtd").mkdir(parents=True)
    plain, hot = (Batch(llm="m@u", sampling=given).steps for given in ({}, {"temperature": "0.7", "max_tokens": "1000"}))
    changed = {name for name in plain if plain[name].parameters != hot[name].parameters and name.startswith("run/")}
    assert changed == {name for name in plain if name.startswith("run/") and name.split("/")[2].startswith("dtd-")}
    assert all(hot[name].parameters["sampling"] == {"temperature": 0.7} for name in changed)
    with pytest.raises(ValueError, match="unknown parameter 'temprature'; did you mean 'temperature'"):
        Batch(sampling={"temprature": "1"})
