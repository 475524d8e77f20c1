"""Code that only mimics the released code, through the ordinary hooks of the method, to show what each difference is worth.

Sources: `cvl-umass/GTA-CLIP` (zero-shot), `MaxZanella/transduction-for-vlms` (few-shot). Each switch is one hook of `gta.loop.run` or
`gta.transduct`: a graph for `affinity=`, parameters for `groups=`, pairs for `select_pairs=`, an encoder, a language model.
`gta/studies/ablation_released.py` shows them one at a time and all together.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import LayerNorm, LayerNormFp32
from torch import Tensor, nn

from gta import adapt
from gta.attributes import Bank
from gta.checkpoints import Checkpoints, Group
from gta.encoders.encoder import Encoder
from gta.generate import Pair, pairs_to_ask
from gta.llm.chat import ChatModel, Question, Reply
from gta.settings import Settings
from gta.transduct import GAMMAS, Transduction, nearest_query_judge, transduct

BLOCK = 1024  # rows of the graph that are compared with all images at once


def knn_graph(
    features: Tensor,
    support_features: Tensor | None = None,
    neighbors: int = 3,
    *,
    misaligned: bool = True,
    nearest_dropped: bool = True,
    negative: bool = True,
) -> Tensor:
    """The released graph. Each row leaves out the first of its nearest images, which a query image takes for itself.

    misaligned: support rows first, although `transduct` and the released solver expect query rows first; nearest_dropped: support
    rows lose their true nearest image; negative: negative cosines are kept. features: (N, d), support_features: (S, d), unit
    rows. Returns a sparse (N + S, N), for `affinity=`.
    """
    support = features[:0] if support_features is None else support_features
    rows = torch.cat([support, features] if misaligned else [features, support])
    best = [(block @ features.T).topk(neighbors + 1, dim=1) for block in rows.split(BLOCK)]
    of_support = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    of_support[slice(0, len(support)) if misaligned else slice(len(features), None)] = True
    first = (~of_support | nearest_dropped).long()[:, None] + torch.arange(neighbors, device=rows.device)
    values, columns = (torch.cat(part).gather(1, first) for part in zip(*best, strict=True))
    row = torch.arange(len(rows), device=rows.device)[:, None].expand_as(columns)
    values = values if negative else values.clamp_min(0)
    size = (len(rows), len(features))
    return torch.sparse_coo_tensor(torch.stack([row, columns]).flatten(1), values.flatten(), size, check_invariants=False)


def misaligned_graph(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that support rows stand where `transduct` looks for query rows."""
    return knn_graph(features, support_features, neighbors, nearest_dropped=False, negative=False)


