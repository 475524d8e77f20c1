"""CLIP encoders: any open_clip model behind two calls, images to unit features and texts to unit features."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms

from gta.names import nearest

EMBEDDED = Path(__file__).parent / "embedded" / "encoders"
BIRDS = EMBEDDED.with_name("bird_encoders")  # the embedded encoders of the aviary
# The OpenAI weights were trained with QuickGELU; the plain names build nn.GELU and are silently a different model.
OPENAI = {"ViT-B/32": "ViT-B-32-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu", "ViT-L/14": "ViT-L-14-quickgelu"}


@dataclass
class Encoder:
    """A CLIP model with its tokenizer; `store` is its own resizing and cropping, from a PIL image to uint8 (3, H, W)."""

    model: open_clip.CLIP
    tokenizer: Callable[[list[str]], Tensor]
    store: Callable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    weights_sha256: str

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def image_size(self) -> int:
        """Pixels a side of the images that the model reads."""
        size = self.model.visual.image_size
        return size[0] if isinstance(size, tuple) else size

    @property
    def logit_scale(self) -> float:
        """The model's own scale tau, 100 for the OpenAI weights."""
        return self.model.logit_scale.exp().item()

    def copy(self) -> "Encoder":
        """The same encoder with weights of its own."""
        return replace(self, model=copy.deepcopy(self.model))

    def image_features(self, pixels: Tensor) -> Tensor:
        """Unit features (B, d) of a batch of uint8 pixels (B, 3, H, W); differentiable."""
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        with self._autocast():
            features = self.model.encode_image((pixels.to(self.device).float() / 255 - mean) / std)
        return F.normalize(features.float(), dim=-1)  # outside of autocast: bf16 is too coarse for unit rows

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features (n, d) of texts; differentiable."""
        with self._autocast():
            features = text_forward(self.model, self.tokenizer(list(texts)).to(self.device))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor, batch_size: int = 256) -> Tensor:
        """Unit features, float32 (N, d), of uint8 pixels (N, 3, H, W), on the encoder's device."""
        return torch.cat([self.image_features(batch) for batch in pixels.split(batch_size)])

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Unit features, float32 (n, d), of texts; batches are of similar length, so that little padding is read."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [self.text_features([texts[i] for i in order[s : s + batch_size]]) for s in range(0, len(order), batch_size)]
        features = torch.empty(len(texts), parts[0].shape[1], device=self.device)
        features[torch.tensor(order, device=self.device)] = torch.cat(parts)
        return features

    def shorten(self, text: str) -> str:
        """The text, or as many of its first words as the text encoder reads; it would drop the rest without a word."""
        words = text.split()
        while len(words) > 1 and not self._fits(" ".join(words)):
            words.pop()
        return text if len(words) == len(text.split()) else " ".join(words)

    def _fits(self, text: str) -> bool:
        """Whether the last place of the context stays free: tokenizers fill it when they cut."""
        if isinstance(self.tokenizer, WordTokenizer):
            return self.tokenizer.length(text) <= self.tokenizer.context_length
        return bool(self.tokenizer([text])[0, -1] == self.tokenizer([""])[0, -1])

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


