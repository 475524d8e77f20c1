"""Golden files: what the authors' own programs gave (`tests/data/golden/README.md`)."""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
GOLDEN = HERE / "data" / "golden"
MORE_GOLDEN = HERE.parent.parent / "shared" / "golden"  # further files, where a clone has them


def golden(name):
    """A file's arrays as tensors, those of text as they are."""
    file = next(folder / f"{name}.npz" for folder in (GOLDEN, MORE_GOLDEN) if (folder / f"{name}.npz").exists())
    with np.load(file) as arrays:
        return {key: of if (of := np.array(arrays[key])).dtype.kind == "U" else torch.from_numpy(of) for key in arrays}


def sparse(rows, columns, values, size):
    return torch.sparse_coo_tensor(torch.stack([rows, columns]).long(), values, size, check_invariants=True)


def close(actual, expected, **tolerance):
    torch.testing.assert_close(actual.double(), expected.double(), **({"rtol": 0, "atol": 2e-5} | tolerance))
