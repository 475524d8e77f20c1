"""Step 3, adapt: fine-tune both encoders on the most confident images of each class.

The loss comes from *Improved Zero-Shot Classification by Adapting VLMs with Text Descriptions* (arXiv 2401.02460): an
image matches every text of its batch that belongs to one of its classes.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from gta.affinity import largest
from gta.encoders.encoder import Encoder
from gta.encoders.parallel import Shared
from gta.labels import SparseZ, log_odds
from gta.optimizers import OPTIMIZERS, Regime
from gta.settings import Settings

ENTRIES = 2**22  # log-odds that are made at once


@dataclass(frozen=True)
class Selection:
    """images: (P,) row numbers; classes: (P, M) bool."""

    images: Tensor
    classes: Tensor


def confident_images(z: Tensor | SparseZ, count: int = 8, key: Callable[[int], bytes] | None = None) -> Selection:
    """For each class the `count` images with the largest z_.j; an image chosen by several classes belongs to all of them.

    z: logits (N, M), whose softmax is z, or a sparse z, of which a class may be held by fewer images. Images are ranked by log-odds, since
    z itself is 1 for most of them. key: from a row to a hash of its image, which ranks equals; without it the lower row comes first.
    Images stand by class, then by falling z.
    """
    chosen = _rows_of_held(z, count, key) if isinstance(z, SparseZ) else _rows_of_all(z, count, key)
    place = {row: i for i, row in enumerate(dict.fromkeys(row for rows in chosen for row in rows))}
    classes = torch.zeros(len(place), len(chosen), dtype=torch.bool)
    classes[[place[row] for rows in chosen for row in rows], [j for j, rows in enumerate(chosen) for _ in rows]] = True
    return Selection(torch.tensor([*place]), classes)


def _rows_of_all(logits: Tensor, count: int, key: Callable[[int], bytes] | None) -> list[list[int]]:
    """The rows of the most confident images of each class, of logits (N, M)."""
    parts = logits.split(max(1, ENTRIES // logits.shape[1]))
    odds, count = torch.cat([log_odds(part.double()) for part in parts]).T, min(count, len(logits))  # (M, N)
    top = odds.gather(1, rows := largest(odds, count)).sort(dim=1, descending=True, stable=True)
    chosen = rows.gather(1, top.indices).tolist()
    if key is not None:
        last = top.values[:, -1:]
        for j in ((odds >= last).sum(1) > count).nonzero()[:, 0].tolist():
            better = [row for row, odd in zip(chosen[j], top.values[j].tolist(), strict=True) if odd > float(last[j])]
            equals = (odds[j] == last[j]).nonzero()[:, 0].tolist()
            chosen[j] = [*better, *sorted(equals, key=key)[: count - len(better)]]
    return chosen


def _rows_of_held(z: SparseZ, count: int, key: Callable[[int], bytes] | None) -> list[list[int]]:
    """The same, of the classes that a sparse z holds."""
    part = max(1, ENTRIES // z.classes.shape[1])
    parts = zip(z.values.split(part), z.rest.split(part), strict=True)
    odds = torch.cat([log_odds(torch.cat([held, rest[:, None]], 1).double().log())[:, :-1] for held, rest in parts]).flatten()
    order = odds.argsort(descending=True, stable=True)
    order = order[z.classes.flatten()[order].argsort(stable=True)]  # by class, then by falling odds, then by row
    sizes = torch.bincount(z.classes.flatten(), minlength=z.size).tolist()
    chosen = []
    for of, places in zip(odds[order].split(sizes), (order // z.classes.shape[1]).split(sizes), strict=True):
        rows = places[:count].tolist()
        if key is not None and len(places) > count and of[count - 1] == of[count]:
            better, equals = places[of > of[count - 1]].tolist(), places[of == of[count - 1]].tolist()
            rows = [*better, *sorted(equals, key=key)[: count - len(better)]]
        chosen.append(rows)
    return chosen


@dataclass(frozen=True)
class Batch:
    """What one step of adapt sees. images: (B,) rows; texts: one for each image; positives: (B, B) bool, image x text; views: for
    each image the seed of its augmentation, or the augmented images themselves, uint8 (B, 3, H, W)."""

    images: Tensor
    texts: list[str]
    positives: Tensor
    views: list[int] | Tensor


def draw_batches(selection: Selection, texts: Sequence[Sequence[str]], size: int, seed: str, key: Callable[[int], bytes]) -> list[Batch]:
    """Each image once, with one view and one text; all texts of its classes are equally likely.

    What is drawn for an image depends on `seed` and its own content alone, never on its rank or on the other images: an image
    keeps its text and its view if others are swapped. Images are sorted by their draw and cut into batches.
    texts: M lists; key: from a row to a hash of its image, so that equal images get equal draws.
    """
    drawn = [hashlib.sha256(seed.encode() + key(row)).digest() for row in selection.images.tolist()]
    batches = []
    for part in torch.tensor(sorted(range(len(drawn)), key=drawn.__getitem__)).split(size):
        chosen = [_text(drawn[i], selection.classes[i], texts) for i in part.tolist()]
        owners = torch.tensor([owner for _, owner in chosen])
        views = [int.from_bytes(drawn[i][8:16]) >> 1 for i in part.tolist()]
        batches.append(Batch(selection.images[part], [text for text, _ in chosen], selection.classes[part][:, owners], views))
    return batches


def _text(drawn: bytes, classes: Tensor, texts: Sequence[Sequence[str]]) -> tuple[str, int]:
    """A text of an image's classes, (M,) bool, and the class that owns it."""
    offered = [(text, j) for j in classes.nonzero()[:, 0].tolist() for text in texts[j]]
    return offered[int.from_bytes(drawn[16:24]) * len(offered) >> 64]


