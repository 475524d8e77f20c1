"""What only mimics the released code, through the ordinary hooks of the method: to show what each difference is worth.

Sources: `cvl-umass/GTA-CLIP` (zero-shot), `MaxZanella/transduction-for-vlms` (few-shot). Small inputs only: the graph is dense.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import LayerNorm, LayerNormFp32
from torch import Tensor, nn

from gta.affinity import nearest
from gta.encoders import Encoder
from gta.settings import Settings
from gta.transduct import GAMMAS, Transduction, transduct


def knn_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3, *, misaligned: bool = True) -> Tensor:
    """The released graph: negative cosines kept, the nearest image dropped from every row, from those of support too.

    misaligned: support rows first, although `transduct`, like the released solver, has query rows first.
    features: (N, d), support_features: (S, d), unit rows. Returns a sparse (N + S, N), for `affinity=`.
    """
    support = features[:0] if support_features is None else support_features
    rows = torch.cat([support, features] if misaligned else [features, support])
    best = (rows @ features.T).topk(neighbors + 1, dim=1)
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(neighbors)
    indices = torch.stack([row, best.indices[:, 1:].flatten()])
    return torch.sparse_coo_tensor(indices, best.values[:, 1:].flatten(), (len(rows), len(features)), check_invariants=False)


def transduct_aliased(features: Tensor, prior: Tensor, *, rounds: int = 10, inner: int = 5, **options) -> Transduction:
    """Transduction from another method's predictions as released: yhat and z are one tensor, so z is its own prior."""
    state = transduct(features, prior, rounds=0, inner=1, **options)
    for step in range(rounds + 1):
        for _ in range(inner - (step == 0)):
            state = transduct(features, state.assignments, start=state, rounds=0, inner=1, **options)
        if step < rounds:
            state = transduct(features, state.assignments, start=state, rounds=1, inner=0, **options)
    return state


def select_gamma(
    features: Tensor,
    prior: Tensor,
    support_features: Tensor,
    support_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    gammas: Sequence[float] = GAMMAS,
    **options,
) -> tuple[float, Transduction]:
    """As `gta.transduct.select_gamma`, but each gamma goes on from the state of the one before, and the last z is returned."""
    judge = nearest(val_features, features, 1)[1][:, 0]
    support = {"support_features": support_features, "support_labels": support_labels}
    states: list[Transduction] = []
    for gamma in gammas:
        states.append(transduct(features, prior, start=states[-1] if states else None, **(support | options | {"gamma": gamma})))
    right = [int((state.assignments[judge].argmax(1) == val_labels).sum()) for state in states]
    return gammas[right.index(max(right))], states[-1]


# Learnt by the released loop: what has no "proj" in its name, and these two.
PROJECTIONS = ("text_projection", "visual.proj")


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict]:
    """`released_subset`, for `groups=`: parameters with "proj" in their names are left out, so that attention and half of each
    MLP stay as they were; the logit scale learns."""
    named = dict(model.named_parameters())
    rest = [p for name, p in named.items() if "proj" not in name]
    return [{"params": [named[name] for name in PROJECTIONS], "lr": settings.lr_projection}, {"params": rest, "lr": settings.lr}]


def half(encoder: Encoder) -> Encoder:
    """`fp16`: a copy whose linear, convolution, attention and projection weights are float16, and with them their gradients
    and Adam's state; norms, embeddings and the logit scale stay float32."""
    mine = encoder.copy()
    convert_weights_to_lp(mine.model, torch.float16)
    for module in mine.model.modules():
        if isinstance(module, LayerNorm):
            module.__class__ = LayerNormFp32  # the same layer, which reads float16
    return replace(mine, weights_sha256=f"{encoder.weights_sha256} in float16")
