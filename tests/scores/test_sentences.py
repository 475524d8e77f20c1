"""Numbers in sentences are those of the tables."""

import numpy as np
import pytest

from gta.scores import sentences, tables
from gta.scores.rows import write_run
from small import row

MARKED = (
    "It reaches 1.0<!-- t: GTA-CLIP | accuracy -->, 2.0<!-- t: GTA-CLIP > CLIP | difference --> points above "
    "(9<!-- t: GTA-CLIP > CLIP | interval -->)."
)


@pytest.fixture
def folder(tmp_path):
    """Three encoders, 10 images: CLIP is right for 4; GTA-CLIP for 6 and 8 in two draws of each encoder, so that its mean gain is 30."""
    for seed in range(3):
        rows, right = [], {}
        for method, draw, count in (("CLIP", 0, 4), ("GTA-CLIP", 0, 6 + seed % 2), ("GTA-CLIP", 1, 8 - seed % 2)):
            run_id = f"{method}{draw}{seed}"
            measured = {"n_correct": count, "n_total": 10, "accuracy": 10.0 * count, "gain": 10.0 * (count - 4)}
            rows.append(row(run_id=run_id, method=method, seed=seed, draw=draw, **measured))
            right[f"{run_id}.correct"] = np.arange(10) < count
        write_run(tmp_path / str(seed), rows, right)
    tables.combine([tmp_path / str(seed) for seed in range(3)], tmp_path / "t.csv")
    return tmp_path


def test_marked_numbers_are_filled_from_the_tables(folder):
    text = sentences.filled(MARKED, folder)
    assert text.startswith("It reaches 70.0<!--") and " 30.0<!-- t: GTA-CLIP > CLIP | difference" in text
    assert "([+30.0,&nbsp;+30.0]<!--" in text
    assert sentences.filled(text, folder) == text


def test_a_comparison_is_read_in_either_direction(folder):
    assert sentences.filled("0<!-- t: CLIP > GTA-CLIP | gain -->", folder).startswith("-30.0<!--")


def test_a_number_that_is_stale_is_found(folder):
    assert sentences.filled(MARKED, folder) != MARKED


def test_a_cell_that_is_not_there_is_named(folder):
    with pytest.raises(KeyError, match="GTA-KLIP"):
        sentences.filled("1<!-- t: GTA-KLIP | accuracy -->", folder)


def test_numbers_without_a_cell_are_told():
    text = "Seen: 3.5 points, 4.5<!-- t: CLIP | accuracy -->, arXiv 2501.06031, torch 2.15.0\n| 7.5 | a table |\n"
    assert sentences.unmarked(text) == ["3.5"]
