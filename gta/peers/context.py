"""CoOp and CoCoOp: learned context words before the class name (IJCV 2022, arXiv 2109.01134; CVPR 2022, arXiv 2203.05557).

CoOp learns vectors v_1..v_M, which are shared by all classes or class-specific. The frozen text encoder encodes [v_1] .. [v_M] [name]
(equation 2). CoCoOp adds to them the output of a small network h of the image features: v_m(x) = v_m + h(x) (equation 3). Both are
trained with SGD by cross-entropy over class texts. The image encoder is frozen too, so the input is features of augmented views.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders.encoder import Encoder, text_lengths
from gta.peers.reading import Prompts, token_embedding

RATE, WARMUP_RATE, MOMENTUM, DECAY = 2e-3, 1e-5, 0.9, 5e-4  # of SGD; the first epoch is the warm-up
CONTEXT, SPREAD = 16, 0.02  # CoOp's M, and the standard deviation of its initial vectors
BATCH, EPOCHS = 32, {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}  # CoOp's batch size, and its epochs by number of shots
COCOOP_BATCH, COCOOP_EPOCHS, REDUCTION = 1, 10, 16


def epochs_for(shots: int) -> int:
    """CoOp's number of epochs for the next listed number of shots."""
    return next((epochs for listed, epochs in EPOCHS.items() if shots <= listed), max(EPOCHS.values()))


def words_as_context(encoder: Encoder, words: str) -> Tensor:
    """The token embeddings (1, L, w) of some words, such as "a photo of a": an initial context."""
    tokens = encoder.tokens([words])
    inside = tokens[:, 1 : int(text_lengths(tokens).max()) - 1]  # without the start and end tokens
    return token_embedding(encoder)(inside.to(encoder.device)).detach()


def random_context(encoder: Encoder, seed: int, length: int = CONTEXT, classes: int = 1) -> Tensor:
    """CoOp's initial context (classes, length, w): normal with standard deviation 0.02. classes: 1, or M for class-specific contexts."""
    width = token_embedding(encoder).embedding_dim
    drawn = torch.randn(classes, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (SPREAD * drawn).to(encoder.device, encoder.dtype)


def meta_network(encoder: Encoder, width: int, seed: int) -> nn.Sequential:
    """CoCoOp's h, from image features (B, d) to shifts of the context (B, w): two linear layers with a bottleneck of d / 16."""
    d = encoder.encode_texts([""]).shape[1]
    narrow = max(1, d // REDUCTION)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(d, narrow, dtype=torch.float64), nn.Linear(narrow, width, dtype=torch.float64)
        return nn.Sequential(first, nn.ReLU(), second).to(encoder.device, encoder.dtype)


@dataclass
class Learned:
    """A learned context (1 or C, L, w). meta: CoCoOp's h, which shifts the context for each image, or None; scale: CLIP's logit scale."""

    prompts: Prompts
    context: Tensor
    meta: nn.Module | None
    scale: float

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, C) of unit image features (B, d). They are differentiable in the context and in `meta`."""
        if self.meta is None:
            return self.scale * features @ self.prompts.features(self.context).T
        shifted = self.context + self.meta(features)[:, None, None, :]  # (B, 1, L, w)
        return self.scale * torch.einsum("bd,bcd->bc", features, self.prompts.features(shifted))

    @torch.no_grad()
    def predict(self, features: Tensor, batch: int = 256) -> Tensor:
        """Logits (N, C) of unit image features (N, d), without gradients."""
        return torch.cat([self.logits(part) for part in features.split(batch)])

    def for_classes(self, prompts: Prompts) -> "Learned":
        """The same context with other class names. Raises ValueError for a class-specific context, which has no vectors for them."""
        if len(self.context) != 1:
            raise ValueError("a class-specific context knows no other classes than its own; learn a unified one")
        return Learned(prompts, self.context, self.meta, self.scale)


def rate(epoch: int, epochs: int) -> float:
    """The learning rate of an epoch: one epoch of warm-up, then a cosine schedule from `RATE`, as in the released code."""
    return RATE * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2 if epoch else WARMUP_RATE


def learn(
    prompts: Prompts,
    context: Tensor,
    meta: nn.Module | None,
    scale: float,
    views: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int,
    seed: int,
) -> Learned:
    """Train CoOp (`meta` is None) or CoCoOp from an initial context.

    views: (V, S, d), unit features of V augmented views of S images; each epoch uses the next view; labels: (S,).
    """
    context = context.clone().requires_grad_()
    learned = Learned(prompts, context, meta, scale)
    parameters = [context, *(meta.parameters() if meta is not None else ())]
    optimizer = torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    chance = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = rate(epoch, epochs)
        for rows in torch.randperm(len(labels), generator=chance).to(labels.device).split(batch):
            loss = F.cross_entropy(learned.logits(views[epoch % len(views), rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    context.requires_grad_(False)
    return learned


def coop(
    encoder: Encoder,
    class_names: Sequence[str],
    template: str,
    views: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    seed: int,
    class_specific: bool = False,
    from_words: bool = False,
) -> Learned:
    """Train CoOp with 16 random vectors and batches of 32. The paper's numbers of epochs are in `EPOCHS`, by shots.

    from_words: start from the words of the template instead, like CoCoOp, and like CoOp in the CoCoOp paper.
    """
    words, _, ending = template.partition("{}")
    classes = len(class_names) if class_specific else 1
    context = words_as_context(encoder, words).repeat(classes, 1, 1) if from_words else random_context(encoder, seed, classes=classes)
    prompts = Prompts(encoder, class_names, ending, context.shape[1])
    return learn(prompts, context, None, encoder.logit_scale, views, labels, epochs=epochs, batch=BATCH, seed=seed)


def cocoop(
    encoder: Encoder, class_names: Sequence[str], template: str, views: Tensor, labels: Tensor, *, seed: int, epochs: int = COCOOP_EPOCHS
) -> Learned:
    """Train CoCoOp from the words of a template, such as "a photo of a {}.", with batches of one image."""
    words, _, ending = template.partition("{}")
    context = words_as_context(encoder, words)
    meta = meta_network(encoder, context.shape[-1], seed)
    prompts = Prompts(encoder, class_names, ending, context.shape[1])
    return learn(prompts, context, meta, encoder.logit_scale, views, labels, epochs=epochs, batch=COCOOP_BATCH, seed=seed)
