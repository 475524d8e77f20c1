"""What the presets set: every row of the list of differences, through the study that all notebooks open."""

import re
from dataclasses import replace

import pytest
import torch

from gta.adapt import natural_augmentation
from gta.batch.steps import Batch
from gta.data import tasks
from gta.files import ROOT
from gta.llm.chat import Reply
from gta.llm.stored import StoredAnswers
from gta.released import asking, graphs, presets, solver, views, weights
from gta.settings import Settings
from gta.studies import few_shot, study
from gta.studies.parameters import RunParameters
from gta.studies.study import Study
from gta.transduct import select_gamma
from gta.worlds.settings import settings_for

TASK, LABELS = tasks.load("digits"), tasks.query_labels("digits")


def test_no_row_of_the_list_of_differences_is_left_out():
    listed = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8").partition("## Point by point")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in listed.splitlines() if line.startswith("| ")][2:]
    assert rows == list(presets.POINTS), "docs/reproduction.md and gta/released/presets.py list other points, or in another order"
    assert presets.table() in (ROOT / "docs/presets.md").read_text(encoding="utf-8")


def opened(encoder, llm, preset, **changes):
    part = replace(TASK, images=TASK.images[:40], image_ids=TASK.image_ids[:40], **changes)
    settings = Settings(**{**settings_for("embedded", iterations=2).model_dump(), **presets.PRESETS[preset].settings})
    return Study.of(part, encoder, settings, llm, preset=presets.PRESETS[preset])


def given(study_, monkeypatch, **options):
    """What `gta.loop.run` gets, without the run."""
    caught = {}

    def run(encoder, images, names, settings, **more):
        caught.update(more, encoder=encoder, settings=settings)
        raise InterruptedError

    monkeypatch.setattr(study, "run", run)
    with pytest.raises(InterruptedError):
        study_.run(study_.names_only, study_.llm, **options)
    return caught


def test_as_described_changes_nothing_of_the_method(encoder, guide_llm, monkeypatch):
    of, plain = (given(opened(encoder, guide_llm, preset), monkeypatch) for preset in ("as_described", ""))
    assert of.keys() == plain.keys() and of["settings"] == plain["settings"]
    assert of["llm"] is guide_llm and of["encoder"] is encoder
    assert not {"ask", "affinity", "select_pairs", "groups", "gamma", "optimizer"} & of.keys()
    assert (of["settings"].optimizer, of["settings"].learns, of["settings"].memory) == ("adamw", "all", "cumulative")
    assert settings_for("ViT-B/16").optimizer == "released", "what the preset turns off for OpenAI's encoders"


def test_as_released_sets_each_row(encoder, guide_llm, monkeypatch):
    natural = opened(encoder, guide_llm, "as_released", augmentation=natural_augmentation)
    of = given(natural, monkeypatch)
    settings = of["settings"]
    assert settings.memory == "one_iteration" and settings.learns == "released_subset" and settings.optimizer == "released"
    assert (settings.lr, settings.lr_projection) == (2e-7, 1e-6)
    assert of["ask"] is asking.in_turn_with_repeats and of["select_pairs"] is asking.pairs_above
    assert of["groups"] is weights.learning_scale and of["affinity"] is graphs.graph_with_negatives
    assert {p.dtype for p in of["encoder"].model.parameters()} == {torch.float16, torch.float32}
    assert of["encoder"].kept == pytest.approx(encoder.logit_scale, rel=1e-6)
    assert of["llm"].model.endswith("answers by pair, bullets alone")
    assert of["augment"].transforms[0].interpolation == views.bilinear_augmentation(32).transforms[0].interpolation
    assert natural.images.original(0).shape == (3, *TASK.images[0].shape[:2]), "the file itself"
    assert given(natural, monkeypatch, support=())["affinity"] is graphs.knn_graph


def test_a_world_keeps_its_own_augmentation_and_its_images(encoder, guide_llm, monkeypatch):
    of, plain = (given(opened(encoder, guide_llm, preset), monkeypatch) for preset in ("as_released", ""))
    assert type(of["augment"]) is type(plain["augment"])
    monkeypatch.undo()
    released = opened(encoder, guide_llm, "as_released")
    result = released.run(released.static, released.llm, progress=False)
    assert released.images.original(0).shape == (3, encoder.image_size, encoder.image_size)
    step = result.history[0]["groups"]["image: MLP"]["step"]
    assert 0 < step < 1e-3 and result.history[0]["groups"]["logit scale"], "it adapts, the logit scale too"