def with_support(selection: Selection, labels: Tensor, queries: int) -> Selection:
    """The selection and every support image, numbered after the query images, with its true class."""
    if len(labels) == 0:
        return selection
    classes = torch.zeros(len(labels), selection.classes.shape[1], dtype=torch.bool)
    classes[torch.arange(len(labels)), labels] = True
    return Selection(torch.cat([selection.images, queries + torch.arange(len(labels))]), torch.cat([selection.classes, classes]))


def adaptation_loss(image_features: Tensor, text_features: Tensor, positives: Tensor, logit_scale: float | Tensor) -> Tensor:
    """mean_i mean_{k in P_i} -log softmax_row(logits)_ik + mean_j mean_{i in Q_j} -log softmax_col(logits)_ij.

    image_features, text_features: (B, d) unit rows; positives: (B, B) bool, image x text, true where the text belongs to
    a class of the image: P_i is row i, Q_j column j; logits = logit_scale * image . text.
    """
    logits = logit_scale * image_features @ text_features.T
    matches = positives.to(logits)
    return -(_mean_over(matches, logits.log_softmax(1), 1) + _mean_over(matches, logits.log_softmax(0), 0))


def _mean_over(matches: Tensor, log_probability: Tensor, dim: int) -> Tensor:
    return ((matches * log_probability).sum(dim) / matches.sum(dim).clamp_min(1)).mean()


def natural_augmentation(size: int) -> Callable[[Tensor], Tensor]:
    """Random resized crop (scale 0.08 to 1), horizontal flip, colour jitter: for photographs, uint8 (3, H, W)."""
    crop = v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0)])


@dataclass(frozen=True)
class Adapted:
    """What one pass did. loss: the mean over its batches; fall: of the loss on the first batch, from before the pass to after it;
    groups: by group of tensors, what its steps did (`gta.optimizers.Regime`)."""

    loss: float
    fall: float
    groups: dict[str, dict[str, float]]


