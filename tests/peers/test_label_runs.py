"""The label-descriptions and short-texts tables: what is run, what it is compared with, and what readers are shown."""

from dataclasses import replace

import nbformat
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import pyplot as plt
from PIL import Image

from gta.attributes import Bank
from gta.charts import label_descriptions as charts
from gta.data import short_texts, tasks
from gta.encoders import sentences
from gta.files import ROOT
from gta.peers import label_runs, short_text_runs
from gta.peers.bench import Bench
from gta.peers.texts import clip_logits
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for
from small import row
from toy_texts import Words

ROWS = {
    "CLIP": {"", "random label words", "mismatched label words"},
    "LabelDesc": {
        *(
            "",
            "+ transduction",
            "noise",
            "uncorrected",
            "untrained",
            "untrained, means subtracted",
            "terms",
            "terms and sentences",
        ),
        *("one sentence", "templates alone", "shuffled descriptions", "random label words", "mismatched label words"),
        *("text tower", "text tower, + transduction", "text tower, attributes"),
    },
    "GTA-CLIP": {"", "text first", "text first, shuffled descriptions"},
    "CuPL": {"", "+ transduction"},
    "prompt ensemble": {"", "+ transduction"},
}


@pytest.mark.slow
def test_every_row_of_images_is_there_and_untrained_is_clip(encoder):
    task = tasks.load("digits")
    task = replace(task, images=task.images[:60], image_ids=task.image_ids[:60])
    with language_model("fieldguide", 0) as llm:
        bench = Bench.of(task, encoder, settings_for("embedded", iterations=2, confident=3), llm)
        gap = label_runs.label_descriptions(bench)
    found = {method: {v for m, v in bench.outcomes if m == method and not v.startswith("template ")} for method in ROWS}
    assert found == ROWS
    for key, (z, seconds, baseline) in bench.outcomes.items():
        assert z.shape == (60, 10) and torch.allclose(z.double().sum(1), torch.ones(60).double(), atol=1e-6) and seconds >= 0, key
        assert baseline in bench.outcomes
    assert torch.allclose(bench.outcomes["LabelDesc", "untrained"][0], bench.outcomes["CLIP", ""][0], atol=1e-9)
    assert not torch.allclose(bench.outcomes["GTA-CLIP", ""][0], bench.outcomes["GTA-CLIP", "text first"][0], atol=1e-4)
    assert sum(v.startswith("template ") for m, v in bench.outcomes if m == "LabelDesc") == 5
    assert list(gap.texts) == ["sentences", "terms", "templates"] and (gap["means subtracted"] < gap.gap / 2).all()


