"""Models whose text tower is one of transformers and lies in their own folder: they may be moved, and need no network.

The `open_clip_config.json` of such a folder says `"hf_model_name": "."` in its `text_cfg`: `config.json` beside it describes the tower.
open_clip alone would look for a model of that name in the current folder. One more field of `text_cfg` is ours:
`"conse_nodes": K` is the head `ConSE` of K named things in place of a linear map. open_clip has no such head, and refuses the folder.
"""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import load_checkpoint
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders.hub import MissingWeights

BESIDE = "."  # the `hf_model_name` of a tower that lies in the folder
NODES = "conse_nodes"
SHARPNESS = 20.0


class ConSE(nn.Module):
    """A text as a convex combination of things that it is like: V softmax(20 cos(x, k)), k the text features of K named things and V their
    vectors in the joint space. So Norouzi et al. (arXiv 1312.5650) give an image a vector among words; here a text gets one among images.
    """

    def __init__(self, width: int, nodes: int, dim: int):
        super().__init__()
        self.names = nn.Linear(width, nodes, bias=False)  # a row for each thing, of length 1
        self.vectors = nn.Linear(nodes, dim, bias=False)  # a column for each

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) of pooled text features (B, width)."""
        return self.vectors((SHARPNESS * self.names(F.normalize(x, dim=-1))).softmax(-1))


def is_beside(model_cfg: dict[str, Any]) -> bool:
    """Whether the text tower of a model lies in its folder."""
    return model_cfg["text_cfg"].get("hf_model_name") == BESIDE


def build(folder: Path, model_cfg: dict[str, Any]) -> open_clip.CustomTextCLIP:
    """The model that a folder describes, with random weights. Raises MissingWeights where transformers is missing."""
    if importlib.util.find_spec("transformers") is None:
        how = "`pip install '.[pocket]'`, or `pip install transformers`, installs it"
        raise MissingWeights(f"{folder}: its text tower is one of transformers, which is not installed; {how}")
    if not (folder / "config.json").is_file():
        raise MissingWeights(f"{folder}: config.json, which describes its text tower, is missing; copy the whole folder again")
    described = copy.deepcopy(model_cfg)
    text_cfg = described["text_cfg"]
    nodes = text_cfg.pop(NODES, None)
    text_cfg |= {"hf_model_name": str(folder.resolve()), "hf_model_pretrained": False}
    if "timm_model_name" in described["vision_cfg"]:
        described["vision_cfg"]["timm_model_pretrained"] = False
    model = open_clip.CustomTextCLIP(**described)
    if nodes is not None:
        model.text.proj = ConSE(model.text.config.hidden_size, nodes, described["embed_dim"])
    return model


def read(folder: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any], checkpoint: Path) -> open_clip.CustomTextCLIP:
    """The model of a folder with its weights and its preprocessing, as `open_clip.create_model` gives others."""
    model = build(folder, model_cfg)
    load_checkpoint(model, str(checkpoint))
    described = merge_preprocess_dict(PreprocessCfg(), preprocess_cfg)
    set_model_preprocess_cfg(model, {**described, "size": model.visual.image_size})
    return model
