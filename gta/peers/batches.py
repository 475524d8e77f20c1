"""The runs for the map of where each method breaks: batches of few classes, streams and long tails, each batch inferred alone.

Labels of batches that belong together make one row. CLIP looks at each image alone, so a batch changes nothing for it. What takes a
second or more a batch (`SLOW`) gets the first of the batches; it has its own row of the baseline, on the same images.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Self

import torch
from pydantic import model_validator
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from gta import hashes
from gta.data import batches, tasks
from gta.encoders.images import Images
from gta.files import ROOT, shipped
from gta.names import nearest
from gta.peers.anchored import stata
from gta.peers.bench import Bench, score
from gta.peers.dirichlet import em_dirichlet
from gta.peers.fusion import fusion
from gta.peers.mixtures import gaussian_mixture, k_means
from gta.peers.propagation import zlap
from gta.scores.rows import Row, write_run
from gta.studies.parameters import RunParameters
from gta.studies.study import Key
from gta.transduct import transduct
from gta.transport import estimated_sizes

COUNTS = {"64": (10, 2), "1000": (3, 1)}  # batches of so many images: all, and the first ones that slow methods get
EFFECTIVE = ("verylow-64", "low-64", "medium-64", "medium-1000", "high-1000", "veryhigh-1000")
CONDITIONS = (*EFFECTIVE, "stream-100", "stream-10", "stream-1", "stream-0", "imbalanced-1", "imbalanced-10", "imbalanced-100")
SLOW: tuple[Key, ...] = (("EM-Dirichlet", ""), ("GTA-CLIP", ""))
Method = Callable[[Tensor], Tensor]  # from the rows of a batch, (n,), to assignments (n, M)


class Batches(RunParameters):
    """Parameters of `notebooks/batches.ipynb`. conditions: KIND-STRENGTH as in `gta.data.parts`, without the number of batches; [] takes
    those of the table."""

    conditions: list[str]

    @model_validator(mode="after")
    def _has_one_view(self) -> Self:
        if self.view:
            raise ValueError(f"view {self.view!r}: the map is of methods with one view; leave `view` out")
        return self

    @property
    def chosen(self) -> list[str]:
        """Raises ValueError for a condition that the table does not have."""
        for condition in self.conditions:
            if condition not in CONDITIONS:
                raise ValueError(f"conditions: unknown {condition!r}{nearest(condition, CONDITIONS)}; known: {', '.join(CONDITIONS)}")
        return list(self.conditions or (CONDITIONS[::4] if self.smoke else CONDITIONS))


def run(bench: Bench, parameters: Batches) -> list[Bench]:
    """Measure every condition that the dataset can hold, and say which it cannot: a bench for each part of it."""
    methods, measured = methods_of(bench), []
    for condition in parameters.chosen:
        if reason := lacks(condition, bench.task):
            print(f"{bench.task.name}: {condition} is left out: {reason}")
            continue
        for name, slow in parts_of(condition, parameters.seed, len(bench.images)).items():
            chosen = {key: method for key, method in methods.items() if key == bench.baseline or (key in SLOW) in slow}
            measured.append(on_part(bench, name, chosen))
    return measured


def lacks(condition: str, task: tasks.Task) -> str:
    """Why a dataset cannot hold a condition; nothing if it can. A range of classes that only begins within the dataset is cut."""
    kind, _, strength = condition.partition("-")
    images, classes = len(task.images), len(task.class_names)
    if kind == "stream" and images < batches.STREAM:
        return f"a batch has {batches.STREAM} images, and there are {images}"
    if kind in batches.RANGES and classes < batches.RANGES[kind][0]:
        return f"it begins with {batches.RANGES[kind][0]} classes, and there are {classes}"
    if kind == "imbalanced" and classes * int(strength) > images:
        return f"a class has {images // classes} images"
    return ""


def parts_of(condition: str, seed: int, images: int) -> dict[str, set[bool]]:
    """The parts of a condition (`gta.data.parts`), and whether methods that are slow, or those that are not, or both are run on each."""
    kind, _, strength = condition.partition("-")
    if kind == "imbalanced":
        return {f"{condition}-{seed}": {True, False}}
    whole = images // batches.STREAM
    every, few = (whole, min(2, whole)) if kind == "stream" else COUNTS[strength]
    parts: dict[str, set[bool]] = {}
    for count, slow in ((every, False), (few, True)):
        parts.setdefault(f"{condition}x{count}-{seed}", set()).add(slow)
    return parts


def on_part(bench: Bench, name: str, methods: Mapping[Key, Method]) -> Bench:
    """A bench with what methods gave on a part of the dataset, batch by batch. The features are those of the whole dataset."""
    part = bench.fresh()
    part.task = tasks.load(f"{bench.task.source}#{name}")
    places = {image: row for row, image in enumerate(bench.task.image_ids)}
    rows = torch.tensor([places[image] for image in part.task.image_ids])
    alone = rows.split(list(part.task.batches or (len(rows),)))
    print(f"{part.task.name}: {len(alone)} x {max(map(len, alone))} images")
    for (method, variant), infer in methods.items():
        part.measure(method, lambda infer=infer: torch.cat([infer(batch) for batch in alone]), variant=variant)  # type: ignore[misc]
    return part


def methods_of(bench: Bench) -> dict[Key, Method]:
    """The baseline and all methods that infer images jointly. They begin with the texts of the baseline; GTA-CLIP with its attributes."""
    x, prior, classes, scale = bench.features, bench.clip().softmax(1), bench.class_features(), bench.encoder.logit_scale
    transclip, first = f"Trans{bench.task.baseline}", bench.static
    equal = torch.full_like(classes[:, 0], 1 / len(classes))

    def whole_method(rows: Tensor) -> Tensor:
        images = some(bench.images, rows)
        return bench.run(first, bench.llm, images=images, features=x[rows], checkpoints=None, progress=False).assignments

    def sized(sizes: Callable[[Tensor], Tensor]) -> Method:
        return lambda rows: transduct(x[rows], prior[rows], sizes=sizes(prior[rows])).assignments

    return {
        bench.baseline: lambda rows: prior[rows],
        (transclip, ""): lambda rows: transduct(x[rows], prior[rows]).assignments,
        (transclip, "anchored"): lambda rows: transduct(x[rows], prior[rows], anchors=classes).assignments,
        (transclip, "equal sizes"): sized(lambda prior: equal),
        (transclip, "estimated sizes"): sized(estimated_sizes),
        ("StatA", ""): lambda rows: stata(x[rows], prior[rows], classes),
        ("OTFusion", ""): lambda rows: fusion([x[rows]], prior[rows]),
        ("ZLaP", ""): lambda rows: zlap(x[rows], classes),
        ("EM-Dirichlet", ""): lambda rows: em_dirichlet(x[rows], classes, scale),
        ("k-means", ""): enough(lambda images: k_means(images, classes, scale), x, len(classes)),
        ("GMM", ""): enough(lambda images: gaussian_mixture(images, classes), x, len(classes)),
        ("GTA-CLIP", ""): whole_method,
    }


def enough(cluster: Callable[[Tensor], Tensor], features: Tensor, clusters: int) -> Method:
    """scikit-learn refuses fewer points than clusters. It gets all of them several times, which changes no mean and no variance."""

    def infer(rows: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters are what is measured
            return cluster(features[rows].repeat(-(-clusters // len(rows)), 1))[: len(rows)]

    return infer


def some(images: Images, rows: Tensor) -> Images:
    """The images of these rows, (n,), in their order."""
    return Images(images.pixels[rows], lambda row: images.original(int(rows[row])), f"{images.sha256} {rows.tolist()}", {})


def write(measured: Iterable[Bench], parameters: Batches) -> list[Row]:
    """Score all parts and write `rows.csv` and `predictions.npz`. But for the choice of the images, labels enter only here."""
    source_hash = hashes.source_hash(shipped("notebooks/batches.ipynb"))
    rows, predictions = score((("batches", 0, part) for part in measured), parameters.named_backbone, source_hash, parameters.status)
    write_run(ROOT / parameters.out, rows, predictions)
    return rows
