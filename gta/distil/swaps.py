"""TinyBERT's data augmentation for texts: words are replaced by near ones (arXiv 1909.10351, algorithm 1).

For each word of a text, with probability p_t = 0.4, one of its K = 15 candidates takes its place; each text is augmented N_a = 20 times.
The paper takes as candidates what BERT's masked language model puts in the place of a word that is one token, and the words nearest in
GloVe for words of several. A sentence encoder has no such head, and GloVe is a download. Here the candidates of a word are the words whose
input embeddings are nearest to its own in the model itself, by cosine; the embedding of a word of several tokens is the mean of theirs.
So candidates are alike in meaning or in kind, but do not fit the sentence around them.
"""

import random
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gta.encoders.sentences import SentenceEncoder

SHARE, CANDIDATES, TIMES = 0.4, 15, 20  # the paper's p_t, K and N_a
WORD = re.compile(r"[^\W\d_]+")


class Swaps:
    """Candidates for words, from an encoder's own embeddings. words: all that may take a place, its vocabulary's whole words."""

    def __init__(self, encoder: SentenceEncoder, candidates: int = CANDIDATES):
        found = encoder.tokenizer.get_vocab()
        self.words = sorted(word for word in found if WORD.fullmatch(word) and len(word) > 1)
        self._tokenizer, self._candidates = encoder.tokenizer, candidates
        model: Any = encoder.model
        self._table: Tensor = model.get_input_embeddings().weight.detach().cpu()
        self._unit = F.normalize(self._table[[found[word] for word in self.words]], dim=1)
        self._near: dict[str, list[str]] = {}

    def near(self, word: str) -> list[str]:
        """The K words nearest to a word, the nearest first, itself not among them."""
        if word not in self._near:
            pieces = self._tokenizer(word, add_special_tokens=False)["input_ids"]
            mean = F.normalize(self._table[pieces].mean(0), dim=0)
            order = (self._unit @ mean).topk(min(self._candidates + 1, len(self.words))).indices.tolist()
            self._near[word] = [self.words[i] for i in order if self.words[i] != word.lower()][: self._candidates]
        return self._near[word]

    def augmented(self, text: str, chance: random.Random, share: float = SHARE) -> str:
        """A text in which each word is replaced with probability `share`, by one of its candidates at random."""

        def swapped(match: re.Match[str]) -> str:
            return chance.choice(self.near(match[0])) if chance.random() < share else match[0]

        return WORD.sub(swapped, text)

    def corpus(self, texts: Sequence[str], seed: int, times: int = TIMES, share: float = SHARE) -> list[str]:
        """The texts, and after them `times` augmented versions of each."""
        chance = random.Random(seed)
        return [*texts, *(self.augmented(text, chance, share) for text in texts for _ in range(times))]
