"""Step 3, adapt: fine-tune both encoders on the most confident images of each class.

The loss comes from *Improved Zero-Shot Classification by Adapting VLMs with Text Descriptions* (arXiv 2401.02460): an
image matches every text of its batch that belongs to one of its classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from gta.encoders import Encoder
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


def adaptation_loss(image_features: Tensor, text_features: Tensor, positives: Tensor, logit_scale: float) -> Tensor:
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
    pixels: Tensor,
    selection: Selection,
    texts: Sequence[Sequence[str]],
    settings: Settings,
    augment: Callable[[Tensor], Tensor],
    seed: int,
) -> float:
    """One pass over the selected images in shuffled batches, each with one text drawn from the texts of its classes.

    pixels: uint8 (N, 3, H, W); texts: M lists. Changes the encoder's weights in place, but not its logit scale, and
    returns the mean loss. The optimiser is made anew; normalisation layers stay in eval mode.
    """
    optimizer = torch.optim.AdamW(
        parameter_groups(encoder.model, settings), betas=(0.9, 0.98), eps=1e-6, weight_decay=settings.weight_decay
    )
    losses = []
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for batch in torch.randperm(len(selection.images)).split(settings.batch_size):
            images = torch.stack([augment(pixels[i]) for i in selection.images[batch]])
            drawn, owners = draw_texts(selection.classes[batch], texts)
            positives = selection.classes[batch][:, owners].to(encoder.device)
            loss = adaptation_loss(encoder.image_features(images), encoder.text_features(drawn), positives, encoder.logit_scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


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
    owners = (model, model.visual, getattr(model, "text", None), getattr(model.visual, "attnpool", None))
    heads = [getattr(owner, name, None) for owner in owners for name in ("proj", "text_projection", "c_proj")]
    projections = [p for head in heads for p in (head.parameters() if isinstance(head, nn.Module) else [head]) if p is not None]
    chosen = {id(p) for p in projections}
    scales = {"logit_scale", "logit_bias"}
    rest = [p for name, p in model.named_parameters() if id(p) not in chosen and name not in scales]
    return [{"params": projections, "lr": settings.lr_projection}, {"params": rest, "lr": settings.lr}]
