"""What all methods of the peers' tables share: the features of a task, labelled images, and the measurement of each method.

All methods share the features of the query images, so the seconds of a method do not include them. They include its texts, training
and search. Hyperparameters are the papers', or the best on validation images; `Bench.chosen` holds those that a search chose.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gta import hashes
from gta.attributes import Bank
from gta.data import folders, tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images, load_images
from gta.files import ROOT, shipped
from gta.peers import texts
from gta.scores.rows import Row, write_run
from gta.studies.parameters import RunParameters
from gta.studies.second_view import TWO_VIEWS
from gta.studies.study import Key, Study
from gta.transduct import class_features, transduct

VIEWS = 10  # augmented views of a support image: Tip-Adapter's number; CoOp takes one after another, epoch by epoch
ON_TOP = "+ transduction"  # the end of a variant


class Peers(RunParameters):
    """Parameters of `notebooks/peers.ipynb`.

    pool: a folder of unlabelled images that SuS-X retrieves from; None takes the training images of an embedded dataset. generated:
    a folder of generated images, with one sub-folder for each class. shots: the numbers of shots of the few-shot table; the
    base-to-new table takes the largest; empty for a dataset without training images.
    """

    pool: str | None
    generated: str | None
    shots: list[int]

    @property
    def chosen_shots(self) -> list[int]:
        return self.shots[:1] if self.smoke else self.shots

    @property
    def epochs(self) -> int | None:
        """Epochs of learned contexts: None means the papers' numbers; a smoke run takes two."""
        return 2 if self.smoke else None

    @property
    def unlabelled(self) -> Sequence | None:
        """Images that SuS-X retrieves from: those of `pool`, or the training images of an embedded dataset; else None.

        Raises ValueError if the folder `pool` holds no images.
        """
        if self.pool is None:
            return tasks.labelled(self.dataset)[0] if self.task.facts else None
        if not (ROOT / self.pool).is_dir():
            raise ValueError(f"pool: no folder {self.pool}")
        found, left_out = folders.images(ROOT / self.pool, folders.Links())
        if not found:
            raise ValueError(f"pool: no image in {self.pool}: {folders.told(left_out, ROOT / self.pool) or 'it is empty'}")
        return sorted(found)


