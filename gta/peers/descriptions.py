"""LabelDesc: a classifier from texts that describe the classes, without any labelled input (EMNLP 2023, arXiv 2305.02239).

The paper fine-tunes a language model on terms, definitions and sentences about each label. Here a text encoder reads the descriptions:

    L = 1/M sum_j mean_{k of j} -log softmax_j(tau f(d_jk) . w_1 .. w_M)

w_j is the row of class j. It begins at the feature of the class's label words, as the paper's verbalisers do. Either the rows are trained
(`train_head`; also stage 1 of LaFTer, arXiv 2305.18287), or the text tower, whose features of the label words are the rows (`train_tower`).

An encoder's images and texts lie apart: gap = mean image - mean text (arXiv 2203.02053). What was trained on texts is taken to images
in one of three ways: as it is; after each modality's mean is subtracted (arXiv 2401.08567), which needs unlabelled images and so is
transductive; or after training with Gaussian noise on the text features (arXiv 2211.00575). docs/label-descriptions.md says what differs
from the papers.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.encoders.image_encoder import weights_hash
from gta.peers.texts import clip_logits, ensemble

Correction = Literal["none", "means", "noise"]
Kind = Literal["sentences", "terms", "both", "templates", "one sentence"]
# Rate and passes of Adam on the rows, by correction; these, CORRECTION and KIND are chosen on other worlds
# (`python -m gta.workshop.choose_descriptions images`).
TRAINING: dict[Correction, tuple[float, int]] = {"none": (1e-2, 10), "means": (1e-2, 10), "noise": (1e-4, 300)}
CORRECTION: Correction = "means"
TOWER_RATE, TOWER_PASSES = 1e-4, 10  # of Adam on the upper half of the text tower; chosen there too
KIND: Kind = "sentences"
NOISE = 0.016  # variance of each coordinate of the noise: CapDec's
BATCH = 256  # texts a step; the paper takes one


class TextEncoder(Protocol):
    """What is trained on descriptions: `gta.encoders.encoder.Encoder`, or `gta.encoders.sentences.SentenceEncoder`."""

    model: Any

    @property
    def logit_scale(self) -> float: ...
    def copy(self) -> Any: ...
    def threads(self) -> AbstractContextManager: ...
    def text_features(self, texts: Sequence[str]) -> Tensor: ...
    def encode_texts(self, texts: Sequence[str]) -> Tensor: ...


Reader = TypeVar("Reader", bound=TextEncoder)


def described(bank: Bank, kind: Kind = KIND, templates: Sequence[str] = ()) -> list[list[str]]:
    """The descriptions of each class. terms: its name and each attribute alone; templates: the control, its name in `templates`."""
    sentences = bank.without_templates().texts
    terms = [list(dict.fromkeys([name, *bank.phrases(j)])) for j, name in enumerate(bank.class_names)]
    if kind == "both":
        return [[*a, *b] for a, b in zip(sentences, terms, strict=True)]
    if kind == "one sentence":
        return [of_class[:1] for of_class in sentences]
    return {"sentences": sentences, "terms": terms, "templates": ensemble(bank.class_names, templates)}[kind]


def shuffled(bank: Bank, seed: int) -> Bank:
    """A control: each class has its own name, and the attributes of another class."""
    other = Bank.from_template(bank.class_names, bank.template, bank.sentence)
    for j, of in enumerate(deranged(len(bank.class_names), seed)):
        other = other.add(j, bank.phrases(of), source="imported", origin="shuffled")
    return other


def deranged(count: int, seed: int) -> list[int]:
    """For each class another one, each once: a random cycle through all."""
    order = random.Random(seed).sample(range(count), count)
    to = dict(zip(order, order[1:] + order[:1], strict=True))
    return [to[j] for j in range(count)]


def random_rows(like: Tensor, seed: int) -> Tensor:
    """The paper's control RANDOM: label words without a meaning. Random unit rows (M, d)."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1).to(like)


def mean_of_classes(texts: Tensor, labels: Tensor) -> Tensor:
    """The mean text feature (d,) in which every class counts the same. texts: (n, d); labels: (n,), every class at least once."""
    return (shares(labels)[:, None] * texts).mean(0)


def gap(images: Tensor, texts: Tensor, labels: Tensor) -> Tensor:
    """The modality gap (d,): the mean image minus the mean text (arXiv 2203.02053). images: (N, d); texts: (n, d); labels: (n,)."""
    return images.mean(0) - mean_of_classes(texts, labels)


def centred(rows: Tensor, mean: Tensor) -> Tensor:
    """Unit rows (n, d) after a mean (d,) is subtracted."""
    return F.normalize(rows - mean, dim=1)


def shares(labels: Tensor) -> Tensor:
    """Weights (n,) with mean 1, float64, under which every class counts the same, however many texts it has."""
    counts = torch.bincount(labels)
    return (len(labels) / (int((counts > 0).sum()) * counts[labels])).double()


