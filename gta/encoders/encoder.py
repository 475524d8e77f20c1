"""CLIP encoders: any open_clip model behind two calls, images to unit features and texts to unit features."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders import weights, words
from gta.encoders.image_encoder import ImageEncoder, placed, to_pixels, weights_hash
from gta.encoders.words import WordTokenizer

EMBEDDED = Path(__file__).parent.parent / "worlds" / "encoders"  # of the digits: what `embedded` means by default


@dataclass
class Encoder(ImageEncoder):
    """A CLIP model with its tokenizer. config: the architecture as open_clip describes it."""

    model: open_clip.CLIP
    tokenizer: Callable[[list[str]], Tensor]
    config: dict
    _tokens: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def image_size(self) -> int:
        """Pixels a side of the images that the model reads."""
        size = self.model.visual.image_size
        return size[0] if isinstance(size, tuple) else size

    @property
    def logit_scale(self) -> float:
        """The model's own scale tau, 100 for the OpenAI weights."""
        return self.model.logit_scale.exp().item()

    def copy(self, dtype: torch.dtype | None = None) -> "Encoder":
        """The same encoder with weights of its own, and with the arithmetic of `dtype` where one is given."""
        model = copy.deepcopy(self.model)
        return replace(self, model=model if dtype is None else model.to(dtype))

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features (n, d) of texts; differentiable."""
        with self._autocast():
            features = text_forward(self.model, self.tokens(texts).to(self.device))
        return F.normalize(features.to(self.dtype), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None, progress: bool = False) -> Tensor:
        """Unit features (n, d) in `dtype`, of texts; batches are of similar length, so that little padding is read."""
        order = text_lengths(self.tokens(texts), _padding(self.model)).argsort(stable=True)
        ordered = [texts[i] for i in order.tolist()]
        features = self._in_batches("text", self.text_features, ordered, batch_size, progress)
        return features[order.argsort().to(features.device)]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context), padded to the context; each distinct text goes through the tokenizer once."""
        new = sorted(set(texts) - self._tokens.keys())
        if new:
            self._tokens.update(zip(new, self.tokenizer(new), strict=True))
        return torch.stack([self._tokens[text] for text in texts])

    def shorten(self, text: str) -> str:
        """The text, or as many of its first words as the text encoder reads. A tokenizer alone would cut the text and say nothing."""
        kept = text.split()
        while len(kept) > 1 and not self._fits(" ".join(kept)):
            kept.pop()
        return text if len(kept) == len(text.split()) else " ".join(kept)

    def _fits(self, text: str) -> bool:
        """Whether no word would be cut. A tokenizer that cuts fills the last place of the context."""
        if isinstance(self.tokenizer, WordTokenizer):
            return self.tokenizer.length(text) <= self.tokenizer.context_length
        return bool(self.tokenizer([text])[0, -1] == self.tokenizer([""])[0, -1])

    def _read(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)

    @property
    def _reader(self) -> nn.Module:
        return self.model.visual


def load(
    name: str,
    *,
    pretrained: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    embedded: Path = EMBEDDED,
) -> Encoder:
    """An encoder by name.

    name: `embedded` (the encoder of `seed` in the folder `embedded`, which a task names), `ViT-B/32`, `ViT-B/16` or
    `ViT-L/14` (OpenAI weights, QuickGELU), another name of `gta.encoders.tags.KNOWN` such as `PE-Core-B/16`, any
    architecture of open_clip together with one of its `pretrained` tags, `hf-hub:OWNER/REPOSITORY`, or a folder with an
    `open_clip_config.json` and one model or, like `gta/worlds/encoders`, one for each seed.
    pretrained: of an architecture, a tag, a checkpoint file, or TAG=FILE, a file with the weights of a tag; `random` leaves the weights
    as initialised with `seed`.
    revision: of the Hub repository that the weights are in. device: by default the GPU where there is one.
    dtype: of the weights, and so of features and solver. By default it is float64 for `embedded` and the models made from it, which
    then give the same labels on every machine, and float32 for all others.
    Raises ValueError and `gta.encoders.weights.MissingWeights`, as `gta.encoders.weights.load` does.
    """
    folder = embedded if name == "embedded" else Path(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if pretrained is not None and (folder.is_dir() or name.startswith(weights.HUB)):
        raise ValueError(f"encoder {name!r} brings its own weights; leave `pretrained` ({pretrained!r}) out")
    if seeds := sorted(file.stem[4:] for file in folder.glob("seed*.safetensors")):
        if str(seed) not in seeds:
            raise ValueError(f"{name!r} has no encoder of seed {seed}; its seeds: {', '.join(seeds)}")
        return _encoder(words.read(folder, folder / f"seed{seed}.safetensors"), name, device, dtype or torch.float64)
    if words.has_words(folder):
        return _encoder(words.read(folder, folder / weights.WEIGHTS[0]), name, device, dtype or torch.float64)
    plain = pretrained is None or (pretrained == "openai" and name in weights.OPENAI)
    called = name if plain else f"{name} {pretrained}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _encoder(weights.load(name, pretrained, revision), called, device, dtype or torch.float32)


def _encoder(loaded: weights.Loaded, name: str, device: str, dtype: torch.dtype) -> Encoder:
    config = PreprocessCfg(**loaded.preprocess)
    sha256 = weights_hash(loaded.model)  # before the weights become those of another dtype
    return Encoder(
        model=placed(loaded.model, device, dtype),
        store=to_pixels(image_transform_v2(config, is_train=False)),
        preprocessing=json.dumps(asdict(config), sort_keys=True),
        mean=tuple(config.mean),
        std=tuple(config.std),
        name=name,
        source=loaded.source,
        weights_sha256=sha256,
        tokenizer=loaded.tokenizer,
        config=loaded.config,
    )


def text_lengths(tokens: Tensor, padding: int = 0) -> Tensor:
    """Tokens of each text, its end included: (n,). A 0 within a text counts, for it is CLIP's "!"."""
    return ((tokens != padding) * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).amax(1)


def text_forward(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Text features (n, d) of padded tokens (n, context), read only as far as the longest text of the batch.

    Exact under CLIP's causal mask: no token sees what comes after it; and in a tower of transformers, whose mask leaves padding out.
    Other text towers read the whole context.
    """
    causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None
    if not causal and not isinstance(getattr(model, "text", None), HFTextEncoder):
        return model.encode_text(tokens)
    length = int(text_lengths(tokens, _padding(model)).max())
    if not causal:
        return model.encode_text(tokens[:, :length])
    shorter = {"positional_embedding": model.positional_embedding[:length], "attn_mask": model.attn_mask[:length, :length]}
    return torch.func.functional_call(model, shorter, kwargs={"text": tokens[:, :length]})[1]


def _padding(model: nn.Module) -> int:
    """The token after the end of a text."""
    tower = getattr(model, "text", None)
    return tower.config.pad_token_id if isinstance(tower, HFTextEncoder) else 0
