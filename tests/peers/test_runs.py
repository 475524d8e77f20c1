"""The peers' tables: who sees what, what is compared with what, and what readers are shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gta.attributes import Bank
from gta.charts import peers
from gta.data import tasks
from gta.encoders.images import load_images
from gta.encoders.vision import load_view
from gta.peers import bench, runs, tables, texts
from gta.peers.alignment import gpua
from gta.peers.anchored import stata
from gta.peers.bench import Bench, Support, score
from gta.peers.fusion import fusion
from gta.scores.rows import Row, write_run
from gta.studies import random_words
from gta.transduct import transduct
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

SETTINGS = settings_for("embedded", iterations=1)


@pytest.fixture(scope="module")
def measured(encoder):
    """Every table of one quick run: one iteration, one epoch, one shot."""
    with language_model("fieldguide", 0) as llm:
        zero_shot = Bench.of(tasks.load("digits"), encoder, SETTINGS, llm, second=load_view("embedded", seed=0, device="cpu"))
        runs.zero_shot(zero_shot, tasks.labelled("digits")[0])
        few_shot = zero_shot.fresh()
        support = Support.of(few_shot, *tasks.few_shot("digits", 1, 0))
        runs.few_shot(few_shot, support, 1, epochs=1)
        bound = zero_shot.fresh()
        runs.upper_bound(bound)
        bases, news = (zero_shot.of_part(half) for half in tasks.HALVES)
        runs.base_to_new(bases, news, Support.of(bases, *tasks.few_shot("digits#base", 1, 0)), 1, epochs=1)
    return [
        ("peers_zero_shot", 0, zero_shot),
        ("peers_few_shot", 1, few_shot),
        ("peers_few_shot", 0, bound),
        ("peers_base_to_new", 1, bases),
        ("peers_base_to_new", 1, news),
    ]


@pytest.fixture(scope="module")
def rows(measured):
    return score(measured, "embedded", "test", "smoke")


def test_every_method_gives_distributions_over_the_classes(measured):
    for _, _, part in measured:
        for key, (z, seconds, baseline) in part.outcomes.items():
            assert z.shape == (len(part.task.images), len(part.task.class_names)), key
            assert torch.allclose(z.double().sum(1), torch.ones(len(z)).double(), atol=1e-4) and z.min() >= 0 and seconds >= 0, key
            assert baseline in part.outcomes


def test_each_method_is_compared_with_clip_and_transduction_with_what_it_goes_on_from(rows):
    found = {(row.table, row.dataset, row.shots, row.method, row.variant): row for row in rows[0]}
    assert len(found) == len(rows[0]) == len({row.run_id for row in rows[0]})
    assert found["peers_zero_shot", "digits", 0, "ZLaP", ""].baseline == "CLIP"
    assert found["peers_zero_shot", "digits", 0, "ZLaP", "+ transduction"].baseline == "ZLaP"
    assert found["peers_zero_shot", "digits", 0, "TransCLIP", ""].baseline == "CLIP"
    assert found["peers_few_shot", "digits", 1, "CoOp", "class-specific, + transduction"].baseline == "CoOp, class-specific"
    assert found["peers_few_shot", "digits", 0, "linear classifier", "205 labelled images"].baseline == "CLIP"
    assert (
        found["peers_base_to_new", "digits#new", 1, "CoCoOp", ""].n_total
        == 1393 - found["peers_base_to_new", "digits#base", 1, "CLIP", ""].n_total
    )
    on_new = {(row.method, row.variant) for row in rows[0] if row.dataset == "digits#new" and row.baseline == "CLIP"}
    assert on_new >= {("CoOp", ""), ("CoOp", "random start"), ("CoCoOp", ""), ("GTA-CLIP", "")}
    alone = {row.method for row in rows[0] if row.table == "peers_zero_shot" and row.baseline == "CLIP"}
    assert alone >= {"CuPL", "WaffleCLIP", "LabelDesc", "prompt ensemble", "SuS-X", "ZLaP", "EM-Dirichlet", "k-means", "GMM", "GTA-CLIP"}


def test_methods_of_anchors_and_views_run_from_the_names_and_from_the_texts_that_gta_clip_found(rows):
    found = {(row.method, row.variant): row.baseline for row in rows[0] if row.table == "peers_zero_shot"}
    for method, views in (("StatA", ""), ("OTFusion", ""), ("OTFusion", "two views"), ("GPUA", "two views")):
        for parts in ([views], [views, runs.GROWN]):
            variant = ", ".join(filter(None, parts))
            assert found[method, variant] == "CLIP"
            on_top = ", ".join(filter(None, [variant, "+ transduction"]))
            assert found[method, on_top] == ", ".join(filter(None, [method, variant]))
    assert found["TransCLIP", "two views"] == found["TransCLIP", f"two views, {runs.GROWN}"] == "CLIP"
    assert found["TransCLIP", runs.GROWN] == f"CLIP, {runs.GROWN}" and found["GTA-CLIP", "two views"] == "CLIP"
    table = tables.standings(rows[0], "peers_zero_shot").set_index(["method", "variant"])
    accuracies = {(row.method, row.variant): row.accuracy for row in rows[0] if row.table == "peers_zero_shot"}
    assert table.loc[("CLIP", ""), "with transduction"] == round(accuracies["TransCLIP", ""], 1)
    assert ("TransCLIP", "two views") in table.index and ("TransCLIP", runs.GROWN) not in table.index


@pytest.fixture
def few(encoder):
    """A bench of 150 digits with a view, whose language model is asked while the test runs."""
    task = replace(tasks.load("digits"), images=tasks.load("digits").images[:150], image_ids=tasks.load("digits").image_ids[:150])
    with language_model("fieldguide", 0) as llm:
        yield Bench.of(task, encoder, SETTINGS, llm, second=load_view("embedded", seed=0, device="cpu"))


def test_each_method_reads_the_texts_and_views_that_its_row_names(few, monkeypatch):
    """By their own functions, with a bank in which each class is called by the next one's name, and a run of GTA-CLIP of 5 s."""
    names = few.task.class_names
    turned = Bank.from_template([*names[1:], names[0]], few.task.template, few.task.sentence)

    def of_gta_clip(part, **options):
        variant = "two views" if options else ""
        part.outcomes["GTA-CLIP", variant] = (torch.zeros(150, 10), 5.0, part.baseline)
        return turned

    measure = Bench.measure

    def some(part, method, *arguments, **options):
        if method in ("StatA", "OTFusion", "GPUA", "TransCLIP"):
            measure(part, method, *arguments, **options)

    monkeypatch.setattr(runs, "gta_clip", of_gta_clip)
    monkeypatch.setattr(Bench, "measure", some)
    runs.zero_shot(few)
    x, view, scale = few.features, few.view, few.encoder.logit_scale
    assert torch.equal(view, load_view("embedded", seed=0).encode_images(few.images.pixels).cpu()) and not torch.allclose(x, view, atol=0.1)
    for bank, ending, least in ((few.names_only, "", 0.0), (turned, f", {runs.GROWN}", 5.0)):
        classes = torch.stack([few.encoder.encode_texts(list(of_class))[0] for of_class in bank.texts])
        prior = (scale * x @ classes.T).softmax(1)
        expected = {
            ("StatA", ending[2:]): stata(x, prior, classes),
            ("OTFusion", ending[2:]): fusion([x], prior),
            ("OTFusion", "two views" + ending): fusion([x, view], prior),
            ("GPUA", "two views" + ending): gpua(x, view, prior, classes, scale).softmax(1),
            ("TransCLIP", "two views" + ending): transduct(x, prior, view=view).assignments,
        }
        for key, z in expected.items():
            given, seconds, _ = few.outcomes[key]
            assert torch.allclose(given, z, atol=1e-6) and seconds >= least, key
    assert not torch.allclose(few.outcomes["StatA", ""][0], few.outcomes["StatA", runs.GROWN][0], atol=0.5)