def test_a_folder_takes_template_and_first_attributes_from_a_file_of_classes(tmp_path):
    for name in ("kite", "wren"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (4, 4)).save(tmp_path / "birds" / name / f"{i}.png")
    told = {"template": "the {}", "sentence": "the {name} with {attribute}", "classes": {"kite": ["a fork"], "wren": None}}
    (tmp_path / "told.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    source = (ROOT / "notebooks/label_descriptions.ipynb").read_text(encoding="utf-8")
    given: dict = {}
    exec(next(cell.source for cell in nbformat.reads(source, as_version=4).cells if cell.cell_type == "code"), given)
    given |= {"dataset": f"{tmp_path}/birds#small-4-1", "classes": f"{tmp_path}/told.yaml", "backbone": str(tmp_path / "birds")}
    parameters = label_runs.LabelDescriptions.read(given)
    task = parameters.task
    assert (task.name, task.template, len(task.images), parameters.named_backbone) == ("birds#small-4-1", "the {}", 4, "birds")
    bank = parameters.first_attributes(task).of(Bank.from_template(task.class_names, task.template, task.sentence))
    assert bank.texts == [["the kite with a fork"], ["the wren"]]


@pytest.fixture
def toy(tmp_path):
    """Six texts of two topics, and an encoder whose feature of a text is that of its words."""
    texts = {"sea": ("waves and salt", "salt tide", "a tide of waves"), "sky": ("clouds and wind", "wind", "a wind of clouds")}
    for topic, of_topic in texts.items():
        (tmp_path / topic).mkdir()
        for i, text in enumerate(of_topic):
            (tmp_path / topic / f"{i}.txt").write_text(text, encoding="utf-8")
    told = [["sea", "salt", "tide of waves"], ["sky", "wind", "a wind and clouds"]]
    encoder = Words.of(*(t for of in (*texts.values(), *told) for t in of), "about topic", d=16)
    return short_text_runs.TextBench(short_texts.read(str(tmp_path)), told, encoder, ["about {}", "{} topic"], 0)


def test_short_texts_have_their_rows_and_the_baseline_is_the_nearest_label_word(toy):
    short_text_runs.short_text_runs(toy)
    start = toy.encoder.encode_texts(["about sea", "about sky"])
    expected = clip_logits(toy.encoder.encode_texts(toy.texts.texts), start, 10.0).softmax(1)
    torch.testing.assert_close(toy.outcomes["nearest label words", ""][0], expected)
    torch.testing.assert_close(toy.outcomes["LabelDesc", "untrained"][0], expected)
    of_labeldesc = {variant for method, variant in toy.outcomes if method == "LabelDesc"}
    controls = {"shuffled descriptions", "one term", "templates alone", "random label words", "mismatched label words"}
    assert of_labeldesc >= {"", "+ transduction", "untrained", "uncorrected", "text tower", "template 1", "template 2"} | controls
    for key, (z, _, baseline) in toy.outcomes.items():
        assert z.shape == (6, 2) and torch.allclose(z.sum(1), torch.ones(6).to(z), atol=1e-6) and baseline in toy.outcomes, key


def test_a_file_of_descriptions_must_name_every_class(tmp_path):
    given = {"dataset": str(tmp_path), "backbone": "MiniLM", "patterns": ["{}"], "seed": 0, "smoke": False, "out": "o"}
    file = tmp_path / "told.yaml"
    file.write_text("sea: [sea, salt]\n", encoding="utf-8")
    parameters = short_text_runs.ShortTexts(**given, descriptions=str(file))
    assert parameters.described(["sea"]) == [["sea", "salt"]]
    with pytest.raises(ValueError, match="none of the class 'seas'; did you mean 'sea'"):
        parameters.described(["seas"])
    with pytest.raises(ValueError, match="name a YAML file"):
        short_text_runs.ShortTexts(**given, descriptions=None).described(["sea"])


@pytest.mark.slow
def test_minilm_knows_what_is_like_what():
    try:
        encoder = sentences.load(device="cpu")
    except ValueError as error:
        pytest.skip(str(error))
    x = encoder.encode_texts(["a cat sleeps", "a kitten naps on the sofa", "shares fell on the stock market"])
    assert x[0] @ x[1] > x[0] @ x[2] + 0.2 and torch.allclose(x.norm(dim=1), torch.ones(3), atol=1e-5)


# Charts

MADE = {
    ("CLIP", ""): (50, 52),
    ("CLIP", "random label words"): (10, 12),
    ("CLIP", "template 1"): (50, 52),
    ("CLIP", "template 2"): (54, 60),
    ("LabelDesc", ""): (60, 62),
    ("LabelDesc", "random label words"): (58, 58),
    ("LabelDesc", "template 1"): (60, 62),
    ("LabelDesc", "template 2"): (60, 64),
}


@pytest.fixture
def made():
    rows = []
    for (method, variant), counts in MADE.items():
        for seed, right in enumerate(counts):
            named = {"method": method, "variant": variant, "seed": seed, "dataset": "digits", "backbone": "embedded"}
            rows.append(row(run_id=f"{method}{variant}{seed}", n_correct=right, n_total=100, accuracy=float(right), **named))
    return rows


def test_the_spread_is_taken_within_an_encoder_and_then_averaged(made):
    """CLIP over templates: 50 and 54 of one encoder, 52 and 60 of the other: means 52 and 56, deviations 2.83 and 5.66."""
    table = charts.spreads(made).set_index(["over", "method"])
    assert table.loc[("templates", "CLIP"), ["mean", "std", "min", "max"]].tolist() == [54, 4.2, 51, 57]
    assert table.loc[("templates", "LabelDesc"), "std"] == 0.7
    assert table.loc[("label words", "CLIP"), ["mean", "min", "max"]].tolist() == [31, 11, 51]
    assert table.loc[("label words", "LabelDesc"), ["mean", "min", "max"]].tolist() == [59.5, 58, 61]


def test_standings_leave_single_templates_out_and_end_with_the_best(made):
    named = {"table": "t", "dataset": "digits", "backbone": "embedded", "shots": 0, "method": "LabelDesc", "variant": ""}
    lines = [{**named, "seed": seed, "draw": 0, "reference": "CLIP", "difference": 10.0, "better": 12, "worse": 2} for seed in (0, 1)]
    table = charts.standings(made, pd.DataFrame(lines))
    assert list(table.label) == ["CLIP, random label words", "CLIP", "LabelDesc, random label words", "LabelDesc"]
    assert table.gain.iloc[-1] == 10 and table.accuracy.iloc[-1] == 61


def test_charts_show_every_method_once(made):
    figure = charts.accuracies(made)
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == ["CLIP, random label words", "CLIP", "LabelDesc, random label words", "LabelDesc"]
    other = charts.choices(made)
    assert [len(axis.collections) for axis in other.axes] == [2, 2]
    plt.close("all")
