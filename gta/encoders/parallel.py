"""Several processes, such as one for each GPU, read the batches of one run of adapt: the same draws, and the same numbers to rounding.

    torchrun --nproc-per-node 2 -m gta label ...

The first process does all that a run does: it asks, solves, takes the steps of the optimiser and writes. The others wait, and read their
share of each batch with its weights. The loss needs the features of all images and texts of a batch, so the first process gathers them:
L(f_1, ..., f_R) with f_r = the features of share r. It hands back dL/df_r, and the gradient of the weights w is the sum over the shares

    dL/dw = sum_r (df_r/dw)^T dL/df_r,

which is exact, since no image is normalised by others: normalisation layers stay in eval mode.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gta.encoders.encoder import Encoder

PATIENCE = timedelta(days=30)  # the others wait while the first process encodes, solves and asks


@contextmanager
def crew() -> Iterator[bool]:
    """Whether this process leads. Where torchrun started several, the others do their share in here, until the block of the first ends."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield True
        return
    if cuda := torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        if dist.get_rank() > 0:
            _help()
            yield False
        else:
            try:
                yield True
            finally:
                _tell(None)
    finally:
        dist.destroy_process_group()


class Shared:
    """An encoder whose batches the processes share; where there is one process, it reads them alone."""

    def __init__(self, encoder: Encoder):
        self.encoder, self._several = encoder, dist.is_available() and dist.is_initialized()
        if self._several and dist.get_rank() == 0:
            _tell((replace(encoder, model=copy.deepcopy(encoder.model).cpu()), encoder.device.type))

    def features(self, views: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit features of images and of texts, (B, d) each, of uint8 views (B, 3, H, W) and B texts; differentiable.

        After the backward pass of what is made of them, and before the next step, `sum_gradients` is called.
        """
        if not self._several:
            of_texts = self.encoder.text_features(texts)
            return self.encoder.image_features(views), of_texts
        _tell((views, texts, torch.is_grad_enabled()))
        return self._gathered(views, texts)

    def sum_gradients(self) -> None:
        """Add the other processes' gradients to those of this one, of all weights that a batch went through."""
        if not self._several:
            return
        learns = [p for p in _towers(self.encoder.model) if p.requires_grad]
        flat = _flat([torch.zeros_like(p) if p.grad is None else p.grad for p in learns])
        dist.all_reduce(flat)
        _spread(flat, [p.grad for p in learns], learns)

    def help(self, views: Tensor, texts: Sequence[str], learns: bool) -> None:
        """The share of another process than the first in one batch."""
        self.encoder.model.zero_grad()
        with torch.set_grad_enabled(learns), self.encoder.threads():
            features = torch.cat(self._gathered(views, texts), 1)
            if learns:
                features.backward(torch.zeros_like(features))  # the first process has the gradient
                self.sum_gradients()

    def _gathered(self, views: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        weights = [p.detach() for p in self.encoder.model.parameters()]
        flat = _flat(weights)
        dist.broadcast(flat, 0)
        _spread(flat, weights, weights)
        rows = list(range(dist.get_rank(), len(texts), dist.get_world_size()))
        read = rows or [0]  # a share without rows goes through the same weights, and adds 0 to their gradients
        of_texts = self.encoder.text_features([texts[i] for i in read])
        own = torch.cat([self.encoder.image_features(views[read]), of_texts], 1)[: len(rows)]
        images, of_texts = _Gathered.apply(own, rows, len(texts)).chunk(2, 1)
        return images, of_texts


class _Gathered(torch.autograd.Function):
    """All rows, (B, d), of each process's own. Backward: the own rows of the first process's gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: list[int], total: int) -> Tensor:
        ctx.rows = rows
        gathered = own.new_zeros(total, own.shape[1])
        gathered[rows] = own
        dist.all_reduce(gathered)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        dist.broadcast(gradient, 0)
        return gradient[ctx.rows], None, None


def _help() -> None:
    """Do what the first process tells, until it has ended."""
    shared = None
    while (told := _told()) is not None:
        if shared is None or isinstance(told[0], Encoder):
            encoder, device = told
            encoder.model.to(device)
            shared = Shared(encoder)
        else:
            shared.help(*told)


def _tell(what: object) -> None:
    dist.broadcast_object_list([what], 0, device=torch.device("cpu"))


def _told() -> Any:
    box: list[Any] = [None]
    dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def _towers(model: nn.Module) -> list[nn.Parameter]:
    """The weights that features depend on: all but the scale and the bias of the logits, which belong to the loss."""
    return [p for name, p in model.named_parameters() if name not in ("logit_scale", "logit_bias")]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _spread(flat: Tensor, tensors: Sequence[Tensor | None], shapes: Sequence[Tensor]) -> None:
    """Copy a flat tensor back; None takes nothing: a weight without a gradient is left alone by the optimiser, and must stay so."""
    for tensor, part in zip(tensors, flat.split([shape.numel() for shape in shapes]), strict=True):
        if tensor is not None:
            tensor.copy_(part.view(tensor.shape))