def test_gta_clip_gives_the_bank_that_it_grew_and_sees_a_second_view_only_where_it_is_named(few):
    grown = bench.gta_clip(few)
    assert grown.class_names == few.static.class_names
    assert sum(map(len, grown.texts)) > sum(map(len, few.static.texts))
    alone = few.run(few.static, few.llm, view=None, checkpoints=None, progress=False).assignments
    both = few.run(few.static, few.llm, checkpoints=None, progress=False).assignments
    bench.gta_clip(few, view=few.view)
    assert torch.allclose(few.outcomes["GTA-CLIP", ""][0], alone) and torch.allclose(few.outcomes["GTA-CLIP", "two views"][0], both)
    assert not torch.allclose(alone, both, atol=1e-3)


def test_texts_of_each_method_are_its_own(measured, encoder):
    """Ensemble and CuPL take unit means, WaffleCLIP and CLIP with attributes mean cosines, of the texts that their names promise."""
    part = measured[0][2]
    x, scale, names = part.features.double(), encoder.logit_scale, part.task.class_names
    drawn = random_words.waffle(names, part.task.sentence, *random_words.vocabulary(encoder)[:1], SETTINGS.seed, False)
    expected = {
        "prompt ensemble": (True, [[template.format(name) for template in texts.TEMPLATES["glyphs"]] for name in names]),
        "CuPL": (True, part.static.without_templates().texts),
        "CLIP": (False, [[part.task.template.format(name)] for name in names]),
        "CLIP+attributes": (False, part.static.texts),
        "WaffleCLIP": (False, drawn),
    }
    for method, (unit, of_classes) in expected.items():
        means = torch.stack([encoder.encode_texts(list(of_class)).double().mean(0) for of_class in of_classes])
        means = means / means.norm(dim=1, keepdim=True) if unit else means
        assert torch.allclose(part.outcomes[method, ""][0].double(), (scale * x @ means.T).softmax(1), atol=1e-5), method


