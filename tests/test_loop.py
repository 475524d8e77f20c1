"""The whole method, on a few glyphs: what it must never depend on."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gta.adapt import draw_batches
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import load_images
from gta.generate import describe
from gta.llm.chat import CapReached, LanguageModel
from gta.llm.ledger import Ledger
from gta.loop import run
from gta.settings import Settings
from gta.studies import zero_shot
from gta.studies.study import Study
from gta.transduct import text_prior, transduct
from gta.worlds import digits, fieldguide
from gta.worlds.settings import settings_for

TASK = tasks.load("digits")
SETTINGS = settings_for("embedded", iterations=3, margin=0.5)


def bank():
    return Bank.from_template(TASK.class_names, TASK.template, TASK.sentence)


def label(encoder, images, llm, settings=SETTINGS, **options):
    augment = TASK.augmentation(encoder.image_size)
    return run(
        encoder, images, TASK.class_names, settings, attributes=describe(bank(), llm), llm=llm, augment=augment, progress=False, **options
    )


def test_one_pass_is_clip_and_transclip(encoder, glyphs):
    pixels = load_images(glyphs[0], encoder).pixels
    result = run(encoder, pixels, TASK.class_names, Settings(iterations=1), attributes=bank(), progress=False)
    features = encoder.encode_images(pixels)
    prior = text_prior(features, [encoder.encode_texts(texts) for texts in bank().texts], encoder.logit_scale)
    torch.testing.assert_close(result.clip, prior, atol=1e-9, rtol=0)
    torch.testing.assert_close(result.assignments, transduct(features, prior).assignments, atol=1e-9, rtol=0)


def test_the_order_of_images_permutes_the_answer(encoder, glyphs, guide_llm):
    order = np.random.default_rng(1).permutation(len(glyphs[0]))
    plain = label(encoder, glyphs[0], guide_llm)
    shuffled = label(encoder, [glyphs[0][i] for i in order], guide_llm)
    assert plain.attributes == shuffled.attributes
    torch.testing.assert_close(plain.assignments[order], shuffled.assignments, atol=1e-8, rtol=0)


def test_labels_of_noise_change_nothing(encoder, guide_llm, monkeypatch):
    first = TASK.images[:80]
    honest = label(encoder, first, guide_llm)
    true_load, noise = digits.load, np.random.default_rng(0).integers(0, 10, 1393)
    monkeypatch.setattr(digits, "load", lambda split: (*true_load(split)[:2], noise))
    images = tasks.load("digits").images[:80]
    assert torch.equal(honest.assignments, label(encoder, images, guide_llm).assignments)
    assert (tasks.query_labels("digits") == noise).all()


def test_the_names_of_files_change_nothing(encoder, glyphs, guide_llm, tmp_path):
    """Images in folders by class, under names that sort in one order and in another."""
    answers = []
    for numbers in (np.arange(60), np.random.default_rng(2).permutation(60)):
        folder = tmp_path / str(len(answers))
        number = {f"{TASK.class_names[c]}/{n:03d}.png": i for i, (c, n) in enumerate(zip(glyphs[1], numbers, strict=True))}
        for image_id, i in number.items():
            (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(glyphs[0][i]).save(folder / image_id)
        task = tasks.load(str(folder))
        z = label(encoder, task.images, guide_llm).assignments
        answers.append(z[torch.tensor([number[i] for i in task.image_ids]).argsort()])
    torch.testing.assert_close(*answers, atol=1e-8, rtol=0)


def test_a_run_repeats_itself_and_leaves_its_encoder_alone(encoder, glyphs, guide_llm):
    before = {name: weight.clone() for name, weight in encoder.model.state_dict().items()}
    first, second = (label(encoder, glyphs[0], guide_llm) for _ in range(2))
    assert torch.equal(first.assignments, second.assignments)
    assert first.attributes == second.attributes
    assert all(torch.equal(weight, before[name]) for name, weight in encoder.model.state_dict().items())


def recording(seen):
    """What is drawn as always, while `seen` keeps of each iteration the seed, the confident images, the batches and the key."""

    def draw(selection, texts, size, seed, key):
        batches = draw_batches(selection, texts, size, seed, key)
        seen.append((seed, selection, batches, key))
        return batches

    return draw


def test_what_is_drawn_hangs_on_seed_draw_and_iteration_and_on_nothing_else(encoder, glyphs):
    seen, options = {}, {"attributes": bank(), "augment": TASK.augmentation(32), "progress": False}
    for seed, draw in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 11), (11, 1)):
        settings = SETTINGS.model_copy(update={"seed": seed, "draw": draw, "generate": False})
        run(encoder, glyphs[0], TASK.class_names, settings, draw=recording(of := []), **options)
        assert len(of) == SETTINGS.iterations - 1, "nothing is drawn after the last transduction"
        seen |= {(seed, draw, t): step for t, step in enumerate(of)}
    assert len({step[0] for step in seen.values()}) == len(seen) == 12, "1 and 11 is not 11 and 1"
    firsts = [step for (_, _, t), step in seen.items() if t == 0]
    assert all(torch.equal(step[1].images, firsts[0][1].images) for step in firsts), "the first transduction draws nothing"
    orders = {tuple(torch.cat([batch.images for batch in step[2]]).tolist()) for step in firsts}
    assert len(orders) == 6
    pixels = load_images(glyphs[0], encoder).pixels
    assert [firsts[0][3](i) for i in range(60)] == [hashlib.sha256(image.numpy().tobytes()).digest() for image in pixels]


def test_labelled_images_are_drawn_by_their_own_content(encoder, glyphs):
    images, classes = glyphs
    options = {"attributes": bank(), "augment": TASK.augmentation(32), "progress": False}
    seen = []
    settings = SETTINGS.model_copy(update={"generate": False, "iterations": 2})
    run(encoder, images[20:], TASK.class_names, settings, support=(images[:20], classes[:20]), draw=recording(seen), **options)
    (_, selection, batches, key), pixels = seen[0], load_images(images, encoder).pixels
    assert set(range(40, 60)) <= set(torch.cat([batch.images for batch in batches]).tolist())
    of_row = dict(zip(selection.images.tolist(), selection.classes, strict=True))
    assert all(of_row[40 + i].nonzero().tolist() == [[int(classes[i])]] for i in range(20))
    assert [key(40 + i) for i in range(20)] == [hashlib.sha256(image.numpy().tobytes()).digest() for image in pixels[:20]]


def test_another_draw_is_another_run_of_the_same_experiment(encoder, glyphs, guide_llm):
    first, again, other = (label(encoder, glyphs[0], guide_llm, SETTINGS.model_copy(update={"draw": draw})) for draw in (0, 0, 1))
    assert torch.equal(first.assignments, again.assignments)
    assert torch.equal(first.clip, other.clip) and torch.equal(first.history[0]["labels"], other.history[0]["labels"])
    assert not torch.allclose(first.assignments, other.assignments, atol=1e-6)


def test_the_arithmetic_is_that_of_the_encoder_unless_another_is_asked_for(encoder, glyphs, guide_llm):
    exact, single = (label(encoder, glyphs[0], guide_llm, dtype=dtype) for dtype in (None, torch.float32))
    for result, dtype in ((exact, torch.float64), (single, torch.float32)):
        assert {result.assignments.dtype, result.clip.dtype, result.features.dtype, result.prototypes.dtype} == {dtype}
        assert {p.dtype for p in result.encoder.model.parameters()} == {result.encoder.dtype} == {dtype}
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float64}
    assert 0 < (exact.clip - single.clip).abs().max() < 1e-4, "the same prior but for rounding"
    known = encoder.encode_images(load_images(glyphs[0], encoder).pixels)
    again = label(encoder, glyphs[0], guide_llm, dtype=torch.float32, features=known)
    assert again.assignments.dtype == torch.float32


def test_the_encoder_one_keeps_is_the_one_that_made_z(encoder, glyphs, guide_llm):
    pixels = load_images(glyphs[0], encoder).pixels
    result = label(encoder, pixels, guide_llm)
    features = result.encoder.encode_images(pixels)
    prior = text_prior(features, [result.encoder.encode_texts(texts) for texts in result.attributes.texts], encoder.logit_scale)
    torch.testing.assert_close(transduct(features, prior).assignments, result.assignments, atol=1e-8, rtol=0)


def test_a_pair_is_asked_once_and_texts_only_grow(encoder, glyphs, guide_llm):
    result = label(encoder, glyphs[0], guide_llm, SETTINGS.model_copy(update={"margin": 0.9}))
    asked = [frozenset(pair[1:3]) for pair in result.attributes.asked]
    assert len(asked) == len(set(asked)) > 0
    texts = [step["texts"] for step in result.history]
    assert texts == sorted(texts)


@pytest.mark.parametrize("memory", ["cumulative", "one_iteration"])
def test_a_bank_with_its_log_replays_the_run_without_a_language_model(encoder, glyphs, guide_llm, tmp_path, memory):
    settings = SETTINGS.model_copy(update={"margin": 0.9, "memory": memory})
    first = label(encoder, glyphs[0], guide_llm, settings)
    assert {t for t, *_ in first.attributes.asked} >= {0, 1}
    first.attributes.save(tmp_path / "bank.json")
    # Another margin stands for another machine's rounding: what is asked comes from the log, not from z.
    other = settings.model_copy(update={"margin": 0.01})
    augment = TASK.augmentation(encoder.image_size)
    options = {"attributes": tmp_path / "bank.json", "augment": augment, "progress": False}
    again = run(encoder, glyphs[0], TASK.class_names, other, **options)
    assert torch.equal(first.assignments, again.assignments) and torch.equal(first.clip, again.clip)
    assert first.attributes == again.attributes
    assert [(s["asked"], s["texts"]) for s in first.history] == [(s["asked"], s["texts"]) for s in again.history]
    with pytest.raises(ValueError, match="without an llm"):
        run(encoder, glyphs[0], TASK.class_names, other, llm=guide_llm, **options)
    wrong = other.model_copy(update={"memory": {"cumulative": "one_iteration", "one_iteration": "cumulative"}[memory]})
    with pytest.raises(ValueError, match="grown with memory"):
        run(encoder, glyphs[0], TASK.class_names, wrong, **options)


def test_with_memory_of_one_iteration_answers_serve_once(encoder, glyphs, guide_llm):
    settings = SETTINGS.model_copy(update={"margin": 0.9, "memory": "one_iteration"})
    result = label(encoder, glyphs[0], guide_llm, settings)
    static = sum(len(texts) for texts in describe(bank(), guide_llm).texts)
    of_iteration = [sum(a.iteration == t for of_class in result.attributes.attributes for a in of_class) for t in range(3)]
    assert [step["texts"] for step in result.history] == [static + new for new in of_iteration]
    assert sum(new > 0 for new in of_iteration) >= 2


def test_an_outage_in_the_middle_loses_no_answer(encoder, glyphs, tmp_path):
    """A cap stands for whatever ends a run; the run after it is that of a run that nothing ended."""
    settings = SETTINGS.model_copy(update={"margin": 0.9})
    with fieldguide.serve(fieldguide.draw_guide(0)) as url:
        whole = label(encoder, glyphs[0], LanguageModel("guide", url, Ledger(tmp_path / "whole"), progress=False), settings)
        cut = LanguageModel("guide", url, Ledger(tmp_path / "cut"), max_calls=14, progress=False)
        with pytest.raises(CapReached):
            label(encoder, glyphs[0], cut, settings)
        resumed = LanguageModel("guide", url, Ledger(tmp_path / "cut"), progress=False)
        again = label(encoder, glyphs[0], resumed, settings)
    assert resumed.usage.recorded == 14 and torch.equal(whole.assignments, again.assignments)
    replayed = label(encoder, glyphs[0], LanguageModel("guide", url, Ledger(tmp_path / "cut", "replay"), progress=False), settings)
    assert whole.attributes == again.attributes == replayed.attributes


def test_shots_enter_the_mixture_and_the_adaptation(encoder, glyphs, guide_llm):
    images, classes = glyphs
    shots = (images[:20], classes[:20])
    few = label(encoder, images[20:], guide_llm, SETTINGS.model_copy(update={"gamma": 0.2}), support=shots)
    none = label(encoder, images[20:], guide_llm)
    assert few.assignments.shape == none.assignments.shape == (40, 10)
    assert not torch.allclose(few.assignments, none.assignments, atol=1e-3)


def test_a_bank_of_other_classes_is_refused(encoder, glyphs):
    with pytest.raises(ValueError, match="other classes"):
        run(encoder, glyphs[0], ["one", "two"], attributes=bank(), progress=False)


def test_every_method_and_control_is_in_the_table(encoder, guide_llm):
    task = replace(TASK, images=TASK.images[:60])
    settings = settings_for("embedded", iterations=2)
    study = Study.of(task, encoder, settings, guide_llm)
    zero_shot.zero_shot(study)
    scored = study.outcomes
    assert {method for method, _ in scored} == {"CLIP", "CLIP+attributes", "TransCLIP", "TransCLIP+attributes", "GTA-CLIP"}
    assert {variant for method, variant in scored if method == "GTA-CLIP"} == set(zero_shot.VARIANTS)
    with pytest.raises(ValueError, match="did you mean 'no adapt'"):
        zero_shot.zero_shot(study, ["no adap"])


def test_a_run_stops_when_few_labels_change_and_never_otherwise(encoder, glyphs):
    settings = SETTINGS.model_copy(update={"iterations": 6, "generate": False})
    options = {"attributes": bank(), "augment": TASK.augmentation(32), "progress": False}
    whole = run(encoder, glyphs[0], TASK.class_names, settings, **options)
    changed = [step["changed"] for step in whole.history]
    assert len(changed) == 6 and changed[0] is None
    stop = max(changed[1:]) + 1e-6
    early = run(encoder, glyphs[0], TASK.class_names, settings.model_copy(update={"stop": stop}), **options)
    assert len(early.history) == 2
    assert torch.equal(early.assignments.argmax(1), whole.history[1]["labels"].long()) and early.history[-1]["loss"] is None


def test_without_adapt_images_are_encoded_once(encoder, glyphs, guide_llm, monkeypatch):
    calls, encode = [], type(encoder).encode_images
    monkeypatch.setattr(type(encoder), "encode_images", lambda self, *a, **o: calls.append(1) or encode(self, *a, **o))
    label(encoder, glyphs[0], guide_llm, SETTINGS.model_copy(update={"adapt": False}))
    assert len(calls) == 1
    label(encoder, glyphs[0], guide_llm)
    assert len(calls) == 1 + SETTINGS.iterations


def test_the_history_says_what_each_iteration_did(encoder, glyphs, guide_llm):
    result = label(encoder, glyphs[0], guide_llm)
    assert [step["iteration"] for step in result.history] == [0, 1, 2]
    assert [step["loss"] is None for step in result.history] == [False, False, True]
    for before, after in zip(result.history, result.history[1:], strict=False):
        assert after["changed"] == pytest.approx(float((before["labels"] != after["labels"]).float().mean()))
    assert {"encode", "transduct", "generate", "transduct again", "adapt"} == {k[8:] for k in result.history[0] if k.startswith("seconds_")}
    assert result.seconds == pytest.approx(sum(v for step in result.history for k, v in step.items() if k.startswith("seconds_")))
