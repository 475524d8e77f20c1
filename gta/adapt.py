"""Step 3, adapt: fine-tune both encoders on the most confident images of each class.

The loss comes from *Improved Zero-Shot Classification by Adapting VLMs with Text Descriptions* (arXiv 2401.02460): an
image matches every text of its batch that belongs to one of its classes.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from gta.encoders.encoder import Encoder
from gta.settings import Settings


@dataclass(frozen=True)
class Selection:
    """images: (P,) row numbers, in an order that does not depend on how the images are stored; classes: (P, M) bool."""

    images: Tensor
    classes: Tensor


def confident_images(assignments: Tensor, count: int = 8) -> Selection:
    """For each class the `count` images with the largest z_.j; an image chosen by several classes belongs to all of them.

    assignments: (N, M). The order is by class, then by falling z.
    """
    top = assignments.topk(min(count, len(assignments)), dim=0).indices.T.cpu()  # (M, count)
    images = torch.tensor(list(dict.fromkeys(top.flatten().tolist())))
    classes = (top[None] == images[:, None, None]).any(2)
    return Selection(images, classes)


def with_support(selection: Selection, labels: Tensor, queries: int) -> Selection:
    """The selection and every support image, numbered after the query images, with its true class."""
    classes = F.one_hot(labels, selection.classes.shape[1]).bool()
    return Selection(
        torch.cat([selection.images, queries + torch.arange(len(labels))]),
        torch.cat([selection.classes, classes.to(selection.classes.device)]),
    )


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


def adapt(
    encoder: Encoder,
    original: Callable[[int], Tensor],
    selection: Selection,
    texts: Sequence[Sequence[str]],
    settings: Settings,
    augment: Callable[[Tensor], Tensor],
    seed: int,
    groups: Callable[[nn.Module, Settings], list[dict]] | None = None,
    progress: bool = False,
) -> float:
    """One pass over the selected images in shuffled batches, each with one text drawn from the texts of its classes.

    original: from a row number to the image, uint8 (3, h, w), that `augment` is given; texts: M lists; groups: which
    parameters learn, and how fast, by default `parameter_groups`. Changes the encoder's weights in place and returns the
    mean loss. The optimiser is made anew; normalisation layers stay in eval mode. What is drawn depends on `seed` alone,
    on a GPU too, where worker processes decode and augment ahead.
    """
    optimizer = torch.optim.AdamW(
        (groups or parameter_groups)(encoder.model, settings), betas=(0.9, 0.98), eps=1e-6, weight_decay=settings.weight_decay, fused=True
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = torch.randperm(len(selection.images)).split(settings.batch_size)
        drawn = [draw_texts(selection.classes[batch], texts) for batch in batches]
    loader = _views_ahead(original, augment, selection, batches, seed, encoder.device)
    losses = []
    steps = tqdm(
        zip(batches, drawn, loader, strict=True), "adapting", len(batches), unit="batch", delay=5, leave=False, disable=not progress
    )
    for batch, (sentences, owners), views in steps:
        positives = selection.classes[batch][:, owners].to(encoder.device)
        scale = encoder.model.logit_scale.exp()
        loss = adaptation_loss(encoder.image_features(views), encoder.text_features(sentences), positives, scale)
        encoder.model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    encoder.model.zero_grad()
    return float(torch.stack(losses).mean())


def _views_ahead(original: Callable, augment: Callable, selection: Selection, batches: Sequence[Tensor], seed: int, device: torch.device):
    """Batches of augmented images, made by worker processes ahead of a GPU; on a CPU they would take what training needs."""
    cuda = device.type == "cuda"
    views = _Views(original, augment, selection.images.tolist(), seed)
    workers = min(8, os.cpu_count() or 1) if cuda else 0
    order = [batch.tolist() for batch in batches]
    # The generator is the loader's own, so that it draws nothing from the global one.
    return DataLoader(views, batch_sampler=order, num_workers=workers, pin_memory=cuda, generator=torch.Generator())


class _Views(Dataset):
    """Augmented images, each from a random state of its own: the same in any order and on any number of workers."""

    def __init__(self, original: Callable[[int], Tensor], augment: Callable[[Tensor], Tensor], rows: list[int], seed: int):
        self._original, self._augment, self._rows, self._seed = original, augment, rows, seed

    def __getitem__(self, i: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 2**20 + i)
            return self._augment(self._original(self._rows[i]))


def draw_texts(classes: Tensor, texts: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """For each image one text, every text of its classes equally likely, and the class that owns it.

    classes: (B, M) bool. Returns B strings and (B,) class numbers.
    """
    counts = torch.tensor([len(of_class) for of_class in texts])
    owners = torch.multinomial(classes * counts.double(), 1).squeeze(1)
    ranks = (torch.rand(len(owners)) * counts[owners]).long()
    return [texts[c][k] for c, k in zip(owners.tolist(), ranks.tolist(), strict=True)], owners


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict]:
    """The projections into the shared space at `lr_projection`, the rest of both encoders at `lr`, the logit scale left out."""
    towers = (model, model.visual, getattr(model, "text", None))
    owners = (*towers, getattr(model.visual, "attnpool", None), getattr(model.visual, "trunk", None))
    heads = [getattr(owner, name, None) for owner in owners for name in ("proj", "text_projection", "c_proj", "head")]
    projections = [p for head in heads for p in _matrices(head)]
    chosen = {id(p) for p in projections}
    scales = {"logit_scale", "logit_bias"}
    rest = [p for name, p in model.named_parameters() if id(p) not in chosen and name not in scales]
    return [{"params": projections, "lr": settings.lr_projection}, {"params": rest, "lr": settings.lr}]


def _matrices(head: nn.Module | nn.Parameter | None) -> list[nn.Parameter]:
    """The linear maps of a head, which may hold a norm and a dropout too."""
    if isinstance(head, nn.Module):
        return [p for module in head.modules() if isinstance(module, nn.Linear) for p in module.parameters()]
    return [] if head is None else [head]
