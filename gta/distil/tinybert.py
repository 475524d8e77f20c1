"""TinyBERT (Jiao et al., Findings of EMNLP 2020, arXiv 1909.10351): a small transformer learns from the layers of a large one.

With n = g(m) the layer of the teacher that layer m of the student learns from (`gta.distil.layers.uniform`), E embeddings, A scores of
attention before their softmax, H hidden states, z logits, and learnt matrices W_e and W_h, each one for all layers:

    embedding    MSE(E_S W_e, E_T)                                       eq. 9
    attention    mean over m and heads of MSE(A_S, A_T)                  eq. 7
    hidden       mean over m of MSE(H_S W_h, H_T)                        eq. 8
    prediction   CE(softmax(z_T / t), softmax(z_S / t)), t = 1           eq. 10

The paper learns the first three first, then the prediction. Some things are ours. Terms of layers are means over layers where the paper
sums: a weight means the same at any depth. The entropy of the teacher's labels is taken off the prediction, so that a student that is its
teacher has loss 0; no gradient changes. Where the numbers of heads differ, the mean over heads of A is compared, one matrix with one. And
means run over tokens and pairs of tokens that exist: no padding, and no pair that a causal mask hides.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gta.distil.layers import uniform
from gta.distil.objectives import divergence
from gta.distil.students import Student
from gta.distil.taps import Taps, recording, size
from gta.distil.teachers import Teacher

Term = Literal["embedding", "attention", "hidden", "prediction"]
INTERMEDIATE: tuple[Term, ...] = ("embedding", "attention", "hidden")
PREDICTION: tuple[Term, ...] = ("prediction",)
ALL = (*INTERMEDIATE, *PREDICTION)


def states_loss(student: Tensor, teacher: Tensor, to_teacher: Tensor, tokens: Tensor | None = None) -> Tensor:
    """MSE(H_S W, H_T), equations 8 and 9: embeddings or hidden states, (B, T, d') and (B, T, d); to_teacher: W (d', d).

    tokens: bool (B, T), those that count; all by default. Raises ValueError where the towers see different tokens.
    """
    _same_tokens(student, teacher, student.shape[1], teacher.shape[1])
    squares = (student @ to_teacher - teacher).square().mean(2)
    return squares.mean() if tokens is None else squares[tokens].mean()


def attention_loss(student: Tensor, teacher: Tensor, pairs: Tensor | None = None) -> Tensor:
    """The mean over heads of MSE(A_S, A_T), equation 7: scores before the softmax, (B, h', T, T) and (B, h, T, T).

    pairs: bool (B, T, T), those that count; all by default. Raises ValueError where the towers see different tokens.
    """
    _same_tokens(student, teacher, student.shape[2], teacher.shape[2])
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    squares = (student - teacher).square().mean(1)
    return squares.mean() if pairs is None else squares[pairs].mean()


def prediction_loss(logits: Tensor, soft: Tensor, t: float = 1.0) -> Tensor:
    """Equation 10 less the entropy of the teacher's labels: Hinton's divergence without its T^2, which the paper has not either.

    logits: z_S (B, M); soft: softmax(z_T), rows (B, M) that sum to 1; t: the temperature of both.
    """
    return divergence(logits, soft, t) / t**2


class Intermediate(nn.Module):
    """The terms of layers, with W_e and W_h. The matrices begin as the identity between equal widths, else with orthogonal rows.

    student, teacher: towers of the kinds that `gta.distil.taps` reads; they are looked at, not kept. Raises ValueError for others, and for
    a student that is deeper than its teacher.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        (depth, width), (of_depth, to_width) = size(student), size(teacher)
        self.map = uniform(depth, of_depth)
        of_student = next(student.parameters())
        self.embedding, self.hidden = (nn.Parameter(_start(width, to_width).to(of_student)) for _ in range(2))

    def forward(self, student: Taps, teacher: Taps, tokens: Tensor | None = None, causal: bool = False) -> dict[str, Tensor]:
        """Each term of `INTERMEDIATE`. tokens: bool (B, T), those that count; causal: whether no token sees a later one."""
        pairs = _pairs(student.embedding, tokens, causal)
        like = student.embedding
        layers = list(enumerate(self.map, start=1))
        scores = [attention_loss(student.scores[m], teacher.scores[n].to(like), pairs) for m, n in layers]
        hidden = [states_loss(student.hidden[m], teacher.hidden[n].to(like), self.hidden, tokens) for m, n in layers]
        return {
            "embedding": states_loss(student.embedding, teacher.embedding.to(like), self.embedding, tokens),
            "attention": torch.stack(scores).mean(),
            "hidden": torch.stack(hidden).mean(),
        }


class TinyBERT(nn.Module):
    """The objective of an image student.

    teacher: its image tower is a transformer; student: likewise; terms: those that `forward` gives, so that a stage or a control is a
    choice of them (`INTERMEDIATE` alone is the general stage, which needs no labels); t: temperature. Raises ValueError, naming the tower,
    where one is no transformer that `gta.distil.taps` reads.
    """

    def __init__(self, teacher: Teacher, student: Student, terms: Sequence[Term] = ALL, t: float = 1.0):
        super().__init__()
        self.student, self.terms, self.t = student, tuple(terms), t
        self.intermediate = Intermediate(student.tower, teacher.encoder.model.visual)
        self._encoder = teacher.encoder  # no module: the trainer does not see its weights

    def at(self, share: float) -> None:
        """The paper's order at a share of the training, from 0 to 1: the layers first, from half of it on the prediction."""
        self.terms = INTERMEDIATE if share < 0.5 else PREDICTION

    def forward(self, images: Tensor, soft: Tensor) -> dict[str, Tensor]:
        """The terms, each a scalar. images: the student's input (B, 3, H, W), normalised as it wants; soft: (B, M), rows that sum to 1.

        Raises ValueError where the towers cut images into different tokens.
        """
        found: dict[str, Tensor] = {}
        if set(self.terms) & set(INTERMEDIATE):
            with recording(self.student.tower) as ours:
                logits = self.student(images)
            found = self.intermediate(ours, self._of_teacher(images))
        else:
            logits = self.student(images)
        if "prediction" in self.terms:
            found["prediction"] = prediction_loss(logits, soft, self.t)
        return {term: found[term] for term in self.terms}

    @torch.no_grad()
    def _of_teacher(self, images: Tensor) -> Taps:
        """What the teacher computes of the same images, in its own size, normalisation and dtype."""
        tower = self._encoder.model.visual
        with recording(tower, self.intermediate.map) as seen:
            tower(self.student.seen_by(self._encoder, images).to(next(tower.parameters()).dtype))
        return seen


def _start(width: int, to_width: int) -> Tensor:
    if width == to_width:
        return torch.eye(width)
    return nn.init.orthogonal_(torch.empty(width, to_width))


def _pairs(embedding: Tensor, tokens: Tensor | None, causal: bool) -> Tensor | None:
    """Pairs of tokens (B, T, T) that count, query before key; None for all."""
    if tokens is None and not causal:
        return None
    shape = embedding.shape[:2]
    real = torch.ones(shape, dtype=torch.bool, device=embedding.device) if tokens is None else tokens
    pairs = real[:, :, None] & real[:, None, :]
    return pairs.tril() if causal else pairs


def _same_tokens(student: Tensor, teacher: Tensor, ours: int, theirs: int) -> None:
    """Nothing is interpolated: between other patches, scores of attention are of other pairs."""
    if ours != theirs or len(student) != len(teacher):
        mend = "take a student with the teacher's patches (image size / patch size, and as many class tokens), or another objective"
        raise ValueError(f"the student sees {ours} tokens of {len(student)} inputs, the teacher {theirs} of {len(teacher)}: {mend}")
