"""The runs of the diagnosis table: failures are planted, and it is measured whether each method finds them, at which rank, in which words.

The labeller that is diagnosed is CLIP by the texts of the names. In the aviary, whose names say nothing, it reads all true facts instead:
it is then right about four times in five, so that what is planted is not one failure among many.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.random import PCG64, Generator
from pydantic import Field
from torch import Tensor

from gta.attributes import Bank
from gta.diagnosis import measure
from gta.diagnosis.plants import Sample, planted_samples
from gta.diagnosis.words import text_features
from gta.encoders.images import load_images
from gta.files import ROOT, write_atomically
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Study
from gta.studies.zero_shot import ALL_FACTS, with_all_facts
from gta.transduct import text_prior
from gta.worlds.birds import ATTRIBUTES

OF_IMAGES, OF_SLICES = "predicted", "slices"  # the files


class Diagnosis(RunParameters):
    """Parameters of `notebooks/diagnosis.ipynb`. plants: draws of what is planted; first: the number of the first draw; those from 100 on
    are for trying things."""

    plants: int = Field(5, ge=1)
    first: int = Field(0, ge=0)

    @property
    def planted(self) -> range:
        """The draws."""
        return range(self.first, self.first + (min(self.plants, 2) if self.smoke else self.plants))


@dataclass(frozen=True)
class Measured:
    """Lines of all draws: of_images, of_slices, as `gta.diagnosis.measure` gives them."""

    of_images: pd.DataFrame
    of_slices: pd.DataFrame


def diagnosis(study: Study, parameters: Diagnosis) -> Measured:
    """Plant each draw, and one time nothing, and measure every method. The labeller's answers to the query images, none of which is
    harmed, go into `study.outcomes`. Raises ValueError for a dataset for which there is no list of plants."""
    bank = labeller(study)
    whole, samples = planted_samples(study.task.source, parameters.seed, parameters.planted)
    once = study.run(bank, changes=ONCE, progress=False)
    key = (study.task.baseline, "" if bank is study.names_only else ALL_FACTS)
    study.outcomes[key] = (once.clip, once.history[0]["seconds_encode"], key)
    words = words_of(study)
    texts = study.encoder.encode_texts([study.task.nameless.replace("{attribute}", word) for word in words]).cpu().numpy()
    plain = [study.encoder.encode_texts(of_class) for of_class in bank.texts]
    said = text_features(study.encoder, dict(zip(bank.class_names, bank.texts, strict=True)))
    features = encoded(study, whole.images)
    images, slices = [], []
    for draw, sample in zip([-1, *parameters.planted], [whole, *samples], strict=True):
        seen = of_sample(study, features, whole, sample)
        own = text_prior(seen, plain, study.encoder.logit_scale).cpu().numpy()
        z = sample.answers(own, Generator(PCG64([parameters.seed, 7, max(draw, 0)])))
        wrong = z.argmax(1) != sample.labels
        named = _named(study, parameters, draw, sample, own, wrong)
        found = measure.scores(seen.cpu().numpy(), z, wrong, parameters.seed)
        images += [named | line for line in measure.of_images(found, wrong, sample.planted)]
        slices += [named | line for line in measure.of_slices(sample, seen.cpu().numpy(), z, said, texts, words, parameters.seed)]
        print(f"draw {draw}: {sample}: {sample.planted.sum()} of {len(wrong)} harmed, {100 * wrong.mean():.0f} % wrong")
    return Measured(pd.DataFrame(images), pd.DataFrame(slices))


def labeller(study: Study) -> Bank:
    """The texts of the labeller that is diagnosed."""
    return study.names_only if study.task.baseline == "CLIP" else with_all_facts(study.names_only, study.task).without_templates()


def words_of(study: Study) -> list[str]:
    """The words that slices are named by: every value of every attribute of birds, or what is said of the shapes of digits."""
    if study.task.baseline != "CLIP":
        return [value for values in ATTRIBUTES.values() for value in values]
    return list(dict.fromkeys(fact for name in study.task.class_names for fact in study.task.facts[name]))


def encoded(study: Study, images: list[np.ndarray]) -> Tensor:
    """Unit features (n, d)."""
    return study.encoder.encode_images(load_images(images, study.encoder, progress=False).pixels)


def of_sample(study: Study, features: Tensor, whole: Sample, sample: Sample) -> Tensor:
    """Features (n, d) of a sample, from those of `whole`: only pictures that differ are encoded."""
    rows = [i for i, (a, b) in enumerate(zip(whole.images, sample.images, strict=True)) if a is not b]
    if not rows:
        return features
    seen = features.clone()
    seen[torch.tensor(rows)] = encoded(study, [sample.images[i] for i in rows])
    return seen


def _named(study: Study, parameters: Diagnosis, draw: int, sample: Sample, own: np.ndarray, wrong: np.ndarray) -> dict:
    """What a line says of its draw. `wrong` of the harmed images and of the `others`, in %; `alone`: of the harmed ones by the pictures
    alone, before answers were changed. Draw -1 has nothing planted."""
    harmed, missed = sample.planted, own.argmax(1) != sample.labels

    def share(of: np.ndarray) -> float:
        return 100 * float(of.mean()) if len(of) else float("nan")

    named = {"dataset": study.task.name, "backbone": parameters.named_backbone, "seed": parameters.seed, "draw": draw}
    named |= {"harm": sample.harm, "words": " | ".join(sample.words), "images": len(wrong), "harmed_images": int(harmed.sum())}
    return named | {"wrong": share(wrong[harmed]), "others": share(wrong[~harmed]), "alone": share(missed[harmed])}


def write(measured: Measured, parameters: Diagnosis) -> None:
    """`predicted.csv` and `slices.csv`."""
    for name, frame in {OF_IMAGES: measured.of_images, OF_SLICES: measured.of_slices}.items():
        write_atomically(ROOT / parameters.out / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
