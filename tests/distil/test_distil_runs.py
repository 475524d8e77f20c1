"""The study on a few digits, its table and figures by hand, and the document that holds what was published."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from gta import encoders
from gta.batch.sweeps import sweeps
from gta.charts import distil as charts
from gta.data import tasks
from gta.distil import pools, runs
from gta.distil.teachers import Teacher
from gta.files import ROOT
from gta.scores import statistics
from gta.scores.statistics import t_interval
from gta.studies.study import Study
from gta.worlds import aviary, digits
from gta.worlds.settings import settings_for
from small import row
from toy_teachers import teacher

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=True, student="teacher/4")


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 25])
def test_every_row_of_students_is_there_and_no_label_of_a_query_image_is_read(encoder, guide_llm, tmp_path, monkeypatch, images):
    task = tasks.load("digits#small-60-0")
    study = Study.of(replace(task, source="digits"), encoder, settings_for("embedded", iterations=1), guide_llm)
    parameters = runs.Distil(**GIVEN, images=images, out=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "query_labels", lambda name: pytest.fail("a label of a query image"))
        found = runs.distil(study, parameters)
    if images == 100:
        of_students = {("soft", "1/4"), ("hard", "1/4"), ("rationales", "1/4"), ("tinybert", "1/4")}
        expected = {runs.WHOLE, runs.TEACHER, *of_students, ("rationales", f"1/4, {runs.SHUFFLED}")}
    else:
        expected = {("hard", "1/4, 101 images"), ("rationales", "1/4, 101 images")}
    assert set(found.drawn) == expected and set(study.outcomes) == expected | {runs.WHOLE, runs.TEACHER}
    for z, seconds, baseline in study.outcomes.values():
        assert z.shape == (60, 10) and torch.allclose(z.sum(1), torch.ones(60).double(), atol=1e-5) and seconds >= 0
        assert baseline == runs.TEACHER
    table = found.table.set_index(["method", "variant"])
    assert set(table.index) == expected - {runs.WHOLE}
    z = study.outcomes[found.drawn[-1]][0].argmax(1), study.outcomes[runs.TEACHER][0].argmax(1)
    assert table.loc[found.drawn[-1], "agreement"] == pytest.approx(100 * (z[0] == z[1]).double().mean().item())
    assert (table.images == {100: 404, 25: 101}[images]).sum() == len(expected) - 2 * (images == 100)


def test_a_part_of_the_pool_needs_as_many_views_and_a_row_of_the_teacher_comes_once():
    parameters = runs.Distil(**GIVEN | {"smoke": False}, out="o")
    assert (parameters.images, parameters.views) == (100, runs.VIEWS)
    cells = sweeps()["distil"].cells()
    of_teacher = [(c["dataset"], c["seed"]) for c in cells if c["images"] == 100 and c["student"] == "teacher/4"]
    assert len(of_teacher) == len(set(of_teacher)) == 10


def test_tinybert_is_left_out_where_the_teacher_is_no_transformer(encoder):
    birds = encoders.load("embedded", seed=0, device="cpu", embedded=aviary.ENCODERS)
    names = [[name for name, control, _ in runs.plan(Teacher(of, None, teacher(encoder).bank), False, 0)] for of in (encoder, birds)]
    assert [name for name in names[0] if name not in names[1]] == ["tinybert"]
    assert [name for name, *_ in runs.plan(Teacher(birds, None, teacher(encoder).bank), True, 0)] == ["hard", "rationales"]


def test_the_pool_is_no_query_picture_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "EACH", 2)
    pool = pools.pool("aviary:3", tmp_path)
    assert len(pool) == 2 * 32 and pool[0].shape == (64, 64, 3)
    monkeypatch.setattr(aviary, "PICTURES", {"query": 2, "train": 2})
    taken = {picture.tobytes() for split in ("query", "train") for picture in aviary.world(3).pictures(split)}
    assert len(taken) >= 2 * 32
    assert not taken & {picture.tobytes() for picture in pool}
    monkeypatch.setattr(pools, "_birds", None)  # the second time nothing is drawn
    assert all(np.array_equal(a, b) for a, b in zip(pool, pools.pool("aviary:3", tmp_path), strict=True))
    of_digits = {image.tobytes() for image in pools.pool("digits")}
    assert len(of_digits) <= 404 and not of_digits & {image.tobytes() for image in digits.load("query")[1]}
    with pytest.raises(ValueError, match="'eurosat' has no unlabelled pool"):
        pools.pool("eurosat")


ACCURACIES = {("teacher", ""): (80, 60), ("hard", "1/4"): (70, 50), ("soft", "1/4"): (76, 54), ("hard", "1/4, 101 images"): (40, 40)}


def measured():
    """Rows of two encoders, their pairs, and what students cost."""
    rows, students, right = [], [], {}
    for (method, variant), of in ACCURACIES.items():
        for seed, accuracy in enumerate(of):
            named = dict(dataset="digits", backbone="embedded", seed=seed, method=method, variant=variant)
            hits = dict(n_correct=accuracy, n_total=100, accuracy=accuracy, baseline="teacher", run_id=f"{method} {variant} {seed}")
            rows.append(row(**named, **hits, table="distil", gain=0))
            right[rows[-1].run_id] = np.arange(100) < accuracy
            cost = dict(images=404, parameters=100, megabytes=4.0, milliseconds=1.0 + seed, faster=2.0, agreement=90.0, seconds=1.0)
            students.append({**named, **cost, **({"images": 101} if "images" in variant else {})})
    return rows, statistics.paired(rows, right, [("hard", "1/4")]), pd.DataFrame(students)


def test_the_table_says_what_is_kept_and_compares_a_student_with_its_like():
    table = charts.standings(*measured()).set_index(["method", "variant"])
    low, high = t_interval([6.0, 4.0])
    soft = table.loc["soft", "1/4"]
    assert soft[["accuracy", "kept", "to hard", "milliseconds"]].tolist() == [65, 92.5, 5, 1.5]
    assert soft.interval == f"[{low:+.1f}, {high:+.1f}]" and soft.verdict == ""
    assert table.loc[("hard", "1/4"), "to hard"] == "" and table.loc[("hard", "1/4, 101 images"), "to hard"] == -20
    assert list(table.index)[-1] == ("teacher", ""), "the best comes last"


def test_the_figures_show_every_student_and_the_curve_has_its_points():
    rows, _, students = measured()
    figure = charts.frontier(rows, students)
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("", "None", None)]
    assert sorted(line.get_ydata()[0] for line in marks) == [60, 65, 70]
    assert all(abs(line.get_xdata()[0] - 1.5) < 0.05 for line in marks)
    assert figure.axes[0].get_xlim()[0] == 0
    plt.close(figure)
    figure = charts.curve(rows, students)
    assert next(list(line.get_xdata()) for line in figure.axes[0].lines) == [101, 404]
    plt.close(figure)


def test_the_page_of_students_holds_what_was_published_and_before_that_nothing():
    page = (ROOT / "docs/distil.md").read_text(encoding="utf-8")
    if (ROOT / "results/tables/distil.csv").exists():
        assert charts.filled(page, ROOT / "results/tables") == page
    else:
        assert page.partition(f"<!-- {charts.MARK} -->")[2].partition("<!-- end -->")[0].strip() == ""
