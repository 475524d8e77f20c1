"""Near duplicates and unfit images: scores and flags by hand, copies that are found, and the files of a run."""

import csv
import io
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from gta.label.issues import NEAR, listing, near_duplicates, summary, unfit
from gta.worlds.glyphs import DIGITS
from labelling import label, rows
from small import counted


def at(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_scores_are_distances_in_parts_of_the_median():
    """Nearest distances 1 - cos of 1, 1, 20, 20, 30 degrees: their median is that of 20."""
    issue = near_duplicates(at(0, 1, 50, 70, 100), ["a", "b", "c", "d", "e"])
    small, middle = 1 - at(0, 1)[1, 0], 1 - at(0, 20)[1, 0]
    assert issue.scores.tolist() == pytest.approx([float(small / middle)] * 2 + [1, 1, 1])
    assert issue.flags.tolist() == [True, True, False, False, False] and list(issue.about) == ["b", "a", "", "", ""]


@given(st.integers(2, 40), st.integers(0, 5))
def test_the_nearest_is_that_of_a_naive_loop(count, seed):
    x = F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)
    x[-1] = x[0]
    issue = near_duplicates(x, [str(i) for i in range(count)])
    distances = [min(1 - float(x[i] @ x[j]) for j in range(count) if j != i) for i in range(count)]
    middle = sorted(distances)[(count - 1) // 2]
    for i, distance in enumerate(distances):
        expected = min(1.0, distance / middle) if middle > 1e-6 else float(distance > 1e-6)
        assert float(issue.scores[i]) == pytest.approx(expected, abs=1e-5) and bool(issue.flags[i]) == (float(issue.scores[i]) < NEAR)
    assert issue.flags[0] and issue.flags[-1] and issue.about[-1] != str(count - 1)


def test_copies_of_all_images_are_all_flagged_and_one_image_alone_is_none():
    assert near_duplicates(at(0, 0, 90, 90), list("abcd")).flags.all()
    assert not near_duplicates(at(0), ["a"]).flags.any()


def test_unfit_images_are_those_above_the_border():
    """Unfitness 0.1 to 0.5: the median is 0.3, the median deviation 0.1, so the border lies at 0.3 + 3 * 0.14826."""
    values = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    border = 0.3 + 3 * 0.14826
    issue = unfit(values)
    assert issue.scores.tolist() == pytest.approx([1, 1, 1, 1 - 0.05 / (border - 0.3), 1 - 0.1 / (border - 0.3)]) and not issue.flags.any()
    far = unfit(torch.cat([values, values, torch.tensor([border + 0.2])]))
    assert far.flags.tolist() == [False] * 10 + [True] and 0 <= float(far.scores[-1]) < 0.5
    given = unfit(values, 0.4)
    assert given.flags.tolist() == [False] * 4 + [True] and given.scores.tolist() == pytest.approx([1, 1, 1, 0.5, 0])
    assert unfit(values, 0.2).scores.tolist() == [1, 1, 0, 0, 0] and unfit(torch.tensor([0.3, 0.3])).flags.tolist() == [False] * 2


def test_the_listing_and_the_summary_have_cleanlabs_columns():
    issues = [near_duplicates(at(0, 1, 50, 70, 100), ["a", 'b"', "c", "d", "e"]), unfit(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.9]))]
    found = list(csv.DictReader(io.StringIO(listing(["a", 'b"', "c", "d", "e"], issues))))
    assert list(found[0]) == [
        "path",
        "is_near_duplicate_issue",
        "near_duplicate_score",
        "near_duplicate_of",
        "is_unfit_issue",
        "unfit_score",
    ]
    assert (found[0]["is_near_duplicate_issue"], found[0]["near_duplicate_of"], found[4]["is_unfit_issue"]) == ("True", 'b"', "True")
    told = list(csv.DictReader(io.StringIO(summary(issues))))
    assert [(row["issue_type"], row["num_issues"]) for row in told] == [("near_duplicate", "2"), ("unfit", "1")]
    assert float(told[1]["score"]) == pytest.approx(0.8)


def test_a_run_flags_a_copy_and_a_copy_costs_no_encoding_of_the_others(tmp_path, glyphs, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(glyphs[0][:30]):
        Image.fromarray(image).save(tmp_path / f"images/{i:02d}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    assert label(tmp_path) == 0
    calls = counted(monkeypatch)
    shutil.copy(tmp_path / "images/07.png", tmp_path / "images/copy.png")
    Image.fromarray(glyphs[0][40]).save(tmp_path / "images/new.png")
    capsys.readouterr()
    assert label(tmp_path) == 0
    assert sum(calls) <= 2, "an image that is new, and a copy that has features already"
    told = {row["path"]: row for row in rows(tmp_path / "out/issues.csv")}
    assert len(told) == 32 and told["copy.png"]["near_duplicate_of"] == "07.png" and told["07.png"]["near_duplicate_of"] == "copy.png"
    assert float(told["copy.png"]["near_duplicate_score"]) == 0
    flagged = sum(row["is_near_duplicate_issue"] == "True" for row in told.values())
    assert f"to look at: {flagged} near duplicate" in capsys.readouterr().out
    assert (tmp_path / "out/issue_summary.csv").read_text(encoding="utf-8").startswith("issue_type,score,num_issues\nnear_duplicate,")