def graph_without_nearest(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that a labelled image does not pull the query image that is nearest to it."""
    return knn_graph(features, support_features, neighbors, misaligned=False, negative=False)


def graph_with_negatives(features: Tensor, support_features: Tensor | None = None, neighbors: int = 3) -> Tensor:
    """Of the released graph, only that a neighbour with a negative cosine pushes its image away."""
    return knn_graph(features, support_features, neighbors, misaligned=False, nearest_dropped=False)


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
    judge = nearest_query_judge(features, val_features, val_labels, prior.shape[1])
    support = {"support_features": support_features, "support_labels": support_labels}
    states: list[Transduction] = []
    for gamma in gammas:
        states.append(transduct(features, prior, start=states[-1] if states else None, **(support | options | {"gamma": gamma})))
    right = [judge(state.assignments) for state in states]
    return gammas[right.index(max(right))], states[-1]


# The released loop learns what has no "proj" in its name, and these two.
PROJECTIONS = ("text_projection", "visual.proj")


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict]:
    """`released_subset` and `learning_scale` together, for `groups=`: what the released loop adapts."""
    projections, rest = released_subset(model, settings)
    return [projections, {**rest, "params": [*rest["params"], model.logit_scale]}]


def released_subset(model: nn.Module, settings: Settings) -> list[dict]:
    """Parameters with "proj" in their names are left out, but for `PROJECTIONS`, so that attention and half of each MLP stay as
    they were."""
    named = dict(model.named_parameters())
    rest = [p for name, p in named.items() if "proj" not in name and name != "logit_scale"]
    return [{"params": [named[name] for name in PROJECTIONS], "lr": settings.lr_projection}, {"params": rest, "lr": settings.lr}]


def learning_scale(model: nn.Module, settings: Settings) -> list[dict]:
    """All that learns here, and the logit scale with the same weight decay; use it with `solver_keeps_scale`."""
    projections, rest = adapt.parameter_groups(model, settings)
    return [projections, {**rest, "params": [*rest["params"], model.logit_scale]}]


@dataclass
class _Released(Encoder):
    """kept: the scale of the text prior, None for the model's own."""

    kept: float | None = None

    @classmethod
    def of(cls, encoder: Encoder, **changes: Any) -> "_Released":
        return cls(**{**{field.name: getattr(encoder, field.name) for field in fields(encoder)}, **changes})

    @property
    def logit_scale(self) -> float:
        return self.model.logit_scale.exp().item() if self.kept is None else self.kept

    def encode_images(self, pixels: Tensor, batch_size: int | None = None, progress: bool = False) -> Tensor:
        """On a CPU, where float16 takes eight times as long, float16 weights are read in float32: only activations are finer."""
        if self.device.type == "cpu" and self._dtype == torch.float16:
            exact = replace(self, model=copy.deepcopy(self.model).float())
            return exact.encode_images(pixels, batch_size, progress)
        return super().encode_images(pixels, batch_size, progress)


def solver_keeps_scale(encoder: Encoder) -> Encoder:
    """The same encoder, but its text prior keeps the present scale, 100 for OpenAI's weights, whatever adapt learns."""
    return _Released.of(encoder, kept=encoder.logit_scale)


def half(encoder: Encoder) -> Encoder:
    """`fp16`: a copy whose linear, convolution, attention and projection weights are float16, and with them their gradients
    and Adam's state; norms, embeddings and the logit scale stay float32."""
    mine = encoder.copy(torch.float32)
    convert_weights_to_lp(mine.model, torch.float16)
    for module in mine.model.modules():
        if isinstance(module, LayerNorm):
            module.__class__ = LayerNormFp32  # the same layer, which reads float16
    return _Released.of(mine, weights_sha256=f"{encoder.weights_sha256} in float16")


def pairs_above(pairs: Sequence[Pair], beta: int, bank: Bank) -> list[Pair]:
    """The pair threshold as released, for `select_pairs=`: where no new pair is above beta, none is asked about.

    The released program also fails where the first iteration has no confused pair; here it then asks nothing.
    """
    return [pair for pair in pairs_to_ask(pairs, beta, bank) if pair[2] > beta]


class AnswersByPair:
    """A language model whose answers about a pair are stored by the names of its classes alone.

    stored: {(name, against): reply} of earlier runs on the dataset, whatever their seed, encoder and question; what is not
    among them is asked and added. Questions about one class are always asked.
    """

    def __init__(self, llm: ChatModel, stored: dict[tuple[str, str | None], Reply]):
        self._llm, self._stored, self.model = llm, stored, f"{llm.model}, answers by pair"

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        new = [question for question in questions if question.against is None or _pair(question) not in self._stored]
        answered = dict(zip(new, self._llm.ask(new), strict=True))
        self._stored |= {_pair(question): reply for question, reply in answered.items() if question.against is not None}
        return [answered[question] if question in answered else self._stored[_pair(question)] for question in questions]


def _pair(question: Question) -> tuple[str, str | None]:
    return question.name, question.against


BULLET = "• "
EMPTY = 308 / 2216  # share of the shipped answers; they are lists of another form


def bulleted(answer: str) -> tuple[str, ...]:
    """The phrases of an answer as the released program reads it: lines that begin with its bullet."""
    return tuple(line.removeprefix(BULLET).strip() for line in answer.splitlines() if line.startswith(BULLET))


class BulletsAlone:
    """A language model whose answers keep only lines with the bullet; an answer without any counts as done, and empty.

    Models that are asked for JSON, as here, write no bullets. So each answer is first written out as the released prompts ask for
    it, as lines: with the bullet, or with a dash as often as the shipped answers are empty, by a hash of seed and classes.
    """

    def __init__(self, llm: ChatModel, seed: int, empty: float = EMPTY):
        self._llm, self._seed, self._empty, self.model = llm, seed, empty, f"{llm.model}, bullets alone"

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        answered = zip(questions, self._llm.ask(questions), strict=True)
        return [replace(reply, phrases=bulleted(self._written(question, reply))) for question, reply in answered]

    def _written(self, question: Question, reply: Reply) -> str:
        drawn = hashlib.sha256(f"{self._seed} {question.about}".encode()).digest()
        mark = "- " if int.from_bytes(drawn[:8]) < self._empty * 2**64 else BULLET
        return "\n".join(mark + phrase for phrase in reply.phrases)


class SolverCalls(Checkpoints):
    """Checkpoints that keep z of every solver call, two an iteration. The released program picks its headline number from these, by
    test labels. `solver_calls` reads them."""

    def save(self, facts: Mapping, groups: Mapping[str, Group], device: torch.device, milestone: bool = False) -> None:
        super().save(facts, groups, device, list(facts["done"])[-1:] in (["transduct"], ["transduct again"]))

    def within(self, name: str) -> "SolverCalls":
        return SolverCalls(self.folder / name, trail=True)


def solver_calls(checkpoints: Checkpoints | None) -> dict[tuple[int, int], Tensor]:
    """{(iteration, 0 or 1): z (N, M)} of a run with `SolverCalls`. Raises ValueError for a run without."""
    if not isinstance(checkpoints, SolverCalls):
        raise ValueError("solver calls are kept by a run with checkpoints=SolverCalls(FOLDER)")
    calls = {}
    for checkpoint in checkpoints.trail():
        call = int("transduct again" in checkpoint.facts["done"])
        calls[checkpoint.facts["iteration"], call] = checkpoint.groups["z"]["z"]
    return calls
