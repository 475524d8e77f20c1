"""What a transformer computes on its way: the embedding, the scores of attention before their softmax, the hidden states of layers.

    with recording(tower) as seen:
        features = tower(images)
    seen.embedding, seen.scores[1], seen.hidden[1]

Towers run fused attention, which never holds the scores. So they are computed again from what each attention module is given:
A = q k^T / sqrt(d) with d the width of a head, as in equation 1 of TinyBERT (arXiv 1909.10351), before any mask is added. Hooks only
read: the tower's output is bit for bit what it is without them. What is recorded has gradients where the run has them.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import timm.layers
import torch
from open_clip.transformer import Attention, CustomResidualAttentionBlock, ResidualAttentionBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

READ = "open_clip's and timm's ViT, open_clip's text transformer and the BERT of transformers"


@dataclass
class Taps:
    """What one run of a tower computed. hidden: of layer m the state after it (B, T, d), layer 0 is the embedding; scores: of layer m >= 1
    q k^T / sqrt(d) (B, heads, T, T). T: tokens."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)

    @property
    def embedding(self) -> Tensor:
        """The input of the first block (B, T, d): tokens with their positions, after a norm where the tower has one there."""
        return self.hidden[0]


@contextmanager
def recording(tower: nn.Module, layers: Collection[int] | None = None) -> Iterator[Taps]:
    """Record the one run of a tower within the block.

    layers: from 1, whose scores and hidden states are kept; all by default. Raises ValueError for a tower whose blocks are not of a kind
    that is read here, and RuntimeError where it ran twice.
    """
    seen, handles = Taps(), []
    try:
        for number, block in enumerate(blocks(tower), start=1):
            wanted = layers is None or number in layers
            if number == 1:
                handles.append(block.register_forward_pre_hook(_keep_input(seen)))
            if wanted:
                handles.append(block.register_forward_hook(_keep_output(seen, number)))
                attention, scores = _kind(block)[:2]
                handles.append(attention.register_forward_pre_hook(_keep_scores(seen, number, scores), with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The blocks of a tower, the first first. Raises ValueError, with what the tower is, where there is none that is read here."""
    found = [module for module in tower.modules() if _is_block(module)]
    if not found:
        raise ValueError(f"{type(tower).__name__} has no transformer block that is read here: {READ}")
    for block in found:
        _kind(block)
    return found


def size(tower: nn.Module) -> tuple[int, int]:
    """Layers and width d of a tower. Raises ValueError as `blocks` does."""
    found = blocks(tower)
    return len(found), _kind(found[0]).width


class _Kind(NamedTuple):
    attention: nn.Module
    scores: Callable[[Any, Tensor], Tensor]  # from the attention module and its input (B, T, d)
    width: int


def _is_block(module: nn.Module) -> bool:
    """BERT's by name: transformers is optional, and slow to import."""
    return isinstance(module, (ResidualAttentionBlock, CustomResidualAttentionBlock, Block)) or type(module).__name__ == "BertLayer"


def _kind(block: Any) -> _Kind:
    attention = block.attention.self if type(block).__name__ == "BertLayer" else block.attn
    if hasattr(attention, "query") and hasattr(attention, "num_attention_heads"):
        return _Kind(attention, _of_bert, attention.query.in_features)
    if type(attention) is nn.MultiheadAttention and attention.batch_first and attention.in_proj_weight is not None:
        return _Kind(attention, _of_torch, attention.embed_dim)
    if type(attention) is Attention and not attention.scaled_cosine:
        return _Kind(attention, _of_open_clip, attention.in_proj_weight.shape[1])
    if type(attention) is timm.layers.Attention:
        return _Kind(attention, _of_timm, attention.qkv.in_features)
    raise ValueError(f"attention of kind {type(attention).__name__} in {type(block).__name__} is not read here: {READ}, without rotations")


def _of_torch(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    d, bias = attention.embed_dim, attention.in_proj_bias
    both = F.linear(x, attention.in_proj_weight[: 2 * d], None if bias is None else bias[: 2 * d])
    q, k = (_heads(part, attention.num_heads) for part in both.chunk(2, -1))
    return _scores(q, k)


def _of_open_clip(attention: Attention, x: Tensor) -> Tensor:
    """Where heads are normalised first, so they are here."""
    q, k, _ = (_heads(part, attention.num_heads) for part in F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1))
    return _scores(attention.ln_q(q), attention.ln_k(k))


def _of_timm(attention: Any, x: Tensor) -> Tensor:
    q, k, _ = (_heads(part, attention.num_heads) for part in attention.qkv(x).chunk(3, -1))
    return _scores(attention.q_norm(q), attention.k_norm(k))


def _of_bert(attention: Any, x: Tensor) -> Tensor:
    return _scores(*(_heads(part(x), attention.num_attention_heads) for part in (attention.query, attention.key)))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, heads, T, d / heads) of (B, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d), (B, heads, T, T)."""
    return q @ k.mT * q.shape[-1] ** -0.5


def _once(of: dict[int, Tensor], number: int, tensor: Tensor) -> None:
    if number in of:
        raise RuntimeError("the tower ran twice in one recording; open one for each run")
    of[number] = tensor


def _keep_input(seen: Taps) -> Callable:
    return lambda _, given: _once(seen.hidden, 0, given[0])


def _keep_output(seen: Taps, number: int) -> Callable:
    """BERT of older versions of transformers gives a tuple."""

    def keep(_: nn.Module, given: Any, output: Any) -> None:
        _once(seen.hidden, number, output[0] if isinstance(output, tuple) else output)

    return keep


def _keep_scores(seen: Taps, number: int, scores: Callable[[Any, Tensor], Tensor]) -> Callable:
    """The first input of an attention module, by whatever name it comes."""

    def keep(attention: nn.Module, given: tuple, named: dict[str, Any]) -> None:
        x = given[0] if given else next(value for value in named.values() if torch.is_tensor(value))
        _once(seen.scores, number, scores(attention, x))

    return keep