def train_head(
    texts: Tensor,
    labels: Tensor,
    start: Tensor,
    scale: float,
    *,
    rate: float,
    passes: int,
    variance: float = 0.0,
    seed: int = 0,
    batch: int = BATCH,
) -> Tensor:
    """The rows (M, d) after Adam on L. 0 passes leave `start`.

    texts: features (n, d) of the descriptions, labels: their classes (n,); start: rows (M, d) of the label words; scale: tau; variance: of
    the noise that each step adds to each coordinate, before rows are set to unit norm.
    """
    rows = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=rate)
    chance = torch.Generator().manual_seed(seed)
    for part in _batches(len(labels), passes, batch, chance, labels.device):
        x = texts[part]
        if variance:
            drawn = torch.randn(x.shape, generator=chance, dtype=torch.float64)
            x = F.normalize(x + (variance**0.5 * drawn).to(x), dim=1)
        optimizer.zero_grad()
        _loss(scale * x @ rows.T, labels[part], shares(labels)[part]).backward()
        optimizer.step()
    return rows.detach()


def train_tower(
    encoder: Reader,
    of_classes: Sequence[Sequence[str]],
    words: Sequence[str],
    *,
    rate: float = TOWER_RATE,
    passes: int = TOWER_PASSES,
    seed: int = 0,
    batch: int = BATCH,
) -> Reader:
    """A copy of the encoder whose text tower was trained by L; w_j are its own features of the label words. Images stay as they were.

    of_classes: descriptions of each class; words: the label words in a template, one text a class. The lower half of the blocks stays, as
    in the paper; the logit scale stays too.
    """
    tuned = encoder.copy()
    texts, labels = flat(of_classes)
    optimizer = torch.optim.Adam(upper_half(tuned.model), lr=rate)
    chance = torch.Generator().manual_seed(seed)
    with tuned.threads():
        for part in _batches(len(labels), passes, batch, chance, labels.device):
            x, rows = tuned.text_features([texts[i] for i in part.tolist()]), tuned.text_features(words)
            tuned.model.zero_grad()
            _loss(tuned.logit_scale * x @ rows.T, labels[part].to(x.device), shares(labels)[part]).backward()
            optimizer.step()
    tuned.model.zero_grad()
    return replace(tuned, weights_sha256=weights_hash(tuned.model))


def flat(of_classes: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """All texts, and the class of each, (n,)."""
    counts = torch.tensor([len(texts) for texts in of_classes])
    return [text for texts in of_classes for text in texts], torch.repeat_interleave(torch.arange(len(counts)), counts)


def upper_half(model: nn.Module) -> list[nn.Parameter]:
    """What trains of a text tower: all but images, the logit scale and the lower half of its blocks."""
    named = [(name, p) for name, p in model.named_parameters() if not name.startswith(("visual.", "logit_"))]
    block = {name: int(found[1]) for name, _ in named if (found := re.search(r"(?:resblocks|layers?|blocks)\.(\d+)\.", name))}
    half = (max(block.values(), default=-1) + 1) / 2
    return [p for name, p in named if block.get(name, half) >= half]


def label_desc(
    encoder: TextEncoder,
    inputs: Tensor,
    of_classes: Sequence[Sequence[str]],
    start: Tensor,
    *,
    correction: Correction = CORRECTION,
    rate: float | None = None,
    passes: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Logits (N, M) of unit features (N, d), of images or of texts, by a head that was trained on descriptions.

    of_classes: descriptions of each class; start: rows (M, d) of the label words; correction: of the gap. `means` takes the mean of all
    inputs, so an input's answer depends on the others. rate, passes: None takes those of `TRAINING`.
    """
    texts, labels = flat(of_classes)
    features = encoder.encode_texts(texts)
    labels = labels.to(features.device)
    if correction == "means":
        middle = mean_of_classes(features, labels).to(features)
        features, start, inputs = centred(features, middle), centred(start, middle), centred(inputs, inputs.mean(0))
    variance = NOISE if correction == "noise" else 0.0
    chosen = TRAINING[correction]
    how: dict[str, Any] = {"rate": chosen[0] if rate is None else rate, "passes": chosen[1] if passes is None else passes}
    rows = train_head(features, labels, start, encoder.logit_scale, variance=variance, seed=seed, **how)
    return clip_logits(inputs, rows, encoder.logit_scale)


def text_first(encoder: Encoder, bank: Bank, seed: int = 0, described_by: Bank | None = None) -> Encoder:
    """A stage before the loop, for `text_first` of `gta.loop.run`: the text tower is trained on the first attributes of the bank.

    described_by: another bank to train on, for controls.
    """
    words = Bank.from_template(bank.class_names, bank.template, bank.sentence).within(encoder.shorten)
    told = (described_by or bank).at(-1).within(encoder.shorten)
    return train_tower(encoder, described(told, "sentences"), [of_class[0] for of_class in words.texts], seed=seed)


def _batches(count: int, passes: int, batch: int, chance: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    for _ in range(passes):
        yield from torch.randperm(count, generator=chance).to(device).split(batch)


def _loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return (weights.to(logits) * F.cross_entropy(logits, labels, reduction="none")).mean()
