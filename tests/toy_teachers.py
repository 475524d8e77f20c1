"""A teacher of ten digits and a student, without a run: any mixture, and a few facts about each digit."""

import torch
from torch.nn import functional as F

from gta.attributes import Bank
from gta.distil.teachers import Teacher
from gta.label.models import Classifier
from gta.worlds.glyphs import DIGITS, FACTS


def bank(facts=3):
    """A template and the first facts of each digit."""
    made = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    for j, name in enumerate(DIGITS):
        made = made.add(j, FACTS[name][:facts], source="static")
    return made


def teacher(encoder, facts=3):
    """Its prototypes are its texts, so that its z are neither 0 nor 1 and name more than one class."""
    texts = torch.stack([encoder.encode_texts(of_class).mean(0) for of_class in bank(facts).texts])
    variance = torch.full((texts.shape[1],), 1.0 / texts.shape[1], dtype=texts.dtype)
    classifier = Classifier(tuple(DIGITS), texts, F.normalize(texts, dim=1), variance, encoder.logit_scale, 1.0)
    return Teacher(encoder, classifier, bank(facts))
