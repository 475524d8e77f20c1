"""A text student by TinyBERT: a sentence encoder, or the text tower of a CLIP encoder, with fewer layers.

What it learns from are texts alone, without labels: the teacher reads each of them too, and gives the layers and, between the classes of
a task, the soft labels softmax(tau f(x) . w_1 .. w_M). The rows w_j are the teacher's own features of the classes, so that a student can
stand in the teacher's place.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gta.distil.layers import fewer_layers
from gta.distil.taps import Taps, recording
from gta.distil.tinybert import ALL, INTERMEDIATE, Intermediate, Term, prediction_loss
from gta.encoders.encoder import Encoder, text_lengths
from gta.encoders.sentences import LONGEST, SentenceEncoder

Reader = TypeVar("Reader", SentenceEncoder, Encoder)
Teacher = SentenceEncoder | Encoder


@dataclass
class Reading:
    """What an encoder made of n texts. features: unit rows (n, d); taps: of its layers; tokens: bool (n, T), those of a text."""

    features: Tensor
    taps: Taps
    tokens: Tensor


def tower_of(encoder: Teacher) -> Any:
    """What holds the blocks that read texts."""
    if isinstance(encoder, SentenceEncoder):
        return encoder.model
    return encoder.model.text if hasattr(encoder.model, "text") else encoder.model.transformer


def shallow(encoder: Reader, layers: int) -> Reader:
    """The same encoder with the layers g(1), ..., g(M) of its text tower, weights of its own and the same tokenizer. It is how a student
    begins, and by itself the control "layers dropped". Raises ValueError as `gta.distil.layers.uniform` does."""
    if isinstance(encoder, SentenceEncoder):
        return replace(encoder, model=fewer_layers(encoder.model, layers))
    student = encoder.copy()
    if hasattr(student.model, "text"):
        student.model.text = fewer_layers(student.model.text, layers)
    else:
        student.model.transformer = fewer_layers(student.model.transformer, layers)
    return student


def read(encoder: Teacher, texts: Sequence[str], layers: Sequence[int] | None = None) -> Reading:
    """Features, layers and tokens of texts, differentiable. layers: those that are kept; all by default."""
    with recording(tower_of(encoder), layers) as seen:
        features = encoder.text_features(texts)
    if isinstance(encoder, SentenceEncoder):
        found = encoder.tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        return Reading(features, seen, found["attention_mask"].to(features.device).bool())
    padding = getattr(getattr(tower_of(encoder), "config", None), "pad_token_id", 0)
    lengths, places = text_lengths(encoder.tokens(texts), padding), torch.arange(seen.embedding.shape[1])
    return Reading(features, seen, (places < lengths[:, None]).to(features.device))


def is_causal(encoder: Teacher) -> bool:
    """Whether no token of a text sees a later one, as in CLIP's own tower."""
    if isinstance(encoder, SentenceEncoder):
        return False
    return getattr(getattr(encoder.model, "text", encoder.model), "attn_mask", None) is not None


class TextTinyBERT(nn.Module):
    """The objective of a text student.

    rows: (M, d), unit features of the classes, of the teacher; terms: as in `gta.distil.tinybert.TinyBERT`, where `INTERMEDIATE` needs no
    rows; t: temperature. Raises ValueError as `Intermediate` does.
    """

    def __init__(self, teacher: Teacher, student: Teacher, rows: Tensor, terms: Sequence[Term] = ALL, t: float = 1.0):
        super().__init__()
        self.student, self.terms, self.t = student.model, tuple(terms), t
        self.intermediate = Intermediate(tower_of(student), tower_of(teacher))
        self._teacher, self._student, self._rows = teacher, student, rows

    def forward(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The terms for a batch of texts, each a scalar."""
        of_layers = set(self.terms) & set(INTERMEDIATE)
        ours = read(self._student, texts, None if of_layers else ())
        with torch.no_grad():
            theirs = read(self._teacher, texts, self.intermediate.map if of_layers else ())
        found: dict[str, Tensor] = {}
        if of_layers:
            found = self.intermediate(ours.taps, theirs.taps, ours.tokens, is_causal(self._teacher))
        if "prediction" in self.terms:
            logits, soft = (self._teacher.logit_scale * of.features @ self._rows.T.to(of.features) for of in (ours, theirs))
            found["prediction"] = prediction_loss(logits, soft.softmax(1), self.t)
        return {term: found[term] for term in self.terms}


def train(objective: TextTinyBERT, texts: Sequence[str], *, steps: int, rate: float, seed: int, batch: int = 32) -> list[float]:
    """Minimise the sum of an objective's terms by AdamW, its rate falling to 0 in a line; the student changes in place.

    texts: in an order by `seed`, as often as the steps need. Returns the loss of each step. Raises ValueError without texts.
    """
    if not texts:
        raise ValueError("no text to learn from")
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, fused=True)  # word embeddings are most of a small student
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    chance, order, losses = random.Random(seed), list[str](), []
    for _ in range(steps):
        while len(order) < batch:
            order += chance.sample(list(texts), len(texts))
        part, order = order[:batch], order[batch:]
        loss = torch.stack(list(objective(part).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.item())
    return losses
