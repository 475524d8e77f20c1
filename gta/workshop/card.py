"""Measure the embedded encoders for their model cards: `python -m gta.workshop.card glyphs` rewrites measures.csv and
curves.png beside the weights; `birds` does the same for the encoders of birds.

Glyphs, on rendered images of held-out styles: the accuracy by name over all 34 characters, and how often a true attribute is nearer to
an image than a false one. Text encoder: the cosine between the text of a name and the same text with a true or with a false attribute
(how much an attribute adds to a name). Handwriting, without labels: the cosine to the nearest neighbour, the share of images with
the same prediction as their nearest neighbour, and the mean confidence.

Birds: the accuracy of each attribute on random birds, in the style of pretraining and in that of the worlds, which shows the domain shift.
On a world that no result uses: the cosine to the nearest neighbour, the share of the three nearest neighbours of the same species, the
mean confidence with its true facts, and the mean cosine between the texts of two names.
"""

import argparse
import random

import pandas as pd
import torch
from matplotlib import pyplot as plt
from numpy.random import PCG64, Generator

from gta import encoders
from gta.attributes import Bank
from gta.charts.style import PALETTE
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.scores.truth import attribute_accuracy
from gta.studies import zero_shot
from gta.transduct import text_prior
from gta.workshop.lessons import LESSONS, SENTENCE
from gta.worlds import aviary
from gta.worlds.birds import SIZES, STYLES, draw, draw_look
from gta.worlds.glyphs import FACTS, KIND, NAMES, render


def held_out_measures(encoder: Encoder, count: int = 2000) -> dict[str, float]:
    """Accuracy by name and by attribute on held-out styles, in percent."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(2000)
    characters = torch.randint(len(NAMES), (count,), generator=generator)
    images = render(characters, "held_out", generator).permute(0, 2, 3, 1).numpy()
    features = encoder.encode_images(load_images(list(images), encoder).pixels)
    names = encoder.encode_texts([SENTENCE.format(kind=KIND[name], name=name) for name in NAMES])
    facts = sorted({fact for of_name in FACTS.values() for fact in of_name})
    cosines = features @ encoder.encode_texts([f"a character with {fact}" for fact in facts]).T
    right = 0
    for row, c in zip(cosines, characters.tolist(), strict=True):
        true, false = rng.choice(FACTS[NAMES[c]]), rng.choice([fact for fact in facts if fact not in FACTS[NAMES[c]]])
        right += bool(row[facts.index(true)] > row[facts.index(false)])
    by_name = ((features @ names.T).argmax(1).cpu() == characters).float().mean()
    return {"held_out_name": 100 * float(by_name), "held_out_attribute": 100 * right / count}


def text_measures(encoder: Encoder) -> dict[str, float]:
    """The mean cosine between the text of a name and the same text with a true attribute, and with a false one."""
    rng, means = random.Random(0), {}
    names = [SENTENCE.format(kind=KIND[name], name=name) for name in NAMES]
    facts = sorted({fact for of_name in FACTS.values() for fact in of_name})
    for key, true in (("cosine_with_true", True), ("cosine_with_false", False)):
        said = [rng.choice([fact for fact in facts if (fact in FACTS[name]) is true]) for name in NAMES]
        longer = encoder.encode_texts([f"{text} with {fact}" for text, fact in zip(names, said, strict=True)])
        means[key] = float((encoder.encode_texts(names) * longer).sum(1).mean())
    return means


def label_free_measures(encoder: Encoder) -> dict[str, float]:
    """On handwriting without labels: cosine to the nearest image, agreement with it in percent, mean confidence."""
    task = tasks.load("digits")
    features = encoder.encode_images(load_images(task.images, encoder).pixels)
    texts = encoder.encode_texts([task.template.replace("{}", name) for name in task.class_names])
    prior = text_prior(features, list(texts[:, None]), encoder.logit_scale)
    nearest = (features @ features.T).fill_diagonal_(-1).max(1)
    agreement = (prior.argmax(1)[nearest.indices] == prior.argmax(1)).float().mean()
    return {"nearest_cosine": float(nearest.values.mean()), "agreement": 100 * float(agreement), "confidence": float(prior.amax(1).mean())}


def glyph_measures(encoder: Encoder, seed: int) -> dict[str, float]:
    return {**held_out_measures(encoder), **text_measures(encoder), **label_free_measures(encoder)}


def bird_measures(encoder: Encoder, seed: int, count: int = 1000) -> dict[str, float]:
    """Attribute accuracies in percent: the mean for each style, and each one in the style `field`; and the measures of one world."""
    measures: dict[str, float] = {}
    for style in STYLES:
        rng = Generator(PCG64(2000))
        birds = rng.integers(SIZES, size=(count, len(SIZES)))
        pictures = [draw(bird, STYLES[style], draw_look(STYLES[style], rng), rng) for bird in birds]
        right = attribute_accuracy(encoder, load_images(pictures, encoder).pixels, birds)
        measures[style] = right.mean()
        if style == "field":
            measures |= {f"field_{attribute}": percent for attribute, percent in right.items()}
    task = tasks.load(f"aviary:{1000 + seed}")
    species = torch.from_numpy(aviary.world(1000 + seed).labels("query"))
    features = encoder.encode_images(load_images(task.images, encoder).pixels).cpu()
    nearest = (features @ features.T).fill_diagonal_(-1).topk(3, 1)
    bank = Bank.from_template(task.class_names, task.template, task.sentence)
    facts = [encoder.encode_texts(texts).cpu() for texts in zero_shot.with_all_facts(bank, task).texts]
    names = encoder.encode_texts([texts[0] for texts in bank.texts]).cpu()
    return measures | {
        "nearest_cosine": float(nearest.values[:, 0].mean()),
        "nearest_same_species": 100 * float((species[nearest.indices] == species[:, None]).float().mean()),
        "confidence": float(text_prior(features, facts, encoder.logit_scale).amax(1).mean()),
        "cosine_of_names": float((names @ names.T).fill_diagonal_(0).sum() / len(names) / (len(names) - 1)),
    }


MEASURES = {"glyphs": glyph_measures, "birds": bird_measures}


def main(lesson: str) -> None:
    folder, rows, (figure, axis) = LESSONS[lesson].folder, [], plt.subplots(figsize=(6, 3.2))
    for seed in range(5):
        encoder = encoders.load("embedded", seed=seed, device="cpu", embedded=folder)
        parameters = sum(p.numel() for p in encoder.model.parameters())
        measures = MEASURES[lesson](encoder, seed)
        rows.append(
            {"seed": seed, "parameters": parameters, "logit_scale": encoder.logit_scale, **measures, "sha256": encoder.weights_sha256[:12]}
        )
        curve = pd.read_csv(folder / f"seed{seed}.curve.csv")
        for column, color, label in (("train_loss", PALETTE[0], "training"), ("held_out_loss", PALETTE[1], "held out")):
            axis.plot(curve.step, curve[column], color=color, lw=1, label=label if seed == 0 else None)
    axis.set(xlabel="step", ylabel="loss", title="pretraining, five seeds")
    axis.legend(frameon=False)
    figure.savefig(folder / "curves.png", metadata={"Software": None})
    frame = pd.DataFrame(rows).round(3)
    write_atomically(folder / "measures.csv", frame.to_csv(index=False))
    print(frame.to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measures and curves of the embedded encoders, for their model card.")
    parser.add_argument("lesson", choices=LESSONS)
    main(parser.parse_args().lesson)
