"""Rounds of a review, the file in place of the page, and what the command makes of answers."""

import csv
import re
import shutil
from functools import partial

import pytest
from PIL import Image

import labelling
from gta.label import kept, review
from gta.label.answers import NONE, UNSURE, Answer, append, read
from gta.label.choosing import STRATEGIES
from gta.llm.ledger import Ledger
from gta.worlds.glyphs import DIGITS
from labelling import command, rows
from reviewed import HOSTILE_CLASSES, labelled


def test_a_round_stays_until_it_is_done_and_each_reviewer_has_one(tmp_path):
    ann = labelled(tmp_path, images=30)
    first = ann.round("random", 5, seed=1)
    assert [item.chosen_by for item in first] == ["random"] * 5
    again = review.Review(tmp_path / "out", "ann")
    assert again.round("uncertain", 9) == first
    assert review.Review(tmp_path / "out", "bob").round("uncertain", 9) != first
    ann.say({item.path: HOSTILE_CLASSES[0] for item in first}, dict.fromkeys([item.path for item in first], "random"))
    assert again.round("uncertain", 5) == first  # answered, and nothing is learnt yet
    again.done()
    assert not {item.path for item in again.round("random", 5, seed=1)} & {item.path for item in first}


def test_an_uncertain_round_is_the_smallest_margins_of_the_file(tmp_path):
    ann = labelled(tmp_path, images=30)
    expected = sorted(rows(tmp_path / "out/predictions.csv"), key=lambda row: float(row["margin"]))[:6]
    found = ann.round("uncertain", 6)
    assert [(item.path, item.proposal, item.runner_up) for item in found] == [(r["path"], r["label"], r["runner_up"]) for r in expected]


def test_the_same_answer_twice_is_one_line(tmp_path):
    ann = labelled(tmp_path)
    by = {"a\nb.png": "both", "006.png": "both"}
    assert ann.say({"a\nb.png": HOSTILE_CLASSES[1], "006.png": NONE}, by) == 2
    assert ann.say({"a\nb.png": HOSTILE_CLASSES[1], "006.png": UNSURE}, by) == 1
    assert [(answer.path, answer.label) for answer in read(ann.file)] == [
        ("a\nb.png", HOSTILE_CLASSES[1]),
        ("006.png", NONE),
        ("006.png", UNSURE),
    ]


def test_another_reviewer_sees_what_was_answered_and_not_how(tmp_path):
    ann = labelled(tmp_path)
    bob = review.Review(tmp_path / "out", "bob")
    ann.say({"006.png": HOSTILE_CLASSES[0], "007.png": NONE}, {"006.png": "random", "007.png": "both"})
    ann.say({"007.png": ""}, {"007.png": "both"})  # taken back
    assert [(item.path, item.chosen_by) for item in bob.second(5)] == [("006.png", "random")]
    assert ann.second(5) == []


def test_a_class_that_is_called_like_another_answer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a class is called '\(none\)'"):
        labelled(tmp_path, classes=["crane", NONE])


@pytest.mark.parametrize("damage", ["gone", "other", "text"])
def test_a_folder_without_a_whole_run_is_told(tmp_path, damage):
    labelled(tmp_path)
    file = tmp_path / "out" / (kept.FACTS if damage == "text" else kept.FEATURES)
    file.unlink() if damage == "gone" else file.write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"is not the folder of a run that ended.*python -m gta label"):
        review.Review(tmp_path / "out", "ann")


