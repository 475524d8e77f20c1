"""Random descriptors, the control of every attribute method (WaffleCLIP, arXiv 2306.07282, section 3.3).

The mean cosine is taken over texts whose descriptors are random words and random characters, the same for all classes. So a gain
from them is a gain of ensembling; `gta.transduct.text_prior` is that mean.
"""

import random
import string
from collections.abc import Sequence

from open_clip import SimpleTokenizer

from gta.encoders.encoder import Encoder, WordTokenizer
from gta.names import fill

PAIRS = 15  # of descriptors: one of words and one of characters each
WORDS, LETTERS = 2, 5  # words a descriptor, and characters a random word


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
