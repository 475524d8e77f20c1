"""What learns in the released program, and in which precision: the logit scale too, and float16 weights."""

import copy
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import LayerNorm, LayerNormFp32
from torch import Tensor, nn

from gta import adapt
from gta.encoders.encoder import Encoder
from gta.settings import Settings


def learning_scale(model: nn.Module, settings: Settings) -> list[dict]:
    """All that learns here, and the logit scale with the same weight decay; use it with `solver_keeps_scale`."""
    projections, rest = adapt.parameter_groups(model, settings)
    return [projections, {**rest, "params": [*rest["params"], model.logit_scale]}]


@dataclass
class _Released(Encoder):
    """kept: the scale of the text prior, None for the model's own."""

    kept: float | None = None

    @classmethod
    def of(cls, encoder: Encoder, **changes: Any) -> "_Released":
        return cls(**{**{field.name: getattr(encoder, field.name) for field in fields(encoder)}, **changes})

    @property
    def logit_scale(self) -> float:
        return self.model.logit_scale.exp().item() if self.kept is None else self.kept

    def encode_images(self, pixels: Tensor, batch_size: int | None = None, progress: bool = False) -> Tensor:
        """On a CPU, where float16 takes eight times as long, float16 weights are read in float32: only activations are finer."""
        if self.device.type == "cpu" and self._dtype == torch.float16:
            exact = replace(self, model=copy.deepcopy(self.model).float())
            return exact.encode_images(pixels, batch_size, progress)
        return super().encode_images(pixels, batch_size, progress)


def solver_keeps_scale(encoder: Encoder) -> Encoder:
    """The same encoder, but its text prior keeps the present scale, 100 for OpenAI's weights, whatever adapt learns."""
    return _Released.of(encoder, kept=encoder.logit_scale)


def half(encoder: Encoder) -> Encoder:
    """`fp16`: a copy whose linear, convolution, attention and projection weights are float16, and with them their gradients
    and Adam's state; norms, embeddings and the logit scale stay float32."""
    mine = encoder.copy(torch.float32)
    convert_weights_to_lp(mine.model, torch.float16)
    for module in mine.model.modules():
        if isinstance(module, LayerNorm):
            module.__class__ = LayerNormFp32  # the same layer, which reads float16
    return _Released.of(mine, weights_sha256=f"{encoder.weights_sha256} in float16")