@dataclass
class Bench(Study):
    """A study whose methods all start from the same features.

    chosen: {method: hyperparameters}, those that are best on the validation images.
    """

    chosen: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def features(self) -> Tensor:
        """Unit features (N, d) of the query images."""
        return self.encoder.encode_images(self.images.pixels)

    def fresh(self) -> "Bench":
        """A bench of the same task without measurements, with the features that it has."""
        other = super().fresh()
        other.chosen = {}
        return other

    def of_part(self, part: str, store: Path | None = None) -> "Bench":
        """A bench of a part of the dataset (`gta.data.parts`)."""
        return self.on(tasks.load(f"{self.task.source}#{part}"), store)

    def class_features(self, of_classes: Sequence[Sequence[str]] | None = None) -> Tensor:
        """Unit class features (M, d) of one list of texts for each class, by default the texts of the bank."""
        return class_features([self.encoder.encode_texts(of_class) for of_class in of_classes or self.first_texts.texts])

    def clip(self, features: Tensor | None = None, bank: Bank | None = None) -> Tensor:
        """CLIP's logits: the scaled mean cosine between an image and the texts of each class.

        features: of images, by default the query images; bank: its texts are the classes' texts, by default the first bank.
        """
        features = self.features if features is None else features
        means = torch.stack([self.encoder.encode_texts(of_class).mean(0) for of_class in (bank or self.first_texts).texts])
        return texts.clip_logits(features, means, self.encoder.logit_scale)

    def transduced(self, prior: Tensor) -> Tensor:
        """Assignments (N, M) of transduction that starts from a prior (N, M)."""
        return transduct(self.features, prior).assignments

    def measure_texts(self) -> None:
        """Measure what reads texts and learns nothing, each alone and with transduction on top: CLIP, CLIP with attributes, a prompt
        ensemble, and CuPL, whose sentences are the first attributes."""

        def means(of_classes: Sequence[Sequence[str]]) -> Tensor:
            return texts.clip_logits(self.features, self.class_features(of_classes), self.encoder.logit_scale).softmax(1)

        names, on_top = self.task.class_names, self.transduced
        self.measure("CLIP", lambda: self.clip(bank=self.names_only).softmax(1), on_top, called=("TransCLIP", ""))
        self.measure("CLIP+attributes", lambda: self.clip(bank=self.static).softmax(1), on_top, called=("TransCLIP+attributes", ""))
        self.measure("prompt ensemble", lambda: means(texts.ensemble(names, texts.templates(self.task.domain))), on_top)
        self.measure("CuPL", lambda: means(self.static.without_templates().texts), on_top)

    def measure(
        self,
        method: str,
        work: Callable[[], Tensor],
        on_top: Callable[[Tensor], Tensor] | None = None,
        variant: str = "",
        called: Key | None = None,
        before: float = 0.0,
    ) -> None:
        """Record the assignments that `work` returns and, if `on_top` is given, those of transduction that starts from them.

        called: the name of the second outcome; before: seconds that the method has already used.
        """
        prior, seconds = timed(work)
        seconds += before
        self.outcomes[method, variant] = (prior, seconds, self.baseline)
        if on_top:
            z, more = timed(lambda: on_top(prior.to(self.features)))
            key = called or (method, ", ".join(filter(None, (variant, ON_TOP))))
            self.outcomes[key] = (z, seconds + more, (method, variant))


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Call `work`. Returns its result, on the CPU, and its seconds."""
    start = time.perf_counter()
    result = work().cpu()  # the copy waits for the GPU
    return result, time.perf_counter() - start


def gta_clip(bench: Bench, support: "Support | None" = None, *, view: Tensor | None = None, **changes: float) -> Bank:
    """Measure the whole method from the static attributes. Its seconds include one encoding of the images for each iteration after the
    first. Returns the grown bank.

    support: labelled images, for the few-shot setting; view: features (N, d2) of the query images by the second encoder, for the method of
    two views; changes: other values of its settings.
    """
    given: dict[str, Any] = {"features": bench.features, "view": view}
    if support:
        given |= {"features": torch.cat([bench.features, support.features]), "support": (support.images, support.labels.cpu())}
    banks = []

    def work() -> Tensor:
        result = bench.run(bench.static, bench.llm, changes=changes, checkpoints=None, progress=False, **given)
        banks.append(result.attributes)
        return result.assignments

    bench.measure("GTA-CLIP-FS" if support else "GTA-CLIP", work, variant="" if view is None else TWO_VIEWS)
    return banks[0]


@dataclass
class Support:
    """Labelled images: features (S, d), features of augmented views (V, S, d) and classes (S,); features and classes to validate."""

    images: Images
    features: Tensor
    views: Tensor
    labels: Tensor
    val_features: Tensor
    val_labels: Tensor

    @classmethod
    def of(cls, bench: Bench, labelled: tasks.Labelled, validation: tasks.Labelled, store: Path | None = None) -> "Support":
        encoder, device = bench.encoder, bench.features.device
        images, val_images = (load_images(part.images, encoder, store=store) for part in (labelled, validation))
        augment = bench.task.augmentation(encoder.image_size)
        labels, val_labels = (torch.as_tensor(part.labels).long().to(device) for part in (labelled, validation))
        features, val_features = encoder.encode_images(images.pixels), encoder.encode_images(val_images.pixels)
        return cls(images, features, views_of(encoder, images, augment, bench.settings.seed), labels, val_features, val_labels)


def views_of(encoder: Encoder, images: Images, augment: Callable[[Tensor], Tensor], seed: int, count: int = VIEWS) -> Tensor:
    """Unit features (count, S, d) of augmented views of each image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = [torch.stack([augment(images.original(i)) for i in range(len(images))]) for _ in range(count)]
    return torch.stack([encoder.encode_images(view) for view in drawn])


def score(
    measured: Iterable[tuple[str, int, Bench]], backbone: str, source_hash: str, status: str = "done"
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Score benches, each with its table and number of shots. Only this function uses labels of query images.

    Returns rows and per-image predictions, as `gta.scores.results.measure` does. The image ids of a part of a dataset are in
    `<task>.image_id`.
    """
    rows: list[Row] = []
    predictions: dict[str, np.ndarray] = {}
    for table, shots, bench in measured:
        of_bench, predicted = bench.score(backbone, table, source_hash, status, shots)
        rows += of_bench
        if "#" in bench.task.name:
            predicted[f"{bench.task.name}.image_id"] = predicted.pop("image_id")
        predictions |= predicted
    return rows, predictions


def write(measured: Iterable[tuple[str, int, Bench]], parameters: Peers) -> list[Row]:
    """Score benches, and write `rows.csv` and `predictions.npz` into the folder of the notebook."""
    source_hash = hashes.source_hash(shipped("notebooks/peers.ipynb"))
    rows, predictions = score(measured, parameters.named_backbone, source_hash, parameters.status)
    write_run(ROOT / parameters.out, rows, predictions)
    return rows
