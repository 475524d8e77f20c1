"""Classifiers from texts alone: prompt ensembles and CuPL, and random descriptors as the control of every attribute method.

A class is the mean of its unit text features, set to unit norm: over templates (CLIP, arXiv 2103.00020, section 3.1.4) or
over sentences of a language model (CuPL, arXiv 2209.03320, section 3). WaffleCLIP (arXiv 2306.07282, section 3.3) takes the
mean cosine over texts whose descriptors are random words and random characters, the same for all classes, so that a gain from
them is a gain of ensembling; `gta.transduct.text_prior` is that mean.
"""

import random
import string
from collections.abc import Sequence

import torch
from open_clip import SIMPLE_IMAGENET_TEMPLATES, SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from gta.encoders import Encoder, WordTokenizer
from gta.names import fill

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


def waffle(
    class_names: Sequence[str], sentence: str, words: Sequence[str], seed: int, characters: bool, pairs: int = PAIRS
) -> list[list[str]]:
    """Texts with `2 * pairs` random descriptors, the same for all classes, in a sentence with {name} and {attribute}.

    words: to draw from; words of class names are left out. characters: half of the descriptors are random characters, which
    an encoder with a closed vocabulary cannot read. Raises ValueError where no word is left.
    """
    named = {word for name in class_names for word in name.split()}
    words = sorted(set(words) - named)
    if not words:
        raise ValueError("words: none is left that is not part of a class name")
    chance = random.Random(seed)

    def of_words() -> str:
        return " ".join(chance.choice(words) for _ in range(WORDS))

    def of_characters() -> str:
        return " ".join("".join(chance.choices(string.ascii_lowercase + string.digits, k=LETTERS)) for _ in range(WORDS))

    drawn = [draw() for _ in range(pairs) for draw in (of_words, of_characters if characters else of_words)]
    return [[fill(sentence, name=name, attribute=attribute) for attribute in drawn] for name in class_names]


def vocabulary(encoder: Encoder) -> tuple[list[str], bool]:
    """Whole words that an encoder's tokenizer knows, and whether it reads any characters. Raises TypeError for an unknown kind."""
    tokenizer = encoder.tokenizer
    if isinstance(tokenizer, WordTokenizer):
        return tokenizer.words, False
    if isinstance(tokenizer, SimpleTokenizer):
        whole = (token.removesuffix("</w>") for token in tokenizer.encoder if token.endswith("</w>"))
        return sorted(word for word in whole if len(word) > 3 and word.isascii() and word.isalpha()), True
    raise TypeError(f"no list of words for a {type(tokenizer).__name__}; give `waffle` words of your own")
