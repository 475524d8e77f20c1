"""The graph of many images: exact where it is asked to be or images are few, else with the recall that it tells."""

import re
import sys

import pytest
import torch
from torch.nn.functional import normalize

from gta.affinity import knn_graph
from gta.transduct import neighbors
from gta.transduct.neighbors import large_graph, large_nearest


def clustered(n=3000, classes=60, d=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(classes, d, generator=generator), dim=1)
    labels = torch.randint(classes, (n,), generator=generator)
    return normalize(centres[labels] + 0.8 * torch.randn(n, d, generator=generator) / d**0.5, dim=1)


def edges(graph):
    return set(map(tuple, graph.coalesce().indices().T.tolist()))


def test_few_images_and_a_wish_are_searched_exactly(monkeypatch, capsys):
    x = clustered(200)
    monkeypatch.setitem(sys.modules, "faiss", None)  # so that importing it fails
    monkeypatch.setattr(neighbors, "find_spec", lambda name: None)
    torch.testing.assert_close(large_graph(x).to_dense(), knn_graph(x).to_dense(), atol=0, rtol=0)
    monkeypatch.setattr(neighbors, "EXACT", 100)
    torch.testing.assert_close(large_graph(x, exact=True).to_dense(), knn_graph(x).to_dense(), atol=0, rtol=0)
    with pytest.raises(ModuleNotFoundError, match=r"neighbours of 200 images.*gta-clip\[scale\]"):
        large_graph(x, exact=False)
    assert not capsys.readouterr().err
    torch.testing.assert_close(large_graph(x).to_dense(), knn_graph(x).to_dense(), atol=0, rtol=0)
    assert "200 images: searched exactly, for faiss is missing; pip install" in capsys.readouterr().err


def test_the_recall_that_is_told_is_the_recall(capsys):
    """Against the exact graph: query and support rows, the cosines, and no image its own neighbour."""
    x, support = clustered(), clustered(40, seed=1)
    graph, exact = large_graph(x, support, 3, exact=False), knn_graph(x, support, 3)
    assert graph.shape == (3040, 3000)
    found, true = edges(graph), edges(exact)
    recall = len(found & true) / len(true)
    told = float(re.search(r"recall ([\d.]+) on 500 images", capsys.readouterr().err)[1])
    assert told >= 0.95 and abs(recall - told) < 0.02
    assert not any(i == j for i, j in found if i < 3000) and len(found) == 3 * 3040
    of_edge = dict(zip(map(tuple, graph.coalesce().indices().T.tolist()), graph.coalesce().values().tolist(), strict=True))
    both = torch.cat([x, support])
    assert all(abs(of_edge[i, j] - float(both[i] @ x[j])) < 1e-5 for i, j in list(found)[:200])


def test_more_cells_are_compared_until_the_recall_is_high_enough(capsys, monkeypatch):
    x = normalize(torch.randn(2000, 8, generator=torch.Generator().manual_seed(0)), dim=1)  # no clusters: cells cut neighbours apart
    large_graph(x, exact=False)
    cells, recall = re.search(r"(\d+) of \d+ cells compared, recall ([\d.]+)", capsys.readouterr().err).groups()
    assert int(cells) > 1 and float(recall) >= 0.95
    monkeypatch.setattr(neighbors, "RECALL", 0.0)
    large_graph(x, exact=False)
    assert "neighbours: 1 of" in capsys.readouterr().err


def test_copies_are_neighbours_and_an_image_is_not_its_own():
    x = clustered(500)
    x[10:20] = x[9]  # more copies than neighbours, so an image may not be among its own nearest
    graph = large_graph(x, exact=False).to_dense()
    assert not graph.diag().any() and ((graph > 0).sum(1) == 3).all()
    assert (graph[9:20, 9:20] > 0).sum(1).tolist() == [3] * 11


def test_the_nearest_of_many_images_are_nearly_those_of_all(monkeypatch):
    x = clustered()
    exact = large_nearest(x, 2)
    monkeypatch.setattr(neighbors, "EXACT", 100)
    cosines, places = large_nearest(x, 2)
    assert (places == exact[1]).float().mean() > 0.94
    torch.testing.assert_close(cosines[places == exact[1]], exact[0][places == exact[1]])
