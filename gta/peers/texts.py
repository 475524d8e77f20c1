"""Classifiers from texts alone: prompt ensembles and CuPL, and random descriptors as the control of every attribute method.

A class is the mean of its unit text features, set to unit norm: over templates (CLIP, arXiv 2103.00020, section 3.1.4) or
over sentences of a language model (CuPL, arXiv 2209.03320, section 3). WaffleCLIP (arXiv 2306.07282, section 3.3) takes the
mean cosine over texts whose descriptors are random words and random characters, the same for all classes, so that a gain from
them is a gain of ensembling; `gta.transduct.text_prior` is that mean.
"""

from collections.abc import Sequence

import torch
from open_clip import SIMPLE_IMAGENET_TEMPLATES
from torch import Tensor
from torch.nn import functional as F

PAIRS = 15  # of descriptors: one of words and one of characters each
WORDS, LETTERS = 2, 5  # words a descriptor, and characters a random word

# Of the closed vocabularies that cannot read CLIP's templates.
TEMPLATES = {
    "glyphs": ("a picture of the digit {}", "the digit {}", "a picture of a {}", "a character {}", "a large {}"),
    "aviary": ("a picture of a {}", "a {} bird", "a picture of the bird {}", "a picture of a {} bird", "the {}"),
}


def class_features(text_features: Sequence[Tensor]) -> Tensor:
    """Unit mean of each class's unit text features: M tensors (n_j, d) to (M, d)."""
    return F.normalize(torch.stack([of_class.mean(0) for of_class in text_features]), dim=1)


def clip_logits(features: Tensor, classes: Tensor, scale: float) -> Tensor:
    """CLIP: `scale` times cosines, (N, M), of images (N, d) and class features (M, d), unit rows."""
    return scale * features @ classes.T


def templates(domain: str) -> tuple[str, ...]:
    """Templates of an ensemble with `{}` for the name: the seven that CLIP's authors chose for ImageNet, or a domain's own."""
    return TEMPLATES.get(domain) or tuple(template("{}") for template in SIMPLE_IMAGENET_TEMPLATES)


def ensemble(class_names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every name in every template."""
    return [[template.replace("{}", name) for template in templates] for name in class_names]