def adapt(
    encoder: Encoder,
    original: Callable[[int], Tensor],
    batches: Sequence[Batch],
    settings: Settings,
    augment: Callable[[Tensor], Tensor],
    groups: Callable[[nn.Module, Settings], list[dict]] | None = None,
    optimizer: Callable[[nn.Module, list[dict], Settings], torch.optim.Optimizer] | None = None,
    progress: bool = False,
) -> Adapted:
    """Train both encoders for one pass over the batches, and change their weights in place.

    original: from a row number to the image, uint8 (3, h, w), that `augment` gets; batches: as `draw_batches` gives them; groups:
    which parameters learn, and how fast, by default `parameter_groups`; optimizer: makes one of the model and these groups, by default
    `settings.optimizer`. Each call makes a new one; normalisation layers stay in eval mode. For a GPU, worker processes decode and
    augment ahead. Several processes share each batch (`gta.encoders.parallel`).
    """
    learning = (groups or parameter_groups)(encoder.model, settings)
    stepper = (optimizer or OPTIMIZERS[settings.optimizer])(encoder.model, learning, settings)
    regime, losses = Regime(encoder.model, stepper), []  # type: tuple[Regime, list[Tensor]]
    shared = Shared(encoder)
    first: tuple[Batch, Tensor] | None = None
    loader = _views_ahead(original, augment, batches, encoder.device)
    steps = tqdm(zip(batches, loader, strict=True), "adapting", len(batches), unit="batch", delay=5, leave=False, disable=not progress)
    for batch, views in steps:
        first = first or (batch, views)
        encoder.model.zero_grad()
        loss = _loss(shared, batch, views)
        loss.backward()
        shared.sum_gradients()
        stepper.step()
        losses.append(loss.detach())
    encoder.model.zero_grad()
    with torch.no_grad():
        fall = losses[0] - _loss(shared, *first) if first else torch.zeros(())
    return Adapted(float(torch.stack(losses).mean()), float(fall), regime.groups)


def _loss(shared: Shared, batch: Batch, views: Tensor) -> Tensor:
    images, texts = shared.features(views, batch.texts)
    scale = shared.encoder.model.logit_scale.exp()
    return adaptation_loss(images, texts, batch.positives.to(shared.encoder.device), scale)


def _views_ahead(original: Callable, augment: Callable, batches: Sequence[Batch], device: torch.device) -> DataLoader:
    """Load the views of each batch. Worker processes make them ahead of a GPU; on a CPU they would take what training needs."""
    cuda = device.type == "cuda"
    views = [(int(row), view) for batch in batches for row, view in zip(batch.images, batch.views, strict=True)]
    order = torch.arange(len(views)).split([len(batch.images) for batch in batches])
    workers = min(8, os.cpu_count() or 1) if cuda else 0
    # The generator is the loader's own, so that it draws nothing from the global one.
    return DataLoader(
        _Views(original, augment, views),
        batch_sampler=[part.tolist() for part in order],
        num_workers=workers,
        pin_memory=cuda,
        generator=torch.Generator(),
    )


class _Views(Dataset):
    """Augmented images, each from a random state of its own: the same in any order and on any number of workers."""

    def __init__(self, original: Callable[[int], Tensor], augment: Callable[[Tensor], Tensor], views: list[tuple[int, int | Tensor]]):
        self._original, self._augment, self._views = original, augment, views

    def __getitem__(self, i: int) -> Tensor:
        row, view = self._views[i]
        if isinstance(view, Tensor):
            return view
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(view)  # `torch.manual_seed` seeds every device too, and costs as much as the view
        try:
            return self._augment(self._original(row))
        finally:
            torch.set_rng_state(before)


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict]:
    """The projections into the shared space at `lr_projection`, the rest of both encoders at `lr`, the logit scale left out.

    `settings.learns` may leave out more of the rest, as the released program does (`gta.settings.Settings`).
    """
    towers = (model, model.visual, getattr(model, "text", None))
    owners = (*towers, getattr(model.visual, "attnpool", None), getattr(model.visual, "trunk", None))
    heads = [getattr(owner, name, None) for owner in owners for name in ("proj", "text_projection", "c_proj", "head")]
    projections = [p for head in heads for p in _matrices(head)]
    chosen = {id(p) for p in projections}
    scales = {"logit_scale", "logit_bias"}
    left_out = scales | ({name for name, _ in model.named_parameters() if "proj" in name} if settings.learns != "all" else set())
    rest = [p for name, p in model.named_parameters() if id(p) not in chosen and name not in left_out]
    return [{"params": projections, "lr": settings.lr_projection}, {"params": rest, "lr": settings.lr}]


def _matrices(head: nn.Module | nn.Parameter | None) -> list[nn.Parameter]:
    """The linear maps of a head, which may hold a norm and a dropout too."""
    if isinstance(head, nn.Module):
        return [p for module in head.modules() if isinstance(module, nn.Linear) for p in module.parameters()]
    return [] if head is None else [head]