def test_predictions_are_kept_for_every_row(rows, tmp_path):
    of_rows, predictions = rows
    write_run(tmp_path, of_rows, predictions)
    read = np.load(tmp_path / "predictions.npz")
    for row in of_rows:
        assert read[f"{row.run_id}.correct"].sum() == row.n_correct
    assert len(read["image_id"]) == 1393 and len(read["digits#new.image_id"]) + len(read["digits#base.image_id"]) == 1393


def test_seconds_of_transduction_contain_those_of_the_method(rows):
    found = {(row.table, row.method, row.variant): row.seconds for row in rows[0]}
    assert found["peers_few_shot", "CoOp", "+ transduction"] >= found["peers_few_shot", "CoOp", ""]


def test_query_labels_change_no_answer(encoder, monkeypatch):
    """Where reading them fails, the same predictions: nothing that infers or chooses reads them."""
    task = replace(tasks.load("digits"), images=tasks.load("digits").images[:150], image_ids=tasks.load("digits").image_ids[:150])
    second = load_view("embedded", seed=0, device="cpu")

    def answers():
        with language_model("fieldguide", 0) as llm:
            alone = Bench.of(task, encoder, SETTINGS, llm, second=second)
            runs.zero_shot(alone, tasks.labelled("digits")[0])
            part = alone.fresh()
            runs.few_shot(part, Support.of(part, *tasks.few_shot("digits", 1, 0)), 1, epochs=1)
        return {**{(*key, "names alone"): outcome for key, outcome in alone.outcomes.items()}, **part.outcomes}

    before = answers()
    monkeypatch.setattr(tasks, "_query_classes", lambda name: pytest.fail("the labels of query images were read"))
    after = answers()
    assert len(before) > 30 and before.keys() == after.keys()
    assert all(torch.equal(before[key][0], after[key][0]) for key in before)


def test_views_are_augmented_repeatable_and_in_order(encoder, glyphs):
    images = load_images(glyphs[0][:4], encoder, progress=False)
    augment = tasks.glyph_view(encoder.image_size)
    views = bench.views_of(encoder, images, augment, seed=3, count=2)
    assert views.shape == (2, 4, 128) and not torch.allclose(views[0], views[1])
    assert torch.equal(views, bench.views_of(encoder, images, augment, seed=3, count=2))
    plain = bench.views_of(encoder, images, lambda image: image, seed=3, count=1)
    assert torch.allclose(plain[0], encoder.encode_images(images.pixels), atol=1e-5)