def load(name: str, *, pretrained: str | None = None, seed: int = 0, device: str | None = None, embedded: Path = EMBEDDED) -> Encoder:
    """An encoder by name.

    name: `embedded` (the encoder of `seed` in the folder `embedded`, which a task names), `ViT-B/32`, `ViT-B/16` or
    `ViT-L/14` (OpenAI weights, QuickGELU), any architecture of open_clip together with one of its `pretrained` tags, or a
    folder like `gta/embedded/encoders`.
    pretrained: a tag or a checkpoint file; `random` leaves the weights as initialised with `seed`.
    device: by default the GPU where there is one. Raises ValueError for a name or tag that does not exist,
    and open_clip's RuntimeError, which names file and repository, for weights that are neither cached nor reachable.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = embedded if name == "embedded" else Path(name)
    if (folder / "open_clip_config.json").exists():
        return _from_folder(folder, seed, name, device)
    architecture = OPENAI.get(name, name)
    pretrained = pretrained or ("openai" if name in OPENAI else None)
    if architecture not in open_clip.list_models():
        raise ValueError(f"unknown backbone {name!r}{nearest(name, ['embedded', *OPENAI, *open_clip.list_models()])}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained != "random" and pretrained not in tags and not Path(pretrained or "").is_file():
        raise ValueError(f"backbone {name!r} needs pretrained weights: one of {tags}, or a checkpoint file, not {pretrained!r}")
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, pretrained=None if pretrained == "random" else pretrained, device=device)
    return _encoder(model, open_clip.get_tokenizer(architecture), open_clip.get_model_preprocess_cfg(model), name)


def _from_folder(folder: Path, seed: int, name: str, device: str) -> Encoder:
    weights = folder / f"seed{seed}.safetensors"
    if not weights.exists():
        raise ValueError(
            f"{name!r} has no encoder of seed {seed}; its seeds: {', '.join(sorted(f.stem[4:] for f in folder.glob('seed*.safetensors')))}"
        )
    config = json.loads((folder / "open_clip_config.json").read_text())
    model = open_clip.CLIP(**config["model_cfg"])
    model.load_state_dict(load_file(weights))
    tokenizer = WordTokenizer(folder / "tokenizer.json", config["model_cfg"]["text_cfg"]["context_length"])
    return _encoder(model.to(device), tokenizer, {"size": model.visual.image_size, **config["preprocess_cfg"]}, name)


def _encoder(model: open_clip.CLIP, tokenizer: Callable, preprocess: dict, name: str) -> Encoder:
    config = PreprocessCfg(**preprocess)
    steps = image_transform_v2(config, is_train=False).transforms
    resize = [step for step in steps if not isinstance(step, (transforms.ToTensor, transforms.Normalize))]
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    store = transforms.Compose([*resize, transforms.PILToTensor()])
    return Encoder(model.eval(), tokenizer, store, tuple(config.mean), tuple(config.std), name, digest.hexdigest())


class WordTokenizer:
    """A whole-word vocabulary in a `tokenizer.json`, called as open_clip calls its own tokenizers."""

    def __init__(self, file: Path, context_length: int):
        self._tokenizer = Tokenizer.from_file(str(file))
        self.context_length = context_length

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 (len(texts), context_length), padded with 0. A word outside the vocabulary is a ValueError."""
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        unknown = self._tokenizer.token_to_id("<unk>")
        for row, (text, encoding) in enumerate(zip(texts, self._tokenizer.encode_batch(texts), strict=True)):
            if unknown in encoding.ids:
                start, end = encoding.offsets[encoding.ids.index(unknown)]
                word = text[start:end]
                raise ValueError(
                    f"{word!r} in {text!r} is not a word of this encoder{nearest(word, self.words)}; all its words: {' '.join(self.words)}"
                )
            if len(encoding.ids) > self.context_length:
                raise ValueError(f"{text!r} has {len(encoding.ids)} tokens, this encoder reads {self.context_length}")
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        return ids

    def length(self, text: str) -> int:
        """Tokens of a text, its end included."""
        return len(self._tokenizer.encode(text).ids)

    @property
    def words(self) -> list[str]:
        return [word for word in sorted(self._tokenizer.get_vocab()) if not word.startswith("<")]


def text_forward(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Text features (n, d) of padded tokens (n, context), read only as far as the longest text of the batch.

    Exact under CLIP's causal mask: no token sees what comes after it. Other text towers read the whole context.
    """
    if not (isinstance(model, open_clip.CLIP) and model.attn_mask is not None):
        return model.encode_text(tokens, normalize=True)
    length = int((tokens != 0).sum(1).max())
    shorter = {"positional_embedding": model.positional_embedding[:length], "attn_mask": model.attn_mask[:length, :length]}
    return torch.func.functional_call(model, shorter, kwargs={"text": tokens[:, :length]})[1]
