"""Encoders whose tokenizer is a list of words, such as the embedded ones: open_clip needs transformers to read it, and drops unknown words
in silence."""

from pathlib import Path

import open_clip
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from gta.encoders import faults, weights
from gta.files import load_tensors
from gta.names import nearest

WORDS = "tokenizer.json"


def has_words(folder: Path) -> bool:
    """Whether the tokenizer in a folder is a list of words."""
    return (folder / WORDS).is_file() and isinstance(_tokenizer(folder / WORDS).model, WordLevel)


def read(folder: Path, file: Path) -> weights.Loaded:
    """A model of the folder, with the weights in `file`. Raises ValueError, with the file, where one is damaged."""
    model_cfg, preprocess = weights.config(folder)
    try:
        model = open_clip.CLIP(**model_cfg)
        length = model_cfg["text_cfg"]["context_length"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / weights.CONFIG}: damaged, or no architecture as open_clip describes it: {error}") from None
    try:
        model.load_state_dict(load_tensors(file))
    except RuntimeError as error:
        raise ValueError(faults.not_weights(file, str(folder), error)) from None
    tokenizer = WordTokenizer(folder / WORDS, length)
    return weights.Loaded(model, tokenizer, {"size": model.visual.image_size, **preprocess}, model_cfg, file.name)


def _tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"{file}: damaged, no tokenizer in it: {error}") from None


class WordTokenizer:
    """A whole-word vocabulary in a `tokenizer.json`, called as open_clip calls its own tokenizers."""

    def __init__(self, file: Path, context_length: int):
        self._tokenizer = _tokenizer(file)
        self.context_length = context_length

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 (len(texts), context_length), padded with 0. A word outside the vocabulary is a ValueError."""
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        unknown = self._tokenizer.token_to_id("<unk>")
        for row, (text, encoding) in enumerate(zip(texts, self._tokenizer.encode_batch(texts), strict=True)):
            if unknown in encoding.ids:
                start, end = encoding.offsets[encoding.ids.index(unknown)]
                word = text[start:end]
                raise ValueError(
                    f"{word!r} in {text!r} is not a word of this encoder{nearest(word, self.words)}; all its words: {' '.join(self.words)}"
                )
            if len(encoding.ids) > self.context_length:
                raise ValueError(f"{text!r} has {len(encoding.ids)} tokens, this encoder reads {self.context_length}")
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        return ids

    def save(self, file: Path) -> None:
        """As the `tokenizer.json` that it was read from."""
        self._tokenizer.save(str(file))

    def length(self, text: str) -> int:
        """Tokens of a text, its end included."""
        return len(self._tokenizer.encode(text).ids)

    @property
    def words(self) -> list[str]:
        return [word for word in sorted(self._tokenizer.get_vocab()) if not word.startswith("<")]
