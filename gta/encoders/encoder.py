"""CLIP encoders: any open_clip model behind two calls, images to unit features and texts to unit features."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms
from tqdm import tqdm

from gta.encoders import weights, words
from gta.encoders.words import WordTokenizer

TINY = 10_000_000  # parameters of a model that one thread runs best
EMBEDDED = Path(__file__).parent.parent / "worlds" / "encoders"  # of the digits: what `embedded` means by default


@dataclass
class Encoder:
    """A CLIP model with its tokenizer. store: its own resizing and cropping, from a PIL image to uint8 (3, H, W);
    preprocessing: the same in words; config: the architecture as open_clip describes it; source: where the weights are from."""

    model: open_clip.CLIP
    tokenizer: Callable[[list[str]], Tensor]
    store: Callable
    preprocessing: str
    config: dict
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    source: str
    weights_sha256: str
    _tokens: dict[str, Tensor] = field(default_factory=dict, repr=False)

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

    def copy(self, dtype: torch.dtype | None = None) -> "Encoder":
        """The same encoder with weights of its own, and with the arithmetic of `dtype` where one is given."""
        model = copy.deepcopy(self.model)
        return replace(self, model=model if dtype is None else model.to(dtype))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of features: that of the weights, and at least float32."""
        return torch.promote_types(self._dtype, torch.float32)

    def image_features(self, pixels: Tensor) -> Tensor:
        """Unit features (B, d) of a batch of uint8 pixels (B, 3, H, W); differentiable."""
        if self.device.type == "cuda":  # a pinned copy runs beside the batch before it
            pixels = (pixels if pixels.is_pinned() else pixels.pin_memory()).to(self.device, non_blocking=True)
        mean, std = (torch.tensor(v, device=self.device, dtype=self.dtype).view(1, 3, 1, 1) for v in (self.mean, self.std))
        with self._autocast():
            features = self.model.encode_image(((pixels.to(self.dtype) / 255 - mean) / std).to(self._dtype))
        return F.normalize(features.to(self.dtype), dim=-1)  # outside of autocast: bf16 is too coarse for unit rows

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit features (n, d) of texts; differentiable."""
        with self._autocast():
            features = text_forward(self.model, self.tokens(texts).to(self.device))
        return F.normalize(features.to(self.dtype), dim=-1)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor, batch_size: int | None = None, progress: bool = False) -> Tensor:
        """Unit features (N, d) in `dtype`, of uint8 pixels (N, 3, H, W), on the encoder's device."""
        with self.threads(), tqdm(total=len(pixels), desc="encoding", unit="image", delay=5, leave=False, disable=not progress) as bar:
            return _in_batches(self.image_features, pixels, batch_size or self._batch_size, bar)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int | None = None, progress: bool = False) -> Tensor:
        """Unit features (n, d) in `dtype`, of texts; batches are of similar length, so that little padding is read."""
        order = text_lengths(self.tokens(texts)).argsort(stable=True)
        ordered = [texts[i] for i in order.tolist()]
        with self.threads(), tqdm(total=len(texts), desc="encoding", unit="text", delay=5, leave=False, disable=not progress) as bar:
            features = _in_batches(self.text_features, ordered, batch_size or self._batch_size, bar)
        return features[order.argsort().to(features.device)]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context), padded with 0; each distinct text goes through the tokenizer once."""
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

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Use one thread in the block if the model is tiny: on a busy machine more of them wait for each other."""
        before = torch.get_num_threads()
        if self.device.type == "cpu" and sum(p.numel() for p in self.model.parameters()) < TINY:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda" and self._dtype == torch.float32)

    @property
    def _dtype(self) -> torch.dtype:
        """The dtype of the weights that read an image."""
        return next(module.weight.dtype for module in self.model.visual.modules() if isinstance(module, nn.Conv2d))

    @property
    def _batch_size(self) -> int:
        """Large enough for the device to be busy; halved where its memory is too small."""
        return 512 if self.device.type == "cuda" else 32


def _in_batches(encode: Callable, items: Tensor | Sequence[str], size: int, bar: tqdm) -> Tensor:
    parts: list[Tensor] = []
    start = 0
    while start < len(items):
        try:
            parts.append(encode(items[start : start + size]))
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            continue
        start += size
        bar.update(len(parts[-1]))
    return torch.cat(parts)


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
    `ViT-L/14` (OpenAI weights, QuickGELU), any architecture of open_clip together with one of its `pretrained` tags,
    `hf-hub:OWNER/REPOSITORY`, or a folder with an `open_clip_config.json` and one model or, like `gta/worlds/encoders`, one
    for each seed.
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
    steps = image_transform_v2(config, is_train=False).transforms
    resize = [step for step in steps if not isinstance(step, (transforms.ToTensor, transforms.Normalize))]
    if sum(isinstance(module, nn.Conv2d) for module in loaded.model.modules()) > 1:  # more than the patches of a ViT
        loaded.model.to(memory_format=torch.channels_last)
    sha256 = weights_hash(loaded.model)
    return Encoder(
        model=loaded.model.to(device, dtype).eval(),
        tokenizer=loaded.tokenizer,
        store=transforms.Compose([*resize, transforms.PILToTensor()]),
        preprocessing=json.dumps(asdict(config), sort_keys=True),
        config=loaded.config,
        mean=tuple(config.mean),
        std=tuple(config.std),
        name=name,
        source=loaded.source,
        weights_sha256=sha256,
    )


def weights_hash(model: nn.Module) -> str:
    """A hash of every weight and its name; weights in float64 are hashed as they are stored, in float32."""
    digest = hashlib.sha256()
    for key, tensor in sorted(stored_weights(model).items()):
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model as files hold it: on the CPU, contiguous, float64 as float32."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return {name: tensor.float() if tensor.dtype == torch.float64 else tensor for name, tensor in state.items()}


def text_lengths(tokens: Tensor) -> Tensor:
    """Tokens of each text, its end included: (n,). A 0 within a text counts, for it is CLIP's "!"."""
    return ((tokens != 0) * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).amax(1)


def text_forward(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Text features (n, d) of padded tokens (n, context), read only as far as the longest text of the batch.

    Exact under CLIP's causal mask: no token sees what comes after it. Other text towers read the whole context.
    """
    if not (isinstance(model, open_clip.CLIP) and model.attn_mask is not None):
        return model.encode_text(tokens)
    length = int(text_lengths(tokens).max())
    shorter = {"positional_embedding": model.positional_embedding[:length], "attn_mask": model.attn_mask[:length, :length]}
    return torch.func.functional_call(model, shorter, kwargs={"text": tokens[:, :length]})[1]
