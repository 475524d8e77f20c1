"""The cells that a choice of settings tries, and the accuracy of each."""

from types import SimpleNamespace

import torch

from gta.workshop.choose import tried


def test_each_cell_is_run_with_two_draws_and_once_without_adapt():
    """A run labels t + draw of four images rightly in its iteration t, counted from 0."""
    given = []

    def run(changes):
        given.append(changes)
        steps = [torch.arange(4) < t + changes["draw"] for t in range(changes["iterations"])]
        return SimpleNamespace(history=[{"labels": labels} for labels in steps])

    cells = list(tried((0, 1e-3), (8, 32), 2, 7, run, lambda labels: labels))
    assert [(cell["rate"], cell["confident"], cell["draw"], cell["iterations"], cell["accuracy"]) for cell in cells] == [
        *((0, 8, 0, 1, 0.0), (0, 8, 0, 2, 25.0)),
        *((1e-3, count, draw, t, 25.0 * (t - 1 + draw)) for count in (8, 32) for draw in (0, 1) for t in (1, 2)),
    ]
    assert {cell["seed"] for cell in cells} == {7} == {changes["seed"] for changes in given}
    assert [changes["adapt"] for changes in given] == [False, True, True, True, True] and "lr" not in given[0]
    assert all(changes["lr"] == changes["lr_projection"] == 1e-3 for changes in given[1:])