def fake(method, variant, baseline, accuracy, gain, **changes):
    row = {
        "run_id": f"{method}{variant}{changes}",
        "table": "peers_zero_shot",
        "dataset": "digits",
        "backbone": "embedded",
        "method": method,
        "variant": variant,
        "seed": 0,
        "n_correct": accuracy,
        "n_total": 100,
        "accuracy": accuracy,
        "baseline": baseline,
        "gain": gain,
        "gain_low": gain - 1,
        "gain_high": gain + 1,
        "seconds": 2,
        "device": "cpu",
        "versions": "",
        "weights": "",
        "source_hash": "",
    }
    return Row(**{**row, **changes})


def test_the_table_puts_transduction_beside_each_method():
    made = [
        fake("CLIP", "", "CLIP", 60, 0),
        fake("TransCLIP", "", "CLIP", 66, 6),
        fake("SuS-X", "photo", "CLIP", 70, 10),
        fake("SuS-X", "photo", "CLIP", 80, 20, seed=1),
        fake("SuS-X", "photo, + transduction", "SuS-X, photo", 71, 1),
        fake("SuS-X", "photo, + transduction", "SuS-X, photo", 83, 3, seed=1),
        fake("GTA-CLIP", "", "CLIP", 90, 30),
    ]
    table = tables.standings(made, "peers_zero_shot").set_index("method")
    assert list(table.index) == ["CLIP", "SuS-X", "GTA-CLIP"]
    assert table.loc["SuS-X", ["accuracy", "gain", "with transduction", "gain of transduction"]].tolist() == [75, 15, 77, 2]
    assert table.loc["CLIP", "with transduction"] == 66 and np.isnan(table.loc["GTA-CLIP", "with transduction"])
    assert table.loc["SuS-X", "gain of seed 1"] == "+20.0 [+19.0, +21.0]"
    added = tables.on_top(made, "peers_zero_shot").set_index("on top of")
    assert added.loc["SuS-X, photo", "gain"] == 2 and added.loc["CLIP", "gain of seed 0"] == "+6.0 [+5.0, +7.0]"
    figure = peers.accuracy_with_and_without(made, "peers_zero_shot")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["CLIP", "SuS-X, photo", "GTA-CLIP"]
    seen = [*made, fake("TransCLIP", "two views", "CLIP", 72, 12), fake("GTA-CLIP", "two views", "CLIP", 95, 35)]
    assert tables.standings(seen, "peers_zero_shot").set_index(["method", "variant"]).loc[("CLIP", ""), "with transduction"] == 66
    axis = peers.accuracy_with_and_without(seen, "peers_zero_shot").axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["CLIP", "TransCLIP, two views", "SuS-X, photo", "GTA-CLIP", "GTA-CLIP, two views"]
    colours = {(round(x), names[round(y)]): tuple(dots.get_facecolor()[0][:3]) for dots in axis.collections for x, y in dots.get_offsets()}
    assert colours[72, "TransCLIP, two views"] == colours[66, "CLIP"] != colours[60, "CLIP"]
    assert [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"] == [90]  # GTA-CLIP of one view
    with pytest.raises(ValueError, match="no rows of table 'peers_few_shot'"):
        tables.standings(made, "peers_few_shot")
    worlds = [fake("ZLaP", "", "CLIP", accuracy, 0, dataset=f"aviary:{seed}", seed=seed) for seed, accuracy in ((0, 40), (1, 50))]
    assert tables.standings(worlds, "peers_zero_shot")[["dataset", "accuracy"]].values.tolist() == [["aviary", 45.0]]


def test_the_harmonic_mean_is_of_each_seed():
    """Seeds (90, 30) and (60, 60): harmonic means 45 and 60, mean 52.5; of the mean accuracies it would be 56.25."""
    made = [
        fake("CoOp", "", "CLIP", accuracy, 0, table="peers_base_to_new", dataset=f"digits#{half}", seed=seed)
        for seed, half, accuracy in ((0, "base", 90), (0, "new", 30), (1, "base", 60), (1, "new", 60))
    ]
    assert tables.harmonic(made).loc[0, ["base", "new", "harmonic mean"]].tolist() == [75, 45, 52.5]
