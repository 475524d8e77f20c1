"""Image towers by a description that JSON holds, and the teacher's own tower made smaller.

A description is `{"timm": NAME, "args": {...}}`, or `{"open_clip": {...}, "mean": ...}` with the `embed_dim`, `vision_cfg` and `quick_gelu`
that `open_clip.CLIP` takes. mean: a residual network ends in the mean over its last map, not in attention over it.
"""

import math
from typing import Any

import open_clip
import timm
import torch
from torch import nn

Described = dict[str, Any]
NO_TEXTS = {
    "context_length": 4,
    "vocab_size": 4,
    "width": 8,
    "heads": 1,
    "layers": 1,
}  # the least that open_clip builds beside an image tower
RESIDUAL = 32  # channels of the last map of a residual network, in widths


def build(described: Described) -> nn.Module:
    """The tower of a description, from images (B, 3, H, W) to features (B, d), with weights from torch's global generator."""
    if "timm" in described:
        return timm.create_model(described["timm"], num_classes=0, **described.get("args", {}))
    tower = open_clip.CLIP(**described["open_clip"], text_cfg=NO_TEXTS).visual
    if described.get("mean"):
        tower.attnpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return tower


def size_of(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())


def smaller(config: dict[str, Any], share: float, classes: int) -> Described:
    """The teacher's image tower made so narrow that, with a head for `classes`, it has at most `share` of the parameters.

    config: of the teacher's encoder, as open_clip describes it. A residual network keeps its depth, and ends in the mean over its last map:
    in the small ones the attention there would take two parameters in three. A transformer gets half of the layers and keeps the number
    of heads, so that its attention maps can be compared with the teacher's (TinyBERT, arXiv 1909.10351, eq. 7).
    Raises ValueError where no width is small enough, and for a tower that is neither of the two.
    """
    whole, quick = config["vision_cfg"], bool(config.get("quick_gelu", False))
    if "width" not in whole or whole.get("timm_model_name"):
        kind = whole.get("timm_model_name") or "this kind"
        raise ValueError(f"teacher/{1 / share:g}: a tower of {kind} is not made narrower here; name a student of timm, such as resnet18")
    residual = isinstance(whole["layers"], (list, tuple))
    heads = 1 if residual else whole["width"] // whole.get("head_width", 64)

    def of_width(k: int) -> Described:
        cut = {"width": k, "head_width": RESIDUAL} if residual else {"width": heads * k, "head_width": k}
        if not residual:
            cut["layers"] = math.ceil(whole["layers"] / 2)
        tower = {"embed_dim": config["embed_dim"], "vision_cfg": {**whole, **cut}, "quick_gelu": quick}
        return {"open_clip": tower, "mean": residual}

    def parameters(k: int) -> int:
        with torch.device("meta"):
            features = RESIDUAL * k if residual else config["embed_dim"]
            return size_of(build(of_width(k))) + (features + 1) * classes

    with torch.device("meta"):
        most = share * size_of(build({"open_clip": {"embed_dim": config["embed_dim"], "vision_cfg": whole, "quick_gelu": quick}}))
    low, high = 2 if residual else 1, whole["width"] // heads  # the stem of a residual network has half of the width
    if parameters(low) > most:
        raise ValueError(
            f"teacher/{1 / share:g}: even the narrowest tower with its head has {parameters(low):,} parameters, not {most:,.0f}"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle) <= most else (low, middle)
    return of_width(low)
