"""Encoders with random weights, and images and texts that need no network, for benchmarks on real architectures."""

import random
from functools import lru_cache

import torch
from adapt import sentences

from gta import encoders
from gta.attributes import Bank
from gta.encoders.encoder import Encoder


@lru_cache(maxsize=1)
def load(name: str, device: str) -> Encoder:
    random_weights = {"dtype": torch.float32} if name == "embedded" else {"pretrained": "random"}
    return encoders.load(name, device=device, **random_weights)


@lru_cache(maxsize=2)
def pictures(count: int, classes: int, size: int, device: str) -> torch.Tensor:
    """uint8 pixels (count, 3, size, size) on the host: patches in the colours of a class and of the image, under noise."""
    generator = torch.Generator(device).manual_seed(0)

    def patches(count: int, below: int, side: int = 8) -> torch.Tensor:
        return torch.randint(below, (count, 3, side, side), generator=generator, device=device, dtype=torch.uint8)

    colours, pixels = patches(classes, 120), torch.empty(count, 3, size, size, dtype=torch.uint8)
    for rows in torch.arange(count).split(512):
        coarse = colours[(rows % classes).to(device)] + patches(len(rows), 100)
        whole = coarse.repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)
        pixels[rows] = (whole + patches(len(rows), 36, size)).cpu()
    return pixels


def texts(encoder: Encoder, classes: int, each: int) -> Bank:
    """`each` sentences a class; where the encoder is embedded and knows few words, of those."""
    words = getattr(encoder.tokenizer, "words", [])
    names = words[:classes] or [f"class {i}" for i in range(classes)]
    bank = Bank.from_template(names, "{}", "{attribute}") if words else Bank.from_template(names)
    for i in range(classes):
        own = [" ".join(random.Random(f"{i} {k}").sample(words, 6)) for k in range(each - 1)] if words else None
        bank = bank.add(i, own or sentences(each - 1, seed=i), source="static")
    return bank
