"""What reviews say of the labels of a run: which of them count, what is accepted, and what is said where nobody reviewed."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from gta import encoders
from gta.label.abstention import at_least, at_most, set_bound, threshold
from gta.label.answers import COLUMNS, NONE, UNSURE, Answer
from gta.label.trust import UNKNOWN, doubts, judge, measured_elsewhere, read_reviews, sets_of
from gta.labels import SparseZ
from gta.worlds.glyphs import DIGITS
from labelling import label, rows

CLASSES = ["crane", "heron", "ibis"]


@pytest.fixture
def made_up():
    """z of 200 images of which the sure ones are right, their names, and the truth."""
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.dirichlet(np.full(3, 0.3), 200))
    truth = np.where(z.amax(1).numpy() > 0.7, z.argmax(1).numpy(), rng.integers(0, 3, 200))
    return z, [f"{i}.png" for i in range(200)], truth


def answers(rows, names, truth, by="random", reviewer="me"):
    return [Answer(names[i], CLASSES[truth[i]], reviewer, "", by) for i in rows]


def test_random_answers_give_the_threshold_and_the_sets(made_up):
    z, names, truth = made_up
    seen = np.arange(0, 200, 4)
    trust = judge(answers(seen, names, truth), CLASSES, names, z, [True] * 200, 0.1)
    wrong = z.argmax(1).numpy()[seen] != truth[seen]
    doubt = np.sort(z.numpy(), 1)[:, :-1].sum(1)
    point = threshold(-doubt, seen, wrong, 0.1)
    assert point is not None and trust.doubt == pytest.approx(-point.threshold)
    assert trust.bound == set_bound(z.numpy()[seen, truth[seen]], 0.1)
    assert [p.reviewed for p in trust.curve][-1] == 50 and [p.wrong for p in trust.curve][-1] == wrong.sum()
    low, high = (f"{100 * of(int(wrong.sum()), 50):.0f}" for of in (at_least, at_most))
    assert f"of 50 reviewed images {wrong.sum()} have a wrong label; of all images it is {low} to {high} %" in trust.told[0]
    accepted = (
        f"labels with a doubt (1 - confidence) of {-point.threshold:.2g} or less are accepted, {100 * point.share:.0f} % of all: at most"
    )
    assert trust.told[1].startswith(accepted)


def test_images_that_were_chosen_for_being_uncertain_change_nothing_and_are_told(made_up):
    z, names, truth = made_up
    drawn = answers(range(0, 200, 4), names, truth)
    chosen = [*answers([1, 2], names, truth, "uncertain"), *answers([3], names, truth, "both"), *answers([5], names, truth, "diverse")]
    alone, both = (judge(given, CLASSES, names, z, [True] * 200, 0.1) for given in (drawn, [*chosen, *drawn]))
    assert (both.doubt, both.bound, both.curve) == (alone.doubt, alone.bound, alone.curve)
    assert "4 reviewed images do not count here: they were not chosen at random" in " ".join(both.told)
    none = judge(chosen, CLASSES, names, z, [True] * 200, 0.1)
    assert none.curve == () and none.told[: len(UNKNOWN.told)] == UNKNOWN.told


def test_a_label_is_right_if_every_reviewer_gave_it_last(made_up):
    z, names, _ = made_up
    names_of, rows = z.argmax(1).tolist(), [0, 4, 8, 12, 16, 20]
    given = [Answer(names[i], CLASSES[names_of[i]], "me", "", "random") for i in rows]
    given += [
        Answer(names[0], CLASSES[(names_of[0] + 1) % 3], "you", "", "random"),  # two differ
        Answer(names[4], NONE, "me", "", "random"),  # corrected
        Answer(names[8], UNSURE, "you", "", "random"),
        Answer(names[12], "", "me", "", "random"),  # taken back
        Answer("gone.png", "crane", "me", "", "random"),
    ]
    trust = judge(given, CLASSES, names, z, [True] * 200, 0.1)
    assert "of 5 reviewed images 3 have a wrong label" in trust.told[0]
    assert "1 reviewed images have no label in this run" in " ".join(trust.told)
    assert "5 reviewed images cannot show of any that at most 10 % of them are wrong; 22 or more are needed" in trust.told[1]


def test_a_rejected_image_is_neither_counted_nor_accepted(made_up):
    z, names, truth = made_up
    labelled = [i % 8 != 0 for i in range(200)]
    trust = judge(answers(range(0, 200, 4), names, truth), CLASSES, names, z, labelled, 0.3)
    assert trust.curve[-1].reviewed == 25 and trust.curve[-1].share == 1
    assert trust.accepts("", 0.0) == "no" and UNKNOWN.accepts("crane", 0.0) == "no"


def test_a_set_holds_the_classes_that_are_likely_enough():
    z = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    assert [*sets_of(z, 0.3, CLASSES)] == [[("heron", "0.5000"), ("ibis", "0.3000")], [("ibis", "0.8000")]]
    held = SparseZ(torch.tensor([[1, 2], [0, 2]]), torch.tensor([[0.5, 0.3], [0.1, 0.8]]), torch.tensor([0.2, 0.1]), 3)
    assert [*sets_of(held, 0.3, CLASSES)] == [*sets_of(z, 0.3, CLASSES)]


def test_doubt_tells_apart_what_is_certain_to_the_last_digit():
    z = torch.tensor([[1.0, 1e-9, 2e-9], [1e-30, 1.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float32)
    assert doubts(z).tolist() == pytest.approx([3e-9, 1e-30, 0.5, 0.5])


def test_any_csv_of_paths_and_labels_is_read(tmp_path):
    (tmp_path / "r.csv").write_text("\ufefflabel,path,chosen_by\ncrane , a.png,random\n(none),b.png,uncertain\n,c.png,\n", encoding="utf-8")
    found = [(a.path, a.label, a.chosen_by) for a in read_reviews(tmp_path / "r.csv", CLASSES)]
    assert found == [(" a.png", "crane", "random"), ("b.png", NONE, "uncertain"), ("c.png", "", "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,class\na,crane\n", "r.csv: no column label in its first line; it needs path,label"),
        ("path,label\na,crain\n", r"r.csv, line 2: no class 'crain'; did you mean 'crane'"),
        (",".join(COLUMNS) + "\na,crain,me,,random\n", r"r.csv: no class 'crain'; did you mean 'crane'"),
        (b"path,label\n\xff,crane\n", "r.csv: no CSV in UTF-8"),
    ],
)
def test_a_bad_review_is_refused(tmp_path, text, said):
    (tmp_path / "r.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        read_reviews(tmp_path / "r.csv", CLASSES)


def test_a_reliability_is_told_of_the_very_weights_alone():
    sha = encoders.load("embedded", seed=0, device="cpu").weights_sha256
    (told,) = measured_elsewhere(sha)
    assert re.match(r"measured with these weights on the 1,393 images of digits, and true of no others: [\d.]+ % of the labels", told)
    assert measured_elsewhere("f" + sha[1:]) == [] and measured_elsewhere("0" * 64) == []


@pytest.fixture
def home(tmp_path, glyphs):
    """60 glyphs and a class file; reviews of all of them by the truth."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(glyphs[0]):
        Image.fromarray(image).save(tmp_path / f"images/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    lines = [f"{i:02d}.png,{DIGITS[int(label)]}" for i, label in enumerate(glyphs[1])]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    return tmp_path


def test_without_a_review_the_page_and_the_command_say_that_scores_are_not_calibrated(home, capsys):
    assert label(home) == 0
    said, page = capsys.readouterr().out, (home / "out/report.html").read_text(encoding="utf-8")
    assert all(line in said and line in page for line in UNKNOWN.told)
    assert "measured with these weights on the 1,393 images of digits" in page
    assert "accepted" not in rows(home / "out/predictions.csv")[0] and not (home / "out/sets.csv").exists()


def test_a_review_marks_what_is_accepted_and_writes_sets(home, capsys):
    assert label(home, "--reviewed", home / "all.csv", "--risk", "0.3") == 0
    said, found = capsys.readouterr().out, rows(home / "out/predictions.csv")
    assert "60 reviewed images are taken as drawn at random, which no column chosen_by says" in said
    told, share = re.search(r"labels with a doubt \(1 - confidence\) of (\S+) or less are accepted, (\d+) % of all", said).groups()
    clear = [row for row in found if abs(1 - float(row["confidence"]) - float(told)) > 0.01 * float(told) + 1e-4]
    assert [row["accepted"] for row in clear] == ["yes" if 1 - float(row["confidence"]) <= float(told) else "no" for row in clear]
    assert round(100 * sum(row["accepted"] == "yes" for row in found) / 60) == int(share)
    truth = {row["path"]: row["label"] for row in rows(home / "all.csv")}
    accepted = [row for row in found if row["accepted"] == "yes"]
    assert accepted and sum(row["label"] != truth[row["path"]] for row in accepted) <= 0.3 * len(accepted)
    sets = rows(home / "out/sets.csv")
    held = {row["path"] for row in sets if row["label"] == truth[row["path"]]}
    assert len(held) >= 0.7 * 60 and min(float(row["confidence"]) for row in sets) > 0
    page = (home / "out/report.html").read_text(encoding="utf-8")
    assert f"{told} or less are accepted" in page and "A few of these labels were reviewed" in page


def test_answers_in_the_folder_of_results_are_found_and_count_if_they_are_random(home, capsys):
    assert label(home) == 0
    lines = [f"{row['path']},{row['label']},me,2030-01-01T00:00:00+00:00,random" for row in rows(home / "all.csv")[:30]]
    (home / "out/reviews.csv").write_text("\n".join([",".join(COLUMNS), *lines, ""]), encoding="utf-8")
    capsys.readouterr()
    assert label(home) == 0
    said = capsys.readouterr().out
    assert "of 30 reviewed images " in said and "taken as drawn at random" not in said
    (home / "out/reviews.csv").write_text("\n".join([",".join(COLUMNS), *lines, ""]).replace(",random", ",uncertain"), encoding="utf-8")
    assert label(home) == 0
    assert UNKNOWN.told[0] in capsys.readouterr().out and "accepted" not in rows(home / "out/predictions.csv")[0]


@pytest.mark.parametrize("risk", ["0", "1", "nan"])
def test_a_risk_that_nothing_or_everything_keeps_is_refused(home, capsys, risk):
    assert label(home, "--risk", risk) == 1
    assert f"--risk {risk}" in capsys.readouterr().err and not (home / "out").exists()
