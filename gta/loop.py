"""The method: generate, transduct, adapt, T times (GTA-CLIP, arXiv 2501.06031, section 3)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from gta.adapt import Selection, adapt, confident_images, natural_augmentation
from gta.attributes import Bank
from gta.encoders import Encoder
from gta.generate import confused_pairs, distinguish, pair_threshold, pairs_to_ask, random_pairs
from gta.images import load_images
from gta.llm import LanguageModel
from gta.settings import Settings
from gta.transduct import Transduction, text_prior, transduct


@dataclass(frozen=True)
class Result:
    """assignments: float (N, M), z of the last transduction; clip: (N, M), the prediction of the untouched encoder from
    the bank it began with; attributes: the grown bank; encoder: the adapted one, which made z; history: one dict an
    iteration."""

    assignments: Tensor
    clip: Tensor
    attributes: Bank
    encoder: Encoder
    history: list[dict]


def run(
    encoder: Encoder,
    images: Sequence | Tensor,
    class_names: Sequence[str],
    settings: Settings = Settings(),
    *,
    attributes: Bank | None = None,
    llm: LanguageModel | None = None,
    support: tuple[Sequence | Tensor, Tensor] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    progress: bool = True,
) -> Result:
    """Label all images from class names, by T iterations of the three steps.

    images: whatever `gta.images.load_images` reads, or its uint8 (N, 3, H, W). attributes: the bank to begin with, by
    default "a photo of a NAME."; llm: asked about confused pairs, None leaves the bank as it is. support: labelled images
    and their classes (S,), the few-shot setting. augment: from one uint8 image to another, by default that for photographs.
    `encoder` is not changed. The adaptation after the last transduction, which nothing would use, is left out.
    """
    bank = attributes or Bank.from_template(class_names)
    if bank.class_names != tuple(class_names):
        raise ValueError("attributes: the bank is of other classes than class_names, or in another order")
    encoder = encoder.copy()
    pixels = images if isinstance(images, Tensor) else load_images(images, encoder)
    shots, shot_labels = (pixels[:0], torch.empty(0, dtype=torch.long)) if support is None else _support(support, encoder)
    augment = augment or natural_augmentation(pixels.shape[-1])

    clip, beta, history = None, None, []
    for t in tqdm(range(settings.iterations), desc="GTA-CLIP", unit="iteration", disable=not progress):
        start, known = time.perf_counter(), {}
        features, shot_features = encoder.encode_images(pixels), encoder.encode_images(shots) if len(shots) else None

        def infer(bank: Bank) -> tuple[Transduction, Tensor]:
            prior = text_prior(features, _encode_bank(encoder, bank, known), encoder.logit_scale)
            few = {} if shot_features is None else {"support_features": shot_features, "support_labels": shot_labels, "gamma": settings.gamma}
            return transduct(features, prior, lam=settings.lam, neighbors=settings.neighbors, **few), prior

        result, prior = infer(bank)
        clip = prior if clip is None else clip
        asked = []
        if settings.generate and llm is not None:
            pairs = confused_pairs(result.assignments, settings.margin)
            beta = pair_threshold(pairs, settings.pair_share) if beta is None else beta
            asked = pairs_to_ask(pairs, beta, bank)
            if settings.pairs == "random":
                asked = random_pairs(len(asked), bank, seed=settings.seed * 1000 + t)
            bank = distinguish(bank, asked, llm, t)
            result, _ = infer(bank) if asked else (result, prior)
        loss = None
        if settings.adapt and t < settings.iterations - 1:
            selection = with_support(confident_images(result.assignments, settings.confident), shot_labels, len(pixels))
            everything = torch.cat([pixels, shots]) if len(shots) else pixels
            loss = adapt(encoder, everything, selection, bank.texts, settings, augment, seed=settings.seed * 1000 + t)
        history.append(_summary(t, result, history, len(asked), bank, loss, time.perf_counter() - start))
    return Result(result.assignments.cpu(), clip.cpu(), bank, encoder, history)


def with_support(selection: Selection, labels: Tensor, queries: int) -> Selection:
    """The selection and every support image, numbered after the query images, with its true class."""
    classes = torch.nn.functional.one_hot(labels, selection.classes.shape[1]).bool()
    return Selection(torch.cat([selection.images, queries + torch.arange(len(labels))]), torch.cat([selection.classes, classes]))


def _encode_bank(encoder: Encoder, bank: Bank, known: dict[str, Tensor]) -> list[Tensor]:
    """Features of every class's texts; only texts that are not in `known` are encoded."""
    new = sorted({text for of_class in bank.texts for text in of_class} - known.keys())
    if new:
        known.update(zip(new, encoder.encode_texts(new), strict=True))
    return [torch.stack([known[text] for text in of_class]) for of_class in bank.texts]


def _support(support: tuple, encoder: Encoder) -> tuple[Tensor, Tensor]:
    images, labels = support
    return images if isinstance(images, Tensor) else load_images(images, encoder), torch.as_tensor(labels).long()


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
