"""The choice of settings for photographs: what is tried, and that it is encoded once."""

import nbformat
import pandas as pd

from gta.data import tasks
from gta.files import ROOT
from gta.workshop import choose_photographs as choose
from gta.workshop.choose import CELL, chosen
from small import counted

NOTEBOOK = ROOT / "notebooks/photographs.ipynb"


def test_every_cell_is_tried_on_images_that_are_encoded_once(glyphs, encoder, monkeypatch):
    """60 glyphs in place of a folder, whose template the small encoder could not read."""
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
    monkeypatch.setattr(choose, "RATES", (0, 1e-3))
    monkeypatch.setattr(choose, "ITERATIONS", 2)
    calls = counted(monkeypatch)
    frame = pd.DataFrame(choose.accuracies(encoder, "digits", 40, 0))
    tried = frame.groupby(["rate", "draw"]).iterations.apply(list).to_dict()
    assert tried == {(0, 0): [1, 2], (1e-3, 0): [1, 2], (1e-3, 1): [1, 2]}
    assert calls == [40, 40, 40], "once, and again only after each run has adapted"
    assert frame[frame.iterations == 1].accuracy.nunique() == 1, "nothing has adapted yet"
    assert frame[frame.rate == 0].accuracy.nunique() == 1 < frame[frame.iterations == 2].accuracy.nunique()


def test_the_notebook_has_the_cell_that_was_chosen():
    frame = pd.read_csv(choose.FILE)
    assert set(frame.rate) == set(choose.RATES) and set(frame.iterations) == set(range(1, choose.ITERATIONS + 1))
    cells = chosen(frame)
    rate, confident, iterations = cells[cells.rate > 0].iloc[0][CELL]
    given: dict = {}
    exec(next(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"), given)
    assert (given["rate"], given["confident"], given["iterations"]) == (rate, confident, iterations)
