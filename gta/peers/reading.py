"""Encode texts [context vectors] [class name] with a frozen text encoder, with gradients for the context vectors.

One sequence: in a causal text encoder, the tokens before the name are encoded in the same way for all classes. So a shared context is
encoded once, and all names follow it in one sequence; a mask hides each name from the others. The features are the same, and the work is
that of 1 + L + (tokens of all names) tokens instead of C times the longest text. Class-specific contexts are encoded as separate texts.

Memory: the texts are encoded in chunks. A chunk keeps only its input for the backward pass and is computed again there. So the memory is
that of one chunk for any number of classes, and the time is about a third longer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gta.encoders.encoder import Encoder, text_forward, text_lengths

CHUNK = 64  # texts encoded at once


class Prompts:
    """Texts [context] [name] with `length` context vectors, and their features.

    encoder: its text encoder is not changed; ending: the text after a name; chunk: classes encoded at once. Raises ValueError if the
    texts are too long for the encoder, or if its text encoder has no token embedding.
    """

    def __init__(self, encoder: Encoder, class_names: Sequence[str], ending: str, length: int, chunk: int = CHUNK):
        self.model = encoder.copy().model.requires_grad_(False)
        self._encoder, self.length, self._chunk = encoder, length, chunk
        self.embedding = token_embedding(encoder, self.model)
        names = encoder.tokens([name + ending for name in class_names]).to(encoder.device)
        room, longest = names.shape[1], int(text_lengths(names).max()) + length
        if longest > room:
            raise ValueError(f"{length} context vectors and the longest class name take {longest} tokens, the encoder reads {room}")
        places = names.new_ones(len(names), length)  # placeholders: any token except padding and end
        self.tokens = torch.cat([names[:, :1], places, names[:, 1:]], 1)[:, :room]
        self._sequences = [Sequenced.of(self.model, part, length) for part in self.tokens.split(chunk)] if causal(self.model) else None

    def features(self, context: Tensor) -> Tensor:
        """Unit features (..., C, d) of C classes from context vectors: (..., C, L, w), or (..., 1, L, w) if all classes share them."""
        if context.shape[-3] == 1 and self._sequences:
            return self._after_one_context(context)
        context = context.expand(*context.shape[:-3], len(self.tokens), *context.shape[-2:])
        rows = context.flatten(0, -3)
        tokens = self.tokens.repeat(len(rows) // len(self.tokens), 1)
        parts = list(zip(tokens.split(self._chunk), rows.split(self._chunk), strict=True))
        return torch.cat(_in_parts(self._read_texts, parts, rows)).view(*context.shape[:-2], -1)

    def _after_one_context(self, context: Tensor) -> Tensor:
        """`features` for shared contexts (..., 1, L, w): one sequence for each context and chunk of classes."""
        assert self._sequences
        rows = context.flatten(0, -3)  # (R, L, w)
        at_once = rows.split(max(1, self._chunk // len(self.tokens)))
        done = _in_parts(self._read_sequence, [(sequence, some) for some in at_once for sequence in self._sequences], rows)
        per_row = [torch.cat(done[i : i + len(self._sequences)], 1) for i in range(0, len(done), len(self._sequences))]
        return torch.cat(per_row).view(*context.shape[:-3], len(self.tokens), -1)

    def _read_texts(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Unit features (n, d) of texts (n, room), each with its own context of (n, L, w), by the encoder's forward pass."""

        def insert(module: nn.Module, arguments: tuple, embedded: Tensor) -> Tensor:
            return torch.cat([embedded[:, :1], context.to(embedded), embedded[:, 1 + self.length :]], 1)

        hook = self.embedding.register_forward_hook(insert)
        try:
            with self._encoder._autocast():
                return _unit(text_forward(self.model, tokens))
        finally:
            hook.remove()

    def _read_sequence(self, sequence: "Sequenced", context: Tensor) -> Tensor:
        """Unit features (R, c, d) of the c names of a sequence, for each of R contexts (R, L, w)."""
        model, count = self.model, len(context)
        before = torch.cat([sequence.start.expand(count, 1, -1), context.to(sequence.start)], 1)
        x = torch.cat([before + model.positional_embedding[: 1 + self.length], sequence.names.expand(count, -1, -1)], 1)
        with self._encoder._autocast():
            x = model.transformer(x.to(model.transformer.get_cast_dtype()), attn_mask=sequence.mask)
            x = model.ln_final(x[:, sequence.ends])
            projection = model.text_projection
            return _unit(projection(x) if isinstance(projection, nn.Linear) else x @ projection)


@dataclass(frozen=True)
class Sequenced:
    """c names in one sequence of P + n tokens. The first P = 1 + L are the start token and the shared context.

    start: (1, w), embedding of the start token; names: (n, w), token plus position embeddings of all names, one name after the other;
    mask: (P + n, P + n), 0 if the token of the row attends to that of the column, else -inf; ends: (c,), the end token of each name.
    """

    start: Tensor
    names: Tensor
    mask: Tensor
    ends: Tensor

    @classmethod
    def of(cls, model: open_clip.CLIP, tokens: Tensor, length: int) -> "Sequenced":
        """The sequence of texts (c, room) that have `length` placeholders after the start token."""
        before, device = 1 + length, tokens.device
        counts = tokens.argmax(1) + 1 - before  # the end token is the largest one
        owner = torch.arange(len(tokens), device=device).repeat_interleave(counts)
        place = torch.arange(len(owner), device=device) - (counts.cumsum(0) - counts)[owner] + before  # position in its text
        sees = torch.ones(before + len(owner), before + len(owner), dtype=torch.bool, device=device).tril()
        sees[before:, before:] &= owner[:, None] == owner
        embedding = model.token_embedding.weight
        mask = torch.zeros(sees.shape, dtype=embedding.dtype, device=device).masked_fill(~sees, -math.inf)
        names = embedding[tokens[owner, place]] + model.positional_embedding[place]
        return cls(embedding[tokens[0, :1]], names, mask, before + counts.cumsum(0) - 1)


def causal(model: nn.Module) -> bool:
    """Whether the text encoder is CLIP's: each token attends only to earlier tokens, and the feature is that of the end token."""
    return (
        isinstance(model, open_clip.CLIP)
        and model.attn_mask is not None
        and model.text_pool_type == "argmax"
        and model.text_projection is not None
    )


def token_embedding(encoder: Encoder, model: nn.Module | None = None) -> nn.Embedding:
    """The token embedding of an encoder, or of a copy of its model. Raises ValueError if it has none of open_clip's kind."""
    model = encoder.model if model is None else model
    embedding = getattr(getattr(model, "text", model), "token_embedding", None)
    if not isinstance(embedding, nn.Embedding):
        raise ValueError(f"{encoder.name}: its text encoder has no token embedding of open_clip's kind; take another encoder")
    return embedding


def _in_parts(read: Callable[..., Tensor], parts: Sequence[tuple], context: Tensor) -> list[Tensor]:
    """Call `read` for each part. If there are several parts and a gradient is needed, they are computed again in the backward pass."""
    again = len(parts) > 1 and torch.is_grad_enabled() and context.requires_grad  # for one part this would save no memory
    return [checkpoint(read, *part, use_reentrant=False) if again else read(*part) for part in parts]


def _unit(rows: Tensor) -> Tensor:
    """Rows of unit norm, at least in float32."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
