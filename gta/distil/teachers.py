"""The teacher: an adapted encoder with the mixture of its classes and its texts, as `gta label --save-model` keeps it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.label import models
from gta.label.models import Classifier
from gta.state import Result

BANK = "attributes.json"  # of a kept model


@dataclass(frozen=True)
class Teacher:
    """encoder: adapted; classifier: labels images one by one from its features; bank: the texts of the classes, with their attributes."""

    encoder: Encoder
    classifier: Classifier
    bank: Bank

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Self:
        """From the folder OUT/model of `gta label --save-model`. Raises as `gta.label.models.load` does, and as `Bank.load`."""
        encoder, classifier = models.load(folder, device)
        return cls(encoder, classifier, Bank.load(folder / BANK))

    @classmethod
    def of(cls, result: Result) -> Self:
        """From a run of the method."""
        return cls(result.encoder, Classifier.of(result), result.attributes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of z."""
        return self.classifier.class_names

    def label(self, pixels: Tensor, progress: bool = False) -> Tensor:
        """z float64 (N, M), on the CPU, of uint8 pixels (N, 3, H, W) as the teacher's encoder stores them; each image alone. Raises
        ValueError for a teacher with a second view."""
        if self.classifier.second is not None:
            why = (
                "and images that it has not labelled would need it; label them with `python -m gta label` first, or leave --view out there"
            )
            raise ValueError(f"the model has a second view, {self.classifier.second.name}, {why}")
        features = self.encoder.encode_images(pixels, progress=progress).cpu()
        return self.classifier.label(features).to(torch.float64)
