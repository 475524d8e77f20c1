"""Diagnose the labels of a folder: `python -m gta diagnose DIR --labelled FILE`.

From a sample of images whose truth somebody looked up: how likely every other image is to be wrong, and in which slices the labeller
fails more. `diagnosis.csv` has a line for each image, `diagnosis.html` says where to look first.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gta import encoders
from gta.attributes import Bank
from gta.diagnosis import slices
from gta.diagnosis.inputs import Answers, read_answers, read_truth, read_words
from gta.diagnosis.predictors import Predicted, described, folds, out_of_fold, predicted
from gta.diagnosis.slices import Slice
from gta.diagnosis.words import label_texts, named_texts, text_features
from gta.encoders.embeddings import features_of
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images, load_images
from gta.label import labelled as labelled_folder
from gta.worlds import aviary, digits

PREDICTIONS, BANK, MODEL = "predictions.csv", "attributes.json", "model"  # what `gta label` leaves
COUNT = 6  # slices that are looked for
CHANCE = 0.05  # a slice with a larger p may be chance, and is told to be


@dataclass(frozen=True)
class Found:
    """A slice. beyond: its images are not only like its text, but more so than their labels say; rest: int (r,), the rows of images in it
    whose truth is not known, those first that are predicted to fail most."""

    slice: Slice
    beyond: bool
    rest: np.ndarray

    def __str__(self) -> str:
        return f"more like {self.slice.text} than the label says" if self.beyond else f"like {self.slice.text}"


@dataclass(frozen=True)
class Diagnosis:
    """answers, images: of n images, in one order; sample: int (s,), rows whose truth is known; wrong: bool (s,); checked: (s,), predicted
    loss of the sample, each image by models that have not seen it; others: int (n - s,), all other rows; predicted: of these;
    slices: found one after the other; texts: how many names were tried, each in two ways."""

    answers: Answers
    images: Images
    sample: np.ndarray
    wrong: np.ndarray
    checked: np.ndarray
    others: np.ndarray
    predicted: Predicted
    slices: list[Found]
    texts: int

    @property
    def told(self) -> list[Found]:
        """The slices that are no chance."""
        return [found for found in self.slices if found.slice.p <= CHANCE]


def read(
    folder: Path,
    labelled: Path | None = None,
    *,
    images: Path | None = None,
    predictions: Path | None = None,
    encoder: str | None = None,
    pretrained: str | None = None,
    words: Path | None = None,
    device: str | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a folder that `gta label` left, or the answers of any labeller in `predictions`.

    labelled: a CSV of path,label, which may be left out if `predictions` has the truth; images: the folder that paths are relative to, by
    default the one that `gta label` read, else that of the results; encoder: any, by default the model that `label --save-model` kept;
    words: a file with a text a line. Raises ValueError, with what to change, for input that does not fit, and the errors of the encoder.
    """
    images, places = (images, {}) if images else known_places(folder)
    answers = read_answers(predictions or folder / PREDICTIONS, images, places)
    if labelled is not None:
        answers.truth.update(read_truth(labelled, answers, images))
    if not answers.truth:
        raise ValueError("the truth of some images is needed: --labelled FILE, a CSV with the columns path,label")
    bank = Bank.load(folder / BANK) if (folder / BANK).is_file() else None
    own = read_words(words) if words else []
    if bank is None and not own:
        raise ValueError(f"{folder / BANK} does not exist, so no words name a slice; give some: --words FILE, one text a line")
    seer = load_encoder(folder, encoder, pretrained, device, bank)
    held = load_images(answers.files, seer, store=folder / "images")
    features = features_of(seer, held, folder / "embeddings").numpy()
    texts, labels = named_texts(bank, own), sorted(set(answers.labels))
    of_labels = text_features(seer, label_texts(bank, labels))[[labels.index(label) for label in answers.labels]]
    return diagnose(answers, held, features, of_labels, text_features(seer, texts), list(texts), seed)


def known_places(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The folder that paths are relative to, and {path: file}, as a run left them; without that, the folder of results and nothing."""
    if not (folder / labelled_folder.FACTS).is_file():
        return folder, {}
    left = labelled_folder.read(folder)
    return left.base or folder, left.places


def load_encoder(folder: Path, name: str | None, pretrained: str | None, device: str | None, bank: Bank | None) -> Encoder:
    """The named encoder, or the one that a run kept. `embedded` is that of birds where the bank speaks of them."""
    if name is None:
        if not (folder / MODEL).is_dir():
            raise ValueError(f"{folder / MODEL} does not exist; name an encoder: --encoder ViT-B/16, or the one that labelled the images")
        name = str(folder / MODEL)
    birds = bank is not None and bank.sentence == aviary.SENTENCE
    return encoders.load(name, pretrained=pretrained, device=device, embedded=aviary.ENCODERS if birds else digits.ENCODERS)


def diagnose(
    answers: Answers, images: Images, features: np.ndarray, said: np.ndarray, texts: np.ndarray, names: list[str], seed: int = 0
) -> Diagnosis:
    """Diagnose answers from features of all images (n, d), of what each one's label says (n, d), and of texts (T, d), of `names`. Raises
    ValueError where too few of the sample are wrong."""
    sample = np.array(sorted(answers.truth))
    others = np.setdiff1d(np.arange(len(answers.names)), sample)
    wrong = np.array([answers.truth[row] != answers.labels[row] for row in sample])
    classes = np.unique(answers.labels, return_inverse=True)[1]
    seen, loss = described(features, classes, int(classes.max()) + 1, answers.doubt), wrong.astype(float)
    groups = np.unique([images.key(int(row)) for row in sample], return_inverse=True)[1]  # copies of an image are one group
    checked = out_of_fold(seen[sample], loss, folds(wrong, groups, seed), seed)["ensemble"]
    guess = predicted(seen[sample], loss, seen[others], seed) if len(others) else Predicted(*(np.empty(0) for _ in range(3)))
    scores = slices.both_ways(features, texts, said)
    found = slices.find(scores[sample], [*names, *names], loss, COUNT, seed)
    within = [_found(one, one.column >= len(names), scores[:, one.column], sample, others, guess) for one in found]
    return Diagnosis(answers, images, sample, wrong, checked, others, guess, within, len(names))


def _found(one: Slice, beyond: bool, of: np.ndarray, sample: np.ndarray, others: np.ndarray, guess: Predicted) -> Found:
    """A slice with rows of the sample numbered among all images, and all other images whose score `of` (n,) is as large as that of its
    members."""
    members = sample[one.members]
    inside = np.flatnonzero(of[others] >= of[members].min())
    order = inside[np.argsort(-guess.loss[inside], kind="stable")]
    return Found(replace(one, members=members), beyond, others[order])
