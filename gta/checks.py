"""Checks of what a caller gives the solver: each error names the argument, the row and the mend."""

import torch
from torch import Tensor


def unit_rows(name: str, rows: Tensor, like: Tensor | None = None) -> Tensor:
    """`rows` in float32 or better, or in the dtype and on the device of `like`. Raises ValueError where they are not unit."""
    if rows.ndim != 2 or len(rows) == 0 or not rows.is_floating_point():
        raise ValueError(f"{name} must be a float matrix with at least one row, not {tuple(rows.shape)} {rows.dtype}")
    if like is not None and rows.shape[1] != like.shape[1]:
        raise ValueError(f"{name} has {rows.shape[1]} columns and features has {like.shape[1]}; both must come from one encoder")
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32)) if like is None else rows.to(like)
    norm = torch.linalg.vector_norm(rows, dim=1)
    wrong = (~((norm - 1).abs() < 0.02)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        length = float(norm[row])
        mend = "divide each row by its norm" if 0 < length < torch.inf else "leave that row out, or encode it anew"
        raise ValueError(f"{name}[{row}] has norm {length:.4g}; rows must be finite and of unit norm: {mend}")
    return rows


def distributions(prior: Tensor, x: Tensor) -> Tensor:
    """`prior` (N, M) in the dtype and on the device of x (N, d). Raises ValueError unless each row is a probability distribution."""
    if prior.ndim != 2 or len(prior) != len(x) or prior.shape[1] == 0:
        raise ValueError(f"prior has shape {tuple(prior.shape)}, expected ({len(x)}, classes): one row for each row of features")
    prior = prior.to(x)
    wrong = (~((prior.amin(1) >= 0) & ((prior.sum(1) - 1).abs() < 0.02))).nonzero()
    if len(wrong):
        mend = "entries must be at least 0 and sum to 1: take the softmax of logits, or divide each row by its sum"
        raise ValueError(f"prior[{int(wrong[0])}] is not a probability distribution; {mend}")
    return prior


def class_numbers(name: str, labels: Tensor, size: int, classes: int) -> Tensor:
    """`labels` as int64 (size,). Raises ValueError unless each is in 0..classes-1."""
    labels = torch.as_tensor(labels)
    if labels.shape != (size,) or labels.is_floating_point():
        raise ValueError(f"{name} must be {size} integers, one for each row of features, not {tuple(labels.shape)} {labels.dtype}")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"{name}[{row}] is {int(labels[row])}, outside 0..{classes - 1}; labels number the columns of prior")
    return labels.long()


def not_negative(**options: float) -> None:
    """Raise ValueError for an option that is below 0 or not finite."""
    for name, value in options.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; it must be finite and at least 0")