def test_stored_answers_are_not_thinned_again(encoder, monkeypatch):
    stored = StoredAnswers("list", {("one", "two"): ["a picture of the digit one with a stroke"]})
    assert given(opened(encoder, stored, "as_released"), monkeypatch)["llm"] is stored
    reply = Reply(("a whole sentence",), whole=True)

    class Whole:
        model = "whole"

        def ask(self, questions):
            return [reply for _ in questions]

    assert asking.BulletsAlone(Whole(), 0).ask([None]) == [reply]


@pytest.mark.parametrize(("preset", "search", "anew"), [("as_released", solver.select_gamma, True), ("as_described", select_gamma, False)])
def test_the_few_shot_study_searches_for_gamma_as_the_preset_says(encoder, guide_llm, monkeypatch, preset, search, anew):
    of, searched, runs = opened(encoder, guide_llm, preset), [], []
    transclip = few_shot.Shots.transclip
    monkeypatch.setattr(few_shot.Shots, "transclip", lambda self, *how: searched.append(how[1]) or transclip(self, *how))
    monkeypatch.setattr(Study, "run_draws", lambda self, *_, **options: runs.append(options))
    few_shot.few_shot(of, 1)
    assert searched == [search, search]
    assert ("gamma" in runs[0]) == anew and (not anew or (runs[0]["gamma"].search, runs[0]["gamma"].affinity) == (search, graphs.knn_graph))


def test_rows_and_folders_tell_the_presets_apart(encoder, guide_llm):
    rows = {}
    for preset in ("as_described", "as_released"):
        of = opened(encoder, guide_llm, preset)
        of.add_first()
        z = of.outcomes["CLIP", ""][0]
        of.outcomes = {
            key: (torch.cat([z, z.new_zeros(len(tasks.query_labels("digits")) - len(z), 10)]), *rest)
            for key, (_, *rest) in of.outcomes.items()
        }
        of.calls = {key: [labels.new_zeros(len(tasks.query_labels("digits"))) for labels in calls] for key, calls in of.calls.items()}
        of.task = TASK
        rows[preset] = of.score("embedded", "t", "hash", "done")[0]
        assert {row.preset for row in rows[preset]} == {preset}
        best = {row.method: row.oracle_best for row in rows[preset]}
        assert best["CLIP"] is None and best["TransCLIP"] == pytest.approx(
            100 * float((tasks.query_labels("digits") == 0).mean()), abs=1e-3
        )
    assert not {row.run_id for row in rows["as_described"]} & {row.run_id for row in rows["as_released"]}
    batch = Batch(preset="as_released")
    runs = [step for name, step in batch.steps.items() if re.match("run/zero_shot/", name)]
    assert runs and all(step.parameters["preset"] == "as_released" and "runs/as_released/" in str(step.outputs[0]) for step in runs)
    assert all(step.parameters["preset"] == "" for name, step in batch.steps.items() if name.startswith("run/ablation_released/"))


def test_openai_encoders_alone_begin_with_the_released_step():
    released = {"optimizer": "released", "learns": "released_subset"}
    for name in ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-B/16 openai", "ViT-B-16-quickgelu openai"):
        assert settings_for(name) == Settings(**released), name
    for name in ("ViT-B/16 random", "ViT-B-16 laion2b_s34b_b88k", "hf-hub:owner/model", "a/folder"):
        assert settings_for(name) == Settings(), name
    assert settings_for("embedded").optimizer == "adamw"
    given = dict.fromkeys(["revision", "max_calls", "iterations"]) | {"dataset": "cub", "seed": 0, "store": "s", "llm": "l", "ledger": "l"}
    given |= {"mode": "record", "smoke": False, "out": "o", "backbone": "ViT-B/16", "pretrained": None}
    assert RunParameters(**given).settings.optimizer == "released"
    assert RunParameters(**given, preset="as_described").settings == Settings()
    assert RunParameters(**{**given, "pretrained": "random"}).settings == Settings()
