"""From a folder to a reviewed and exported set, by the commands alone: the 960 query pictures of a world, with its families.

`benchmarks/stations.py` walks; the numbers stand in docs/label.md. Here is what must hold whatever they are. Its second folder, 3,000
pictures, is for the benchmark alone.
"""

from collections import Counter
from itertools import pairwise

import pytest

from gta.files import ROOT
from gta.label import labelled
from gta.label.answers import read
from gta.worlds.aviary import world

WORSE = 2.0  # percentage points that a round may cost: those who are not asked may lose what the answers gain


@pytest.fixture
def stations(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import stations

    return stations


def check(stations, folder):
    """Walk, and look at the folder after each station. Returns the rows."""
    rows, answers = [], {}
    for row in stations.walk(folder):
        rows.append(row)
        found = labelled.read(folder.out).rows
        assert Counter(line.path for line in found) == Counter(folder.truth.keys()), "nothing lost, nothing doubled"
        said = {line.path: line.label for line in found if line.reviewed}
        assert answers.items() <= said.items() and all(label == folder.truth[path] for path, label in said.items())
        assert sorted(answer.path for answer in read(folder.out / "reviews.csv")) == sorted(said)
        answers = said
    final = {line.path: line.label for line in found}
    for form, reader in stations.READERS.items():
        assert reader(folder.home / form) == final, form
    right = 100 * sum(folder.truth[path] == label for path, label in final.items()) / len(final)
    assert [row["accuracy"] for row in rows[2:]] == pytest.approx([right] * 7, abs=0.01)
    assert [row["answered"] for row in rows[:3]] == [0, stations.ROUND, 2 * stations.ROUND] and len(answers) == 2 * stations.ROUND
    assert all(row["read"] == len(final) for row in rows[3:])
    assert len(list((folder.out / "state/review").iterdir())) == 1
    return rows


@pytest.mark.slow
def test_every_station_of_a_world(stations, tmp_path):
    """Also what is worth a review: it makes labels no worse, and the name that is given at its rank is right more often than a species."""
    rows = check(stations, stations.queries(world(0), tmp_path))
    for before, after in pairwise(rows[:3]):
        assert after["accuracy"] >= before["accuracy"] - WORSE
    assert all(row["family"] >= row["accuracy"] and row["named_right"] > row["others"] for row in rows[:3])
    assert rows[2]["accuracy"] > rows[0]["accuracy"]
