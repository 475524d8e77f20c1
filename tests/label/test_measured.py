"""The tables of ranks, of abstention and of reviews in docs/label.md are the measured ones, cell by cell."""

import re

import pandas as pd

from gta.files import ROOT
from gta.scores.statistics import t_interval

TEXT = (ROOT / "docs/label.md").read_text(encoding="utf-8")
BENCHMARKS = ROOT / "results/benchmarks"


def lines(command):
    """The cells of the first table after a command."""
    table = TEXT.partition(f"`python benchmarks/{command}`")[2].partition("\n| ---")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def test_the_numbers_of_ranks():
    means = pd.read_csv(BENCHMARKS / "ranks.csv").groupby("rule").mean(numeric_only=True)
    told = lines("ranks.py")
    assert len(told) == 5
    for name, *cells in told:
        row = means.loc[name.removesuffix(", always"), ["answered", "right", "species", "species_right"]]
        assert cells == ["" if value != value else f"{value:.1f}" for value in row]


def test_the_numbers_of_abstention():
    frame = pd.read_csv(BENCHMARKS / "abstention.csv").set_index(["setting", "measure", "reviewed", "risk_wanted"])
    told = lines("abstention.py")
    assert len(told) == 6
    for name, *cells in told:
        reviewed, risk = map(int, re.findall(r"\d+", name))
        values = [
            frame.loc[(setting, measure, reviewed, risk / 100), column]
            for setting, measure, column in (
                *(("digits, llm none", "tested", column) for column in ("kept", "accepts", "coverage")),
                ("digits, llm none", "naive", "kept"),
                *(("aviary, llm fieldguide", "tested", column) for column in ("kept", "accepts")),
                ("aviary, llm fieldguide", "naive", "kept"),
            )
        ]
        assert cells == [f"{value:.1f}" for value in values]


def test_the_numbers_of_reviews():
    frame = pd.read_csv(BENCHMARKS / "review.csv")
    by = frame.set_index(["setting", "by", "answered", "seed"]).sort_index()
    told = lines("review.py")
    assert len(told) == 8
    for name, *cells, over in told:
        world, how = name.split(", ")
        setting = {"digits": "digits, llm none", "aviary": "aviary, llm fieldguide"}[world]
        assert cells == [f"{by.accuracy[setting, how, answered].mean():.1f}" for answered in (0, 10, 20, 40, 80)]
        more = by.accuracy[setting, how, 80] - by.accuracy[setting, "random", 80]
        low, high = t_interval(list(more))
        assert over == ("" if how == "random" else f"{more.mean():.1f} ({low:.1f} to {high:.1f})")
    alone = [f"{by.alone[setting, 'both', 80].mean():.1f}" for setting in ("digits, llm none", "aviary, llm fieldguide")]
    assert f"in the place of labels give {alone[0]} and {alone[1]}." in TEXT