def fill(file, labels):
    with open(file, newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, found[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": labels.get(row["path"], "")} for row in found)


def test_a_file_is_filled_and_read_back(tmp_path):
    ann = labelled(tmp_path)
    items, file = ann.round("diverse", 6), tmp_path / "round.csv"
    review.write_round(ann, items, file)
    assert [(row["path"], row["proposed"], row["label"]) for row in rows(file)] == [(item.path, item.proposal, "") for item in items]
    said = {items[0].path: HOSTILE_CLASSES[3], items[1].path: NONE, items[2].path: UNSURE}
    fill(file, said)
    with pytest.raises(ValueError, match="holds labels that are not read yet: --read"):
        review.write_round(ann, items, file)
    assert review.read_round(ann, file) == 3 and review.read_round(ann, file) == 0
    assert ann.mine == said and {answer.chosen_by for answer in read(ann.file)} == {"diverse"}
    review.write_round(ann, items, file)  # what was read may go
    assert {row["path"]: row["label"] for row in rows(file) if row["label"]} == said
    fill(file, {items[0].path: "stork"})
    with pytest.raises(ValueError, match=r"round.csv, line \d+: no class 'stork'"):
        review.read_round(ann, file)
    (tmp_path / "other.csv").write_text("path,label\nclasses.txt,(none)\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"classes.txt' is no image of the run"):
        review.read_round(ann, tmp_path / "other.csv")


@pytest.fixture
def home(tmp_path, glyphs):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(glyphs[0][:40]):
        Image.fromarray(image).save(tmp_path / f"images/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    return tmp_path


label = partial(labelling.label, iterations=2)


def truth(path):
    return DIGITS[int(path[:2]) % 10]


def test_a_round_is_answered_and_the_labels_are_those_of_the_few_shot_setting(home, capsys, monkeypatch):
    assert label(home, "--llm", "fieldguide") == 0
    before, paid = rows(home / "out/predictions.csv"), len(list(Ledger(home / "out/ledger")))
    assert command("review", home / "out", "--by", "uncertain", "--images", 8, "--reviewer", "ann", "--file") == 0
    monkeypatch.chdir("/")  # a review needs no command line, and not its folder either
    asked = [row["path"] for row in rows(home / "out/round.csv")]
    assert asked == [row["path"] for row in sorted(before, key=lambda row: float(row["margin"]))[:8]]
    said = {path: truth(path) for path in asked[:6]} | {asked[6]: NONE, asked[7]: UNSURE}
    fill(home / "out/round.csv", said)
    capsys.readouterr()
    assert command("review", home / "out", "--reviewer", "ann", "--read", home / "out/round.csv") == 0
    told = capsys.readouterr().out
    after = rows(home / "out/predictions.csv")
    assert [row["path"] for row in after] == [row["path"] for row in before]
    examples = asked[:6]
    assert [row for row in after if row["path"] in examples] == [row for row in before if row["path"] in examples]
    assert len(list(Ledger(home / "out/ledger"))) == paid  # nobody was asked again

    (home / "few.csv").write_text("path,label\n" + "".join(f"{path},{truth(path)}\n" for path in examples), encoding="utf-8")
    replay = ["--llm", f"replay:{home / 'out/attributes.json'}", "--labelled", home / "few.csv"]
    assert label(home, *replay, out="few") == 0
    expected = rows(home / "few/predictions.csv")
    assert [row for row in after if row["path"] not in examples] == expected

    old = {row["path"]: row["label"] for row in before}
    same = sum(said[path] == old[path] for path in asked[:7])
    assert f"{same} of 7 answers ({100 * same / 7:.0f} %) are what was proposed; chosen to learn from" in told
    assert (
        f"1 images show none of the classes and are not learnt from: '{asked[6]}'" in told
        and f"could not be told and are not learnt from: '{asked[7]}'" in told
    )
    changed = [(old[row["path"]], row["label"]) for row in expected if old[row["path"]] != row["label"]]
    assert f"{len(changed)} of {40 - 6} labels of the other images changed" in told
    listed = re.findall(r"  (\d+): '(\w+)' to '(\w+)'", told)
    assert all(int(count) == changed.count((a, b)) for count, a, b in listed) and len(listed) == min(10, len(set(changed)))


def test_random_images_judge_and_are_not_learnt_from(home, capsys):
    assert label(home) == 0
    before = rows(home / "out/predictions.csv")
    assert command("review", home / "out", "--by", "random", "--images", 30, "--file") == 0
    asked = [row["path"] for row in rows(home / "out/round.csv")]
    fill(home / "out/round.csv", {path: truth(path) for path in asked})
    capsys.readouterr()
    assert command("review", home / "out", "--read", home / "out/round.csv") == 0
    told = capsys.readouterr().out
    after = rows(home / "out/predictions.csv")
    assert [(row["path"], row["label"], row["confidence"]) for row in after] == [
        (row["path"], row["label"], row["confidence"]) for row in before
    ]
    same = sum(row["label"] == truth(row["path"]) for row in before if row["path"] in asked)
    assert f"{same} of 30 answers ({100 * same / 30:.0f} %) are what was proposed; drawn at random" in told
    assert "0 of 40 labels of the other images changed" in told
    assert f"of 30 reviewed images {30 - same} have a wrong label" in (home / "out/report.html").read_text(encoding="utf-8")


def test_what_is_left_in_the_folder_holds_no_way_to_ask_an_endpoint(home):
    assert label(home, "--iterations", "1", "--sampling", "extra={api_token: hunter2}", "--llm", "none", "--price", "1", "2") == 0
    left = (home / "out" / kept.FACTS).read_text(encoding="utf-8")
    assert "hunter2" not in left and "sampling" not in left and "price" not in left
    assert kept.read(home / "out").options.images == str(home / "images")


def test_classes_that_changed_since_are_told(home, capsys):
    assert label(home, "--iterations", "1") == 0
    append(home / "out/reviews.csv", [Answer("00.png", "zero", "ann", "2026", "both")])
    (home / "classes.txt").write_text("\n".join(DIGITS[::-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"classes.txt: other classes than those of the run"):
        review.learn(review.Review(home / "out", "ann"))
    append(home / "out/reviews.csv", [Answer("01.png", "stork", "ann", "2026", "both")])
    with pytest.raises(ValueError, match=r"reviews.csv: '01.png' is 'stork', which is no class of this run"):
        review.learn(review.Review(home / "out", "ann"))


def test_the_command_knows_all_ways_of_choosing_and_when_nothing_is_left(tmp_path, capsys):
    ann = labelled(tmp_path, images=4)
    for by in STRATEGIES:
        assert command("review", tmp_path / "out", "--by", by, "--file") == 0
        ann.done()
        shutil.copy(tmp_path / "out/round.csv", tmp_path / f"{by}.csv")
    ann.say({path: NONE for path in ann.path_of}, dict.fromkeys(ann.path_of, "both"))
    capsys.readouterr()
    me = review.Review(tmp_path / "out", "me")
    me.done()
    assert command("review", tmp_path / "out") == 0 and "no image is left to ask about" in capsys.readouterr().out
    assert command("review", tmp_path / "out", "--images", 0) == 1
    assert command("review", tmp_path / "out", "--compare") == 1 and "there are answers of 'ann'" in capsys.readouterr().err
