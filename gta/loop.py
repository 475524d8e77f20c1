"""The method: generate, transduct, adapt, T times (GTA-CLIP, arXiv 2501.06031, section 3)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gta.adapt import Selection, adapt, confident_images, natural_augmentation
from gta.attributes import Bank
from gta.encoders import Encoder
from gta.generate import Pair, confused_pairs, distinguish, pair_threshold, pairs_to_ask, random_pairs
from gta.images import load_images
from gta.llm import ChatModel
from gta.prompts import Prompts
from gta.settings import Settings
from gta.transduct import Transduction, text_prior, transduct


@dataclass(frozen=True)
class Result:
    """assignments: (N, M) on the CPU, z of the last transduction; clip: (N, M), the prediction of the untouched encoder from
    the bank that it began with; attributes: the grown bank; encoder: the adapted one, which made z; history: one dict an
    iteration, with the labels (N,) of that iterate."""

    assignments: Tensor
    clip: Tensor
    attributes: Bank
    encoder: Encoder
    history: list[dict[str, Any]]


def run(
    encoder: Encoder,
    images: Sequence | Tensor,
    class_names: Sequence[str],
    settings: Settings | None = None,
    *,
    attributes: Bank | Path | str | None = None,
    llm: ChatModel | None = None,
    questions: Prompts | None = None,
    support: tuple[Sequence | Tensor, Tensor] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    progress: bool = True,
) -> Result:
    """Label all images from class names, by T iterations of the three steps.

    images: whatever `gta.images.load_images` reads, or its uint8 (N, 3, H, W). settings: by default the paper's.
    attributes: the bank to begin with, or its file, by default "a photo of a NAME."; llm: asked about confused pairs with
    `questions`, None leaves the bank as it is. A bank with a log of pairs is that of a whole run and is replayed: each
    iteration gets the texts that it got then, and nothing is asked. support: labelled images and their classes (S,), the
    few-shot setting. augment: from one uint8 image to another, by default that for photographs. `encoder` is not changed.
    The adaptation after the last transduction, which nothing would use, is left out.

    Raises ValueError for a bank of other classes, or one to replay beside an llm or under another memory; what llm raises.
    """
    settings = settings or Settings()
    bank, replayed = _begin(attributes, class_names, settings, llm)
    encoder = encoder.copy()
    shorten = cache(encoder.shorten)
    bank = bank.within(shorten)
    pixels, labels = _pixels(images, encoder), torch.empty(0, dtype=torch.long)
    if support is not None:
        shots, labels = _pixels(support[0], encoder), torch.as_tensor(support[1]).long()
        pixels = torch.cat([pixels, shots])
    augment = augment or natural_augmentation(encoder.image_size)

    clip: Tensor | None = None
    beta: int | None = None
    history: list[dict[str, Any]] = []
    for t in tqdm(range(settings.iterations), desc="GTA-CLIP", unit="iteration", mininterval=5, disable=not progress):
        start = time.perf_counter()
        space = _Space(encoder, encoder.encode_images(pixels), labels, settings)
        before = bank.at(t if replayed is None else t - 1)
        prior, result = space.infer(before)
        clip = prior if clip is None else clip

        asked: list[Pair] = []
        if replayed is not None:
            asked = [(a, b, count) for iteration, a, b, count in replayed if iteration == t]
        elif settings.generate and llm is not None:
            pairs = confused_pairs(result.assignments, settings.margin)
            if beta is None and pairs:
                beta = pair_threshold(pairs, settings.pair_share)
            asked = pairs_to_ask(pairs, beta or 0, bank)
            if settings.pairs == "random":
                asked = random_pairs(len(asked), bank, seed=settings.seed * 1000 + t)
            if asked:
                bank = distinguish(bank, asked, llm, t, questions).within(shorten)
        now = bank.at(t)
        if asked:
            _, result = space.infer(now)

        loss = None
        if settings.adapt and t < settings.iterations - 1:
            selection = with_support(confident_images(result.assignments, settings.confident), labels, len(result.assignments))
            loss = adapt(encoder, pixels, selection, now.texts, settings, augment, seed=settings.seed * 1000 + t)
        history.append(_summary(t, result, history, len(asked), now, loss, time.perf_counter() - start))
    assert clip is not None  # settings.iterations >= 1
    return Result(result.assignments.cpu(), clip.cpu(), bank, encoder, history)


def _begin(attributes: Bank | Path | str | None, class_names: Sequence[str], settings: Settings, llm: ChatModel | None):
    """The bank to begin with, and the log of pairs to replay, None where there is none or nothing is generated."""
    bank = Bank.load(attributes) if isinstance(attributes, (Path, str)) else attributes or Bank.from_template(class_names)
    if bank.class_names != tuple(class_names):
        raise ValueError("attributes: the bank is of other classes than class_names, or in another order")
    if not (bank.asked and settings.generate):
        return replace(bank, memory=settings.memory), None
    if llm is not None:
        raise ValueError("attributes: a bank with a log of pairs is replayed; pass it without an llm")
    if bank.memory != settings.memory:
        raise ValueError(f"attributes: the bank was grown with memory {bank.memory!r}; set settings.memory to it")
    return bank, bank.asked


@dataclass
class _Space:
    """The embeddings until the encoder next changes: all images (query, then support), and every distinct text once."""

    encoder: Encoder
    images: Tensor
    labels: Tensor
    settings: Settings
    texts: dict[str, Tensor] = field(default_factory=dict)

    def infer(self, bank: Bank) -> tuple[Tensor, Transduction]:
        """The text prior and the transduction of the query images."""
        new = sorted({text for of_class in bank.texts for text in of_class} - self.texts.keys())
        if new:
            self.texts.update(zip(new, self.encoder.encode_texts(new), strict=True))
        queries = len(self.images) - len(self.labels)
        support = (self.images[queries:], self.labels) if len(self.labels) else (None, None)
        prior = text_prior(
            self.images[:queries], [torch.stack([self.texts[t] for t in of_class]) for of_class in bank.texts], self.encoder.logit_scale
        )
        result = transduct(
            self.images[:queries],
            prior,
            support_features=support[0],
            support_labels=support[1],
            lam=self.settings.lam,
            gamma=self.settings.gamma,
            neighbors=self.settings.neighbors,
        )
        return prior, result


def with_support(selection: Selection, labels: Tensor, queries: int) -> Selection:
    """The selection and every support image, numbered after the query images, with its true class."""
    classes = F.one_hot(labels, selection.classes.shape[1]).bool()
    return Selection(torch.cat([selection.images, queries + torch.arange(len(labels))]), torch.cat([selection.classes, classes]))


def _pixels(images: Sequence | Tensor, encoder: Encoder) -> Tensor:
    return images if isinstance(images, Tensor) else load_images(images, encoder)


def _summary(t: int, result: Transduction, history: list[dict], asked: int, bank: Bank, loss: float | None, seconds: float) -> dict:
    labels = result.assignments.argmax(1).cpu()
    return {
        "iteration": t,
        "objective": result.objective[-1],
        "changed": float((labels != history[-1]["labels"]).float().mean()) if history else None,
        "confidence": float(result.assignments.amax(1).mean()),
        "asked": asked,
        "texts": sum(map(len, bank.texts)),
        "loss": loss,
        "seconds": seconds,
        "labels": labels,
    }
