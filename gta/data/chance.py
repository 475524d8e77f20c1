"""Chance that is the same on every platform and with every library version: hashes of a name, a seed and a number."""

import hashlib
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, softmax


@lru_cache(maxsize=64)  # a part is drawn again whenever it is scored
def order(what: str, seed: int, count: int) -> np.ndarray:
    """A permutation of `count` numbers, int (count,), read-only. what: names the draw; draws of different names are independent."""
    drawn = np.array(sorted(range(count), key=lambda i: _hash(what, seed, i)), dtype=int)
    drawn.flags.writeable = False
    return drawn


def uniform(what: str, seed: int, count: int) -> np.ndarray:
    """Numbers between 0 and 1, both excluded, float64 (count,): the middles of 2^52 equal steps."""
    return np.array([((int.from_bytes(_hash(what, seed, i)[:8], "big") >> 12) + 0.5) / 2**52 for i in range(count)])


def dirichlet(what: str, seed: int, gamma: float, count: int) -> np.ndarray:
    """Shares with a symmetric Dirichlet distribution of concentration gamma > 0, float64 (count,), sum 1.

    They are gamma variates divided by their sum. If X has shape gamma + 1 and U is uniform, X U^(1 / gamma) has shape gamma; its logarithm
    is exact where the variate itself is 0 in float64, as most are if gamma is 0.001.
    """
    x = gammaincinv(gamma + 1, uniform(f"{what} x", seed, count))
    return softmax(np.log(x) + np.log(uniform(f"{what} u", seed, count)) / gamma)


def _hash(what: str, seed: int, number: int) -> bytes:
    return hashlib.sha256(f"{what} {seed} {number}".encode()).digest()
