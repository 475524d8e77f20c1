"""Photographs: what a draw is, which rows it has, what the control does, and what adapt is said to have learnt from."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from gta.attributes import Bank
from gta.data import tasks
from gta.scores import confident
from gta.state import State
from gta.studies import photographs
from gta.studies.photographs import NO_ATTRIBUTES, OWN_MEAN, Photographs
from gta.worlds.glyphs import DIGITS, FACTS

GIVEN = dict(backbone="embedded", pretrained=None, revision=None, seed=0, iterations=2, rate=1e-3, confident=3, images=40, smoke=False)
TEXTS = {"template": "a picture of the digit {}", "sentence": "a picture of the digit {name} with {attribute}"}


@pytest.fixture(scope="module")
def folder(glyphs, tmp_path_factory):
    """60 glyphs as a folder of class folders."""
    base = tmp_path_factory.mktemp("photos") / "glyphs"
    for i, (image, label) in enumerate(zip(*glyphs, strict=True)):
        (base / DIGITS[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(base / DIGITS[label] / f"{i:02}.png")
    return base


@pytest.fixture
def given(folder, tmp_path):
    """To phrases of classes the parameters of a run from a file with them."""

    def made(phrases=None, names=DIGITS, **changes):
        file = tmp_path / "classes.yaml"
        file.write_text(yaml.safe_dump({**TEXTS, "classes": {name: (phrases or {}).get(name) for name in names}}), encoding="utf-8")
        places = {"dataset": str(folder), "classes": str(file), "store": str(tmp_path / "store"), "out": str(tmp_path / "out")}
        return Photographs(**{**GIVEN, **places, **changes})

    return made


def test_a_draw_is_so_many_images_of_the_folder_by_the_seed(given):
    whole = {f"{name}/{i:02}.png" for i in range(60) for name in [DIGITS[i % 10]]}
    drawn = [given(seed=seed).task for seed in (0, 0, 1)]
    assert all(len(task.image_ids) == 40 and set(task.image_ids) < whole for task in drawn)
    assert drawn[0].image_ids == drawn[1].image_ids != drawn[2].image_ids
    assert [task.name for task in drawn[1:]] == ["glyphs#small-40-0", "glyphs#small-40-1"]
    assert (drawn[0].template, drawn[0].sentence) == (TEXTS["template"], TEXTS["sentence"])
    labels = tasks.query_labels(drawn[0].source)
    assert [drawn[0].class_names[j] for j in labels] == [name.partition("/")[0] for name in drawn[0].image_ids]


def test_the_rows_of_a_draw_and_the_files_beside_them(given, tmp_path, capsys):
    parameters = given({name: FACTS[name][:2] for name in DIGITS})
    study = photographs.opened(parameters)
    assert "glyphs#small-40-0: 40 images, 10 classes" in capsys.readouterr().out
    runs = photographs.photographs(study)
    rows = photographs.write(study, parameters, runs)
    assert [(row.method, row.variant) for row in rows] == [
        ("CLIP", ""),
        ("TransCLIP", ""),
        ("CLIP", OWN_MEAN),
        ("GTA-CLIP", NO_ATTRIBUTES),
        ("CLIP+attributes", ""),
        ("TransCLIP+attributes", ""),
        ("CLIP+attributes", OWN_MEAN),
        ("GTA-CLIP", ""),
    ]
    assert {(row.baseline, row.n_total, row.draw, row.backbone) for row in rows} == {("CLIP", 40, 0, "embedded")}
    assert all(row.llm.startswith("first attributes classes.yaml-") and row.ece is not None for row in rows)
    found = {name: pd.read_csv(tmp_path / f"out/photographs_{name}.csv", keep_default_na=False) for name in ("iterations", "classes")}
    accuracy = {row.variant: row.accuracy for row in rows if row.method == "GTA-CLIP"}
    last = found["iterations"][found["iterations"].iteration == 1].set_index("variant")
    assert last.accuracy.to_dict() == accuracy and set(last.loss) == {""}, "the last iteration does not adapt"
    assert len(found["classes"]) == 2 * 2 * 10 and not (tmp_path / "out/state").exists()
    frozen = study.run(study.names_only, changes={"adapt": False, "iterations": 3}, checkpoints=None)
    assert torch.equal(frozen.assignments, study.outcomes["TransCLIP", ""][0]), "GTA-CLIP without adapt is TransCLIP"


def test_own_mean_is_the_prior_of_centred_features(given):
    study = photographs.opened(given())
    once = study.run(study.names_only, changes=photographs_once())
    z = photographs.own_mean(once, 7.0)
    features, texts = once.features.double().numpy(), [t.double().numpy() for t in once.text_features]
    centre = sum(features) / len(features)
    for i, feature in enumerate(features):
        centred = (feature - centre) / np.sqrt(((feature - centre) ** 2).sum())
        logits = np.array([7.0 * np.mean([centred @ text for text in of_class]) for of_class in texts])
        expected = np.exp(logits) / np.exp(logits).sum()
        assert z[i].numpy() == pytest.approx(expected, abs=1e-9)
    assert not torch.allclose(z, once.clip, atol=1e-3)


def photographs_once():
    return {"iterations": 1, "adapt": False}


def test_without_attributes_there_are_four_rows(given):
    study = photographs.opened(given())
    assert list(photographs.photographs(study)) == [NO_ATTRIBUTES]
    assert {method for method, _ in study.outcomes} == {"CLIP", "TransCLIP", "GTA-CLIP"} and study.asked == ""


def test_attributes_stand_in_place_of_the_names_that_have_some(given):
    parameters = given({"one": ["a bar", "a stem"]})
    of = parameters.first_attributes(parameters.task).attributes
    assert [a.text for a in of["one"]] == [f"a picture of the digit one with {phrase}" for phrase in ("a bar", "a stem")]
    assert [a.text for a in of["two"]] == ["a picture of the digit two"]


def test_what_adapt_gets_is_the_rate_and_the_images_that_were_given(given):
    settings = given().settings
    assert (settings.lr, settings.lr_projection, settings.confident, settings.iterations) == (1e-3, 1e-3, 3, 2)
    assert not settings.generate and given(smoke=True, iterations=9).settings.iterations == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": [*DIGITS[:9], "nien"]}, "classes.yaml has no class 'nine', as .*glyphs has; did you mean 'nien'"),
        ({"names": [*DIGITS, "ten"]}, "glyphs has no folder 'ten', as .*classes.yaml has"),
        ({"images": 61}, "#small-61-0: of 60 images in 10 classes, small takes 1 to 60"),
        ({"dataset": "no/such/folder"}, "unknown dataset 'no/such/folder"),
    ],
)
def test_a_folder_and_a_file_that_do_not_fit_are_refused(given, changes, said):
    with pytest.raises(ValueError, match=said):
        given(**changes).task  # noqa: B018


@pytest.mark.parametrize("more", [{"llm": "m@http://h/v1"}, {"view": "embedded"}, {"preset": "as_released"}, {"attributes": "bank.json"}])
def test_what_this_study_does_not_have_is_refused_by_name(given, more):
    with pytest.raises(ValueError, match=next(iter(more))):
        given(**more)


def test_rows_name_an_encoder_by_its_folder_wherever_it_lies(given, folder):
    assert given(backbone=str(folder)).named_backbone == "glyphs" and given(backbone="ViT-B/16").named_backbone == "ViT-B/16"


def test_nobody_is_asked():
    with pytest.raises(ValueError, match="asks no language model"):
        photographs.Nobody().ask([])


# Seven images of three classes, in two iterations. With two confident images a class: those of a are 0 and 1, of b 2 and 3, of c 4 and 5.
TRUTH = np.array([0, 1, 1, 1, 0, 1, 0])
LOGITS = [[5, 0, 0], [4, 0, 0], [0, 5, 0], [0, 4, 0], [0, 0, 5], [0, 0, 4], [1, 0, 0]]
HISTORY = [
    {"changed": None, "confidence": 0.9, "loss": 2.0, "fall": 0.5},
    {"changed": 1 / 7, "confidence": 0.8, "loss": None, "fall": None},
]


@pytest.fixture
def states(monkeypatch):
    monkeypatch.setattr(tasks, "query_labels", lambda name: TRUTH)
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    return [
        State(Bank.from_template("abc"), iteration=t, tensors={"z": {"z": of.softmax(1), "logits": of}})
        for t, of in enumerate([logits] * 2)
    ]


def test_the_confident_images_are_compared_with_their_classes(states):
    table = confident.by_iteration("x", states, HISTORY, 2, lambda row: bytes([row])).set_index("iteration")
    first, last = table.loc[0], table.loc[1]
    assert first.accuracy == pytest.approx(100 * 4 / 7), "0, 2, 3 and 6"
    assert first.precision == pytest.approx(50), "one of a, two of b, none of c"
    assert first.missing == 1 and first.largest == pytest.approx(300 / 7), "no confident image is a c; three images are labelled a"
    assert (first.confidence, first.loss, first.fall) == (90, 2.0, 0.5) and np.isnan(first.changed)
    assert last.changed == pytest.approx(100 / 7) and np.isnan([last.loss, last.fall]).all()


def test_each_class_has_its_own_precision_and_its_share_of_all(states):
    table = confident.by_class("x", states[:1], "abc", 2, lambda row: bytes([row])).set_index("class")
    assert table[["images", "labelled"]].to_numpy().tolist() == [[3, 3], [4, 2], [0, 2]]
    assert table.precision.tolist() == [50, 100, 0]
    assert table.share.to_numpy() == pytest.approx([100 * 2 / 6, 100 * 4 / 6, 0]), "0 and 4 are of a, the others of b"
    assert table.right.to_numpy() == pytest.approx([100 * 2 / 3, 50, np.nan], nan_ok=True)
