"""What is run on batches, each alone: by hand, against methods called on one batch, and on a few dozen images."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gta.data import tasks
from gta.encoders.images import load_images
from gta.peers import batches
from gta.peers.batches import Batches
from gta.peers.bench import Bench
from gta.peers.dirichlet import em_dirichlet
from gta.peers.mixtures import gaussian_mixture, k_means
from gta.scores.rows import read_table
from gta.transduct import text_prior, transduct
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=False, out="o", conditions=[])


@pytest.fixture(scope="module")
def bench(encoder, glyphs):
    """60 glyphs in place of the digits, six a class; EM-Dirichlet fits in 20 steps."""
    images, labels = glyphs
    with language_model("fieldguide", 0) as llm, pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "em_dirichlet", partial(em_dirichlet, steps=20))
        patch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
        yield Bench.of(tasks.load("digits"), encoder, settings_for("embedded", iterations=1), llm)


def test_slow_methods_get_the_first_batches_and_all_methods_the_whole_tail():
    assert batches.parts_of("low-64", 3, 1393) == {"low-64x10-3": {False}, "low-64x2-3": {True}}
    assert batches.parts_of("medium-1000", 0, 1393) == {"medium-1000x3-0": {False}, "medium-1000x1-0": {True}}
    assert batches.parts_of("stream-10", 0, 1393) == {"stream-10x10-0": {False}, "stream-10x2-0": {True}}
    assert batches.parts_of("stream-10", 0, 300) == {"stream-10x2-0": {True, False}}
    assert batches.parts_of("imbalanced-100", 1, 1393) == {"imbalanced-100-1": {True, False}}


def test_what_a_dataset_cannot_hold_is_told(capsys, bench):
    def lacking(images, classes):
        task = SimpleNamespace(images=range(images), class_names=range(classes))
        return {condition: why for condition in batches.CONDITIONS if (why := batches.lacks(condition, task))}

    assert lacking(1393, 10).keys() == {"high-1000", "veryhigh-1000"}  # as the digits
    assert lacking(960, 32) == {  # as a world of the aviary
        "veryhigh-1000": "it begins with 50 classes, and there are 32",
        "imbalanced-100": "a class has 30 images",
    }
    assert lacking(127, 100)["stream-0"] == "a batch has 128 images, and there are 127" and "stream-0" not in lacking(128, 100)
    assert batches.run(bench, Batches(**GIVEN | {"conditions": ["high-1000"]})) == []
    assert capsys.readouterr().out == "digits: high-1000 is left out: it begins with 25 classes, and there are 10\n"


def test_an_unknown_condition_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="conditions: unknown 'lowe-64'; did you mean 'low-64'"):
        _ = Batches(**GIVEN | {"conditions": ["lowe-64"]}).chosen
    assert Batches(**GIVEN).chosen == list(batches.CONDITIONS)
    kinds = {condition.partition("-")[0] for condition in Batches(**GIVEN | {"smoke": True}).chosen}
    assert {"stream", "imbalanced"} < kinds and len(kinds) > 2


def test_each_batch_is_inferred_alone_from_the_images_of_the_part(bench, encoder):
    methods = batches.methods_of(bench)
    part = batches.on_part(bench, "low-20x2-0", {key: methods[key] for key in (("CLIP", ""), ("TransCLIP", ""))})
    task = tasks.load("digits#low-20x2-0")
    texts = [encoder.encode_texts(list(of_class)) for of_class in bench.names_only.texts]
    x = encoder.encode_images(load_images(task.images, encoder, progress=False).pixels)
    prior = text_prior(x, texts, encoder.logit_scale)
    assert task.batches == (20, 20)
    alone = torch.cat([transduct(x[rows], prior[rows]).assignments for rows in (slice(0, 20), slice(20, 40))])
    assert torch.allclose(part.outcomes["CLIP", ""][0], prior, atol=1e-5)
    assert torch.allclose(part.outcomes["TransCLIP", ""][0], alone, atol=1e-3)
    assert not torch.allclose(transduct(x, prior).assignments, alone, atol=0.05)
    assert bench.outcomes == {}


def test_every_method_gives_distributions_over_all_classes_and_reads_no_label(bench, monkeypatch):
    methods = batches.methods_of(bench)
    assert len(methods) == 12 and set(batches.SLOW) < methods.keys() and bench.baseline in methods
    monkeypatch.setattr(tasks, "_query_classes", lambda name: pytest.fail("the labels of query images were read"))
    rows = torch.arange(0, 60, 3)
    for key, infer in methods.items():
        z = infer(rows)
        assert z.shape == (20, 10) and z.min() >= 0 and torch.allclose(z.double().sum(1), torch.ones(20).double(), atol=1e-4), key
    equal, estimated = (methods["TransCLIP", f"{which} sizes"](rows).double().mean(0) for which in ("equal", "estimated"))
    assert torch.allclose(equal, torch.full((10,), 0.1).double(), atol=1e-3) and not torch.allclose(estimated, equal, atol=0.01)


def test_fewer_images_than_classes_are_clustered_as_if_there_were_enough(encoder):
    classes = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    near = torch.nn.functional.normalize(classes + 0.01, dim=1)
    whole, few = torch.arange(8), torch.tensor([2, 5, 6])
    for method in (lambda x: k_means(x, classes, 50.0), lambda x: gaussian_mixture(x, classes)):
        assert torch.equal(batches.enough(method, near, 8)(whole), method(near))
        z = batches.enough(method, near, 8)(few)
        assert z.shape == (3, 8) and torch.allclose(z.sum(1), torch.ones(3))
    assert z.argmax(1).tolist() == [2, 5, 6]  # of the mixture; k-means moves its empty clusters onto images


def test_some_images_are_those_of_their_rows(glyphs, encoder):
    images = load_images(glyphs[0][:9], encoder, progress=False)
    chosen = batches.some(images, torch.tensor([7, 2, 2]))
    assert torch.equal(chosen.pixels, images.pixels[[7, 2, 2]])
    assert torch.equal(chosen.original(0), images.original(7)) and torch.equal(chosen.original(2), images.original(2))


def test_a_run_writes_a_row_a_method_over_all_batches_of_a_condition(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "CONDITIONS", ("low-20",))
    monkeypatch.setattr(batches, "COUNTS", {"20": (3, 1)})
    parameters = Batches(**GIVEN | {"conditions": ["low-20"], "out": str(tmp_path)})
    rows = batches.write(batches.run(bench, parameters), parameters)
    images = {(row.dataset, row.method): row.n_total for row in rows}
    assert images["digits#low-20x3-0", "CLIP"] == images["digits#low-20x3-0", "TransCLIP"] == 60
    assert {method for part, method in images if part == "digits#low-20x1-0"} == {"CLIP", "EM-Dirichlet", "GTA-CLIP"}
    assert len(rows) == 10 + 3 and {row.baseline for row in rows} == {"CLIP"} and images["digits#low-20x1-0", "GTA-CLIP"] == 20
    whole, few = (next(row for row in rows if row.method == "CLIP" and f"x{many}-" in row.dataset) for many in (3, 1))
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert (predictions[f"{whole.run_id}.correct"][:20] == predictions[f"{few.run_id}.correct"]).all()
        assert (predictions["digits#low-20x3-0.image_id"][:20] == predictions["digits#low-20x1-0.image_id"]).all()
    assert len(read_table(tmp_path / "rows.csv")) == 13
