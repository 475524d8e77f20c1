"""The graph against a loop over pairs: exact, ties by index, never itself, whatever the block."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from gta.affinity import knn_graph, largest, nearest


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(2, 6), st.integers(1, 5), st.integers(0, 4), st.integers(0, 10**6))
def test_is_the_graph_of_a_loop_over_pairs(n, d, neighbors, shots, seed):
    x, _, support, _ = reference.world(n, 3, d, seed, shots=shots)
    graph = knn_graph(x, support if shots else None, neighbors).to_dense()
    torch.testing.assert_close(graph, reference.knn_graph(x, support, neighbors))
    assert not graph.diagonal().any()


@settings(max_examples=30, deadline=None)
@given(which=st.lists(st.integers(0, 2), min_size=1, max_size=40), seed=st.integers(0, 10**6), memory_mb=st.sampled_from([0, 256]))
def test_of_duplicates_the_lower_index_is_the_neighbour(which, seed, memory_mb):
    """More copies than candidates, of directions whose cosines no float32 product gets exactly."""
    x = reference.world(3, 3, 7, seed, torch.float32)[0][which]
    graph = knn_graph(x, x[:1], memory_mb=memory_mb).to_dense()
    torch.testing.assert_close(graph.double(), reference.knn_graph(x, x[:1]))


def test_near_ties_are_decided_in_float64():
    """A tight cluster: gaps between neighbours are near the rounding of a float32 product, which alone gets some wrong."""
    generator = torch.Generator().manual_seed(1)
    x = 1 + 0.01 * torch.randn(150, 64, generator=generator)
    x = x / x.norm(dim=1, keepdim=True)
    graph = knn_graph(x).to_dense()
    assert torch.equal(graph > 0, reference.knn_graph(x) > 0)


def test_negative_cosines_are_no_edges():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    assert knn_graph(x).to_dense().tolist() == [[0, 0, pytest.approx(0.6)], [0, 0, 0], [pytest.approx(0.6), 0, 0]]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 10**6))
def test_block_size_changes_nothing(n, seed):
    x = reference.world(n, 4, 16, seed, torch.float32)[0]
    assert torch.equal(knn_graph(x, memory_mb=0).to_dense(), knn_graph(x).to_dense())  # 0: one row at a time


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = reference.world(30, 4, 16)[0].to(dtype)
    assert torch.equal(knn_graph(x).to_dense(), knn_graph(x.float()).to_dense())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=12), st.integers(1, 6))
def test_largest_takes_the_lower_index_of_equals(rows, k):
    chosen = largest(torch.tensor(rows, dtype=torch.float32), k)
    expected = [sorted(range(6), key=lambda i: (-row[i], i))[:k] for row in rows]
    assert chosen.sort(1).values.tolist() == [sorted(row) for row in expected]


def test_nearest_are_in_order_and_may_be_itself():
    x = reference.world(20, 3, 5)[0]
    cosine, index = nearest(x, x, 4)
    assert index[:, 0].tolist() == list(range(20))
    assert (cosine.diff(dim=1) <= 0).all()
    torch.testing.assert_close(cosine, (x @ x.T).gather(1, index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * torch.tensor([[1.0], [2.0], [1.0]]), r"features\[1\] has norm 2.*divide each row"),
        (lambda x: x * torch.tensor([[1.0], [1.0], [0.0]]), r"features\[2\] has norm 0.*leave that row out"),
        (lambda x: x.index_fill(0, torch.tensor([0]), torch.nan), r"features\[0\] has norm nan.*leave that row out"),
        (lambda x: x.index_fill(0, torch.tensor([0]), torch.inf), r"features\[0\] has norm inf"),
        (lambda x: x[:0], "features must be a float matrix with at least one row"),
        (lambda x: x.long(), "features must be a float matrix"),
    ],
)
def test_refuses_rows_that_are_not_unit(change, message):
    with pytest.raises(ValueError, match=message):
        knn_graph(change(torch.eye(3)))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="support_features has 2 columns and features has 3"):
        knn_graph(torch.eye(3), torch.eye(2))
    with pytest.raises(ValueError, match="neighbors is 0"):
        knn_graph(torch.eye(3), neighbors=0)
