"""The texts that slices may be named by: classes, what a bank says of them, and the user's own words; and their features."""

from collections.abc import Sequence

import numpy as np

from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.names import fill

AVERAGED = 8  # classes whose names a phrase is read with


def phrases(bank: Bank) -> list[str]:
    """What a bank says about classes, each phrase once, without the sentences around them."""
    return list(dict.fromkeys(phrase for j in range(len(bank.class_names)) for phrase in bank.phrases(j)))


def named_texts(bank: Bank | None, own: Sequence[str]) -> dict[str, list[str]]:
    """{name: the texts that say it}. A class is its template. A phrase of the bank or of the user stands in the sentence of the bank with
    the names of some classes, the same for all phrases, so that what differs between phrases is not the class. Without a bank the user's
    words stay as they are. Raises ValueError for a single word, which has nothing to be compared with."""
    if bank is None:
        if len(own) < 2:
            raise ValueError(f"{own[0]!r} is the only text to name slices by; give at least two, such as its contrary")
        return {word: [word] for word in own}
    some = bank.class_names[:: -(-len(bank.class_names) // AVERAGED)]
    said = dict.fromkeys([*phrases(bank), *own])
    texts = {phrase: [fill(bank.sentence, name=name, attribute=phrase) for name in some] for phrase in said}
    return {name: [bank.template.replace("{}", name)] for name in bank.class_names} | texts


def label_texts(bank: Bank | None, labels: Sequence[str]) -> dict[str, list[str]]:
    """{label: the texts that say it}: all that a bank has for the class. A label that no class bears is its template, without a bank the
    label alone."""
    known = dict(zip(bank.class_names, bank.texts, strict=True)) if bank else {}
    template = bank.template if bank else "{}"
    return {label: known.get(label) or [template.replace("{}", label)] for label in labels}


def text_features(encoder: Encoder, texts: dict[str, list[str]]) -> np.ndarray:
    """A unit vector for each name, (T, d): the direction of the mean feature of its texts. Raises as the encoder's tokenizer does."""
    flat = encoder.encode_texts([text for of_name in texts.values() for text in of_name]).cpu().numpy()
    ends = np.cumsum([len(of_name) for of_name in texts.values()])
    means = np.stack([part.mean(0) for part in np.split(flat, ends[:-1])])
    return means / np.linalg.norm(means, axis=1, keepdims=True)
