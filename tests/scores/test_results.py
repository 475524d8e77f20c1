import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from gta.data import tasks
from gta.scores import results, tables
from gta.scores.rows import paired_gain, read_table, write_run, write_table
from gta.worlds.settings import settings_for
from small import row


def test_the_interval_is_that_of_scipy(rng):
    right, baseline = rng.random(400) < 0.7, rng.random(400) < 0.6
    gain, low, high = paired_gain(right, baseline)
    difference = 100 * (right.astype(float) - baseline)
    theirs = bootstrap((difference,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert gain == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.4)


def test_no_difference_has_no_width():
    assert paired_gain(np.array([True, False]), np.array([True, False])) == (0, 0, 0)


names = st.sampled_from(["NA", "007", 'a "quoted" name', "a,b", "Écureuil", "null", ""])


@given(st.lists(st.tuples(names, names), min_size=1, max_size=5, unique=True))
def test_rows_round_trip(tmp_path_factory, cells):
    rows = [row(run_id=f"0{i}", method=method, variant=variant) for i, (method, variant) in enumerate(cells)]
    file = tmp_path_factory.mktemp("t") / "t.csv"
    write_table(file, rows)
    assert sorted(read_table(file), key=lambda r: r.run_id) == rows


def test_a_row_that_does_not_add_up_is_refused():
    with pytest.raises(ValueError, match=r"accuracy 50.0 is not 100 \* 1 / 3"):
        row(accuracy=50.0)


def test_a_table_edited_by_hand_is_refused_by_line(tmp_path):
    file = tmp_path / "t.csv"
    write_table(file, [row()])
    file.write_text(file.read_text(encoding="utf-8").replace("33.3333", "43.3333"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv, line 2: .*43\.3333"):
        read_table(file)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.csv does not exist"):
        read_table(tmp_path / "gone.csv")


def test_one_measurement_twice_is_an_error_and_the_same_row_twice_is_one(tmp_path):
    write_table(tmp_path / "t.csv", [row(), row()])
    assert len(read_table(tmp_path / "t.csv")) == 1
    with pytest.raises(ValueError, match="two different rows with run_id a"):
        write_table(tmp_path / "t.csv", [row(), row(seconds=2)])


def _write(arguments):
    folder, seed = arguments
    predictions = {"image_id": np.array(["a"]), f"r{seed % 8}.correct": np.array([True])}
    write_run(folder / str(seed % 8), [row(run_id=f"r{seed % 8}", seed=seed % 8)], predictions)


def test_overlapping_runs_lose_and_double_no_row(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_write, [(tmp_path, seed) for seed in range(40)], chunksize=1)
    tables.combine([tmp_path / str(seed) for seed in range(8)], tmp_path / "t.csv")
    assert [r.seed for r in read_table(tmp_path / "t.csv")] == list(range(8))
    assert not list(tmp_path.rglob(".*"))


def test_measure_scores_the_largest_entry(encoder):
    task = tasks.load("digits")
    labels = torch.from_numpy(tasks.query_labels("digits"))
    truth = torch.nn.functional.one_hot(labels, 10).float()
    wrong = truth.roll(1, dims=1)
    half = torch.where((torch.arange(len(labels)) % 2 == 0)[:, None], truth, wrong)
    outcomes = {("CLIP", ""): wrong, ("GTA-CLIP", ""): truth, ("GTA-CLIP", "half"): half}
    outcomes = {key: (z, 1.0, ("CLIP", "")) for key, z in outcomes.items()}
    rows, predictions = results.measure("t", task, "embedded", encoder, settings_for("embedded"), outcomes, outcomes.keys(), "hash")
    assert [(r.n_correct, round(r.gain)) for r in rows] == [(0, 0), (1393, 100), (697, 50)]
    assert len({r.run_id for r in rows}) == 3
    assert predictions[f"{rows[1].run_id}.top5"].shape == (1393, 5)
    assert (predictions[f"{rows[1].run_id}.top5"][:, 0] == labels.numpy()).all()
    with pytest.raises(ValueError, match="10 assignments for the 1393 images"):
        results.correct("digits", truth[:10])


def test_what_draws_nothing_is_no_row_of_another_draw_but_what_its_rows_are_compared_with(encoder):
    truth = torch.nn.functional.one_hot(torch.from_numpy(tasks.query_labels("digits")), 10).double()
    outcomes = {("CLIP", ""): (truth.roll(1, dims=1), 1.0, ("CLIP", "")), ("GTA-CLIP", ""): (truth, 1.0, ("CLIP", ""))}

    def measured(draw, drawn):
        return results.measure("t", tasks.load("digits"), "embedded", encoder, settings_for("embedded", draw=draw), outcomes, drawn, "hash")

    (first, predicted), (second, of_draw) = measured(0, outcomes.keys()), measured(1, {("GTA-CLIP", "")})
    assert [(r.method, r.draw, r.gain) for r in first] == [("CLIP", 0, 0), ("GTA-CLIP", 0, 100)]
    assert [(r.method, r.draw, r.gain) for r in second] == [("GTA-CLIP", 1, 100)]
    assert len({r.run_id for r in [*first, *second]}) == 3
    assert {name.partition(".")[0] for name in of_draw} == {"image_id", second[0].run_id}
    assert len(predicted) == 1 + 2 * 3


def test_of_classes_that_tie_the_first_counts_and_is_the_first_of_the_five(encoder):
    """Two classes are equal but for rounding, in half of the images in favour of the second one."""
    labels = torch.from_numpy(tasks.query_labels("digits"))
    z = torch.nn.functional.one_hot(labels, 10).double() * 0.4
    z[:, 0] = 0.4 + 1e-8 * (torch.arange(len(labels)) % 2 * 2 - 1)
    outcomes = {("CLIP", ""): (z, 1.0, ("CLIP", ""))}
    (scored,), predictions = results.measure(
        "t", tasks.load("digits"), "embedded", encoder, settings_for("embedded"), outcomes, outcomes.keys(), "hash"
    )
    assert scored.n_correct == (labels == 0).sum() and scored.ties == (labels != 0).sum()
    top = predictions[f"{scored.run_id}.top5"]
    assert (top[:, 0] == 0).all() and (top[labels != 0, 1] == labels[labels != 0].numpy()).all()
    assert np.allclose(np.take_along_axis(z.numpy(), top, 1), predictions[f"{scored.run_id}.z"])


def test_the_summary_has_the_mean_over_encoders_of_each_ones_mean_over_its_draws():
    """Gains 1, 3 of encoder 0 and 2, 2.4 of encoder 1: means 2 and 2.2, 2.1 +- 12.706 * 0.1; between draws sqrt((2 + 0.08) / 2)."""
    gains = {(0, 0): 1, (0, 1): 3, (1, 0): 2, (1, 1): 2.4}
    rows = [
        row(run_id=str(key), seed=key[0], draw=key[1], n_correct=key[1], n_total=2, accuracy=50 * key[1], gain=g)
        for key, g in gains.items()
    ]
    (line,) = tables.summary([*rows, row(run_id="other", method="GTA-CLIP", gain=5)]).query("method == 'CLIP'").to_dict("records")
    assert (line["accuracy"], line["gain"], line["95 % interval"], line["verdict"]) == (25, 2.1, "+0.8 to +3.4", "better")
    assert (line["encoders"], line["draws"], line["between draws"]) == (2, 2, "1.02")


def test_the_summary_tells_nothing_from_a_single_encoder():
    (line,) = tables.summary([row(run_id=str(d), draw=d, gain=5 + d) for d in range(3)]).to_dict("records")
    assert (line["gain"], line["95 % interval"], line["verdict"], line["encoders"], line["draws"]) == (6, "", "", 1, 3)
    assert line["between draws"] == "1.00"


def test_the_best_of_all_calls_is_shown_beside_the_answer_where_there_is_one(tmp_path, capsys):
    rows = [row(), *(row(run_id=f"g{seed}", method="GTA-CLIP", seed=seed, oracle_best=best) for seed, best in enumerate((60, 61.5)))]
    assert "oracle_best" not in tables.summary(rows), "in no headline"
    assert tables.summary(rows, oracle=True).set_index("method").oracle_best.to_dict() == {"CLIP": "", "GTA-CLIP": "60.8"}
    assert "oracle_best" not in tables.summary(rows[:1], oracle=True)
    write_table(tmp_path / "rows.csv", rows)
    tables.main(["show", str(tmp_path / "rows.csv")])
    assert "60.8" in capsys.readouterr().out


def test_rows_are_held_against_the_published_ones_of_the_same_run():
    published = [row(), row(run_id="b", draw=1), row(run_id="c", seed=1)]
    assert tables.compared([row(run_id="z"), row(draw=1)], published) == "as published: 2 rows, every count the same"
    other = [row(n_correct=2, accuracy=66.6667), row(draw=1), row(draw=2)]
    said = tables.compared(other, published).splitlines()
    assert said[0] == "1 of 2 rows differ from the published ones; 1 rows are not published:"
    assert said[1].endswith("2 right here, 1 published") and len(said) == 2
    assert tables.compared([row(dataset="e")], published) == "none of these rows is published"


def test_a_baseline_of_many_runs_is_one_row_if_they_agree(tmp_path):
    right = {"a.correct": np.array([True, False, False]), "b.correct": np.array([True, True, False])}
    other = {"run_id": "b", "method": "GTA-CLIP", "n_correct": 2, "accuracy": 66.6667}
    write_run(tmp_path / "1", [row()], right)
    write_run(tmp_path / "2", [row(seconds=2), row(**other)], right)
    tables.combine([tmp_path / "1", tmp_path / "2"], tmp_path / "t.csv")
    assert [(r.run_id, r.seconds) for r in read_table(tmp_path / "t.csv")] == [("a", 1), ("b", 1)]
    (line,) = (tmp_path / "t_paired.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert line.startswith("t,d,b,,0,0,0,GTA-CLIP,,CLIP,b,33.3333,")
    write_run(tmp_path / "3", [row(n_correct=2, accuracy=66.6667)], right)
    with pytest.raises(ValueError, match=r"run_id a \(CLIP, '', seed 0\) differently"):
        tables.combine([tmp_path / "1", tmp_path / "3"], tmp_path / "t.csv")
