"""`reviews.csv`: which answer counts, what a tear or a full disk leaves, writers at once, and how far reviewers agree."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from gta.label.answers import COLUMNS, NONE, TAKEN_BACK, UNSURE, Answer, append, compare, of_reviewers, read, standing
from small import full_beyond


def said(path, label, reviewer="ann", chosen_by="both"):
    return Answer(path, label, reviewer, "2026-01-02T03:04:05+00:00", chosen_by)


HOSTILE = [said(path, label) for path, label in [('a"b,c\nd.png', "x,y"), ("=1+1", '"'), ("\u202e<b>.png", "'"), ("é\\xff.png", NONE)]]


def test_what_is_written_is_read_again(tmp_path):
    append(tmp_path / "r.csv", HOSTILE[:1])
    append(tmp_path / "r.csv", HOSTILE[1:])
    assert read(tmp_path / "r.csv") == HOSTILE
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").count(",".join(COLUMNS)) == 1
    assert read(tmp_path / "none.csv") == []


def test_the_last_answer_counts_and_one_that_is_taken_back_does_not():
    rows = [said("a", "crane"), said("b", "crane"), said("a", "heron", "bob"), said("a", "ibis"), said("b", TAKEN_BACK), said("c", UNSURE)]
    assert {path: answer.label for path, answer in standing(rows).items()} == {"a": "ibis", "c": UNSURE}
    back = [*rows, said("a", TAKEN_BACK)]
    assert standing(back)["a"].label == "heron"  # of the other, who still says so
    assert list(of_reviewers([*back, said("a", "stork")])) == [("a", "bob"), ("c", "ann"), ("a", "ann")]


@pytest.mark.parametrize("last", [said("last.png", "crane"), said('la"s,t\n.png', "two\u00e9 words")])
def test_a_line_that_was_torn_anywhere_costs_itself_alone(tmp_path, last):
    file = tmp_path / "r.csv"
    append(file, HOSTILE)
    begin = file.stat().st_size
    append(file, [last])
    whole = file.read_bytes()
    more = [said("next.png", "ibis"), said("b\n.png", "heron")]
    for end in range(begin, len(whole)):
        file.write_bytes(whole[:end])
        found = read(file)
        assert found == HOSTILE or (found[:-1] == HOSTILE and found[-1].label == last.label and end > len(whole) - len("both\n"))
        append(file, more[:1])
        append(file, more[1:])
        assert read(file) == [*found, *more]


def test_a_torn_head_is_written_again(tmp_path):
    (tmp_path / "r.csv").write_bytes(b"path,lab")
    append(tmp_path / "r.csv", HOSTILE)
    assert read(tmp_path / "r.csv") == HOSTILE


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "r.csv"
    append(file, HOSTILE)
    before = file.read_bytes()
    for room in (0, 10):
        with full_beyond(len(before) + room), pytest.raises(OSError):
            append(file, [said("a" * 100, "crane")])
        assert file.read_bytes() == before
    append(file, [said("a", "crane")])
    assert len(read(file)) == len(HOSTILE) + 1


def test_two_that_write_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: append(tmp_path / "r.csv", [said(f"{i}", "crane")]), range(60)))
    assert sorted(int(answer.path) for answer in read(tmp_path / "r.csv")) == list(range(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\n", "its first line is not path,label,reviewer"),
        (",".join(COLUMNS) + "\na,b,c,d,e\na,b\nc,d,e,f,g\n", "line 3: 2 columns where 5"),
    ],
)
def test_what_somebody_changed_by_hand_is_told_by_its_line(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "r.csv")


def test_kappa_is_cohens(tmp_path):
    """By hand: 20 images, 15 agreed; shares of yes 12 / 20 and 11 / 20, so chance is 0.6 * 0.55 + 0.4 * 0.45 = 0.51."""
    pairs = [("yes", "yes")] * 9 + [("no", "no")] * 6 + [("yes", "no")] * 3 + [("no", "yes")] * 2
    rows = [said(f"{i}\u202e", label, who) for i, pair in enumerate(pairs) for who, label in zip(("ann", "bob"), pair, strict=True)]
    rows += [said("alone", "yes"), said("0\u202e", "no", "cy"), said("0\u202e", TAKEN_BACK, "cy")]
    told = compare(rows)
    assert told.splitlines()[0] == f"'ann' and 'bob' agree about 15 of 20 images (75 %), kappa {(0.75 - 0.51) / 0.49:.2f}"
    listed = re.findall(r"  '(\d+)\\u202e': '(\w+)', '(\w+)'", told)
    assert listed == [(str(i), *pair) for i, pair in enumerate(pairs) if pair[0] != pair[1]]


def test_agreement_about_one_label_alone_has_no_kappa():
    rows = [said(path, "yes", who) for path in "ab" for who in ("ann", "bob")]
    assert "agree about 2 of 2 images (100 %), kappa is not defined" in compare(rows)
    with pytest.raises(ValueError, match=r"no image was answered by two reviewers .* 'ann', 'bob'.*--again"):
        compare([said("a", "yes"), said("b", "yes", "bob")])
