"""What a study runs with several draws, what it runs once, and what its rows are compared with."""

import pytest
import torch

from gta import loop
from gta.data import tasks
from gta.encoders.images import load_images
from gta.labels import answer
from gta.settings import Settings
from gta.studies import zero_shot
from gta.studies.study import Study
from gta.worlds.settings import settings_for

SETTINGS = settings_for("embedded", iterations=2, margin=0.9, lr=1e-3, lr_projection=1e-3, confident=3)


@pytest.fixture
def study(encoder, glyphs, guide_llm, monkeypatch):
    """60 glyphs in place of the digits; to a number of draws its study."""
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
    return lambda draws: Study.of(tasks.load("digits"), encoder, SETTINGS, guide_llm, draws=draws)


def test_what_adapts_is_run_with_every_draw_and_all_else_once(study):
    scored = {}
    for draws in (1, 3):
        made = study(draws)
        zero_shot.zero_shot(made, ["", "no adapt"])
        rows, predictions = made.score("embedded", "t", "hash", "done")
        scored[draws] = {(row.method, row.variant, row.draw): row.run_id for row in rows}
        assert len(scored[draws]) == len(rows) == len({row.run_id for row in rows})
        assert {name.partition(".")[0] for name in predictions} == {"image_id", *scored[draws].values()}
    assert scored[1].items() <= scored[3].items(), "more draws change no row of draw 0"
    assert scored[3].keys() - scored[1].keys() == {("GTA-CLIP", "", 1), ("GTA-CLIP", "", 2)}
    once = {("CLIP", ""), ("CLIP+attributes", ""), ("TransCLIP", ""), ("TransCLIP+attributes", ""), ("GTA-CLIP", "no adapt")}
    assert {key[:2] for key in scored[1]} == once | {("GTA-CLIP", "")}


def test_each_draw_is_the_run_with_that_setting(study, encoder, glyphs):
    made = study(3)
    first = made.run_draws("GTA-CLIP", "", made.static, made.llm)
    found = [made.outcomes["GTA-CLIP", ""][0], *(made.further[draw]["GTA-CLIP", ""][0] for draw in (1, 2))]
    assert torch.equal(first.assignments, found[0]) and set(made.further) == {1, 2}
    options = {"attributes": made.static, "llm": made.llm, "questions": made.questions, "progress": False}
    for draw, z in enumerate(found):
        settings, augment = Settings(**{**SETTINGS.model_dump(), "draw": draw}), made.task.augmentation(encoder.image_size)
        alone = loop.run(encoder, load_images(glyphs[0], encoder), made.task.class_names, settings, augment=augment, **options)
        assert torch.equal(alone.assignments, z)
    assert not any(torch.allclose(found[a], found[b], atol=1e-6) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_row_is_compared_with_the_same_draw_of_what_draws_too_and_with_the_only_one_of_what_does_not(study, glyphs):
    made, labels = study(3), glyphs[1]
    made.add_once(made.static, "+attributes", baseline=("CLIP+attributes", ""))
    made.run_draws("GTA-CLIP", "", made.static, made.llm, baseline=("CLIP+attributes", ""))
    made.run_draws("GTA-CLIP", "part", made.static, baseline=("GTA-CLIP", ""), changes={"confident": 1, "generate": False})
    rows, _ = made.score("embedded", "t", "hash", "done")
    of_draw = {draw: made.outcomes | made.further.get(draw, {}) for draw in range(3)}
    for row in rows:
        method, _, variant = row.baseline.partition(", ")
        right, against = (
            (answer(of_draw[row.draw][key][0]) == labels).double().mean() for key in ((row.method, row.variant), (method, variant))
        )
        assert row.accuracy == pytest.approx(100 * float(right), abs=1e-3)
        assert row.gain == pytest.approx(100 * float(right - against), abs=1e-3)
    assert [row.draw for row in rows if row.variant == "part"] == [0, 1, 2]
    assert len({row.accuracy for row in rows if row.variant == "part"} | {row.accuracy for row in rows if row.method == "GTA-CLIP"}) > 1


def test_a_run_without_a_step_to_adapt_draws_nothing(study):
    """One iteration ends before it adapts."""
    made = study(3)
    made.run_draws("GTA-CLIP", "one", made.static, changes={"iterations": 1})
    made.run_draws("GTA-CLIP", "no adapt", made.static, changes={"adapt": False})
    assert made.further == {} and len(made.outcomes) == 2
    assert made.outcomes["GTA-CLIP", "one"][0].isfinite().all()
