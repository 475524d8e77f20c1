"""What reads images: a model with its own preprocessing, from pixels to unit features. A CLIP encoder is one that reads texts too."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms
from tqdm import tqdm

TINY = 10_000_000  # parameters of a model that one thread runs best
SMALL = 20_000_000  # of one that one thread runs best on a busy machine, where its many short steps wait for each other


@dataclass
class ImageEncoder:
    """model: from normalised pixels (B, 3, H, W) to features (B, d); store: its own resizing and cropping, from a PIL image to uint8
    (3, H, W); preprocessing: the same in words; mean, std: of each channel; source: where the weights are from; weights_sha256: of them."""

    model: nn.Module
    store: Callable
    preprocessing: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    source: str
    weights_sha256: str
    _fitting: dict[str, int] = field(default_factory=dict, repr=False, kw_only=True)  # batches that fit the memory, where others did not

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def image_size(self) -> int:
        """Pixels of the longer side of the images that the model reads."""
        return max(self.store(Image.new("RGB", (8, 8))).shape[1:])

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
            features = self._read(((pixels.to(self.dtype) / 255 - mean) / std).to(self._dtype))
        return F.normalize(features.to(self.dtype), dim=-1)  # outside of autocast: bf16 is too coarse for unit rows

    @torch.no_grad()
    def encode_images(self, pixels: Tensor, batch_size: int | None = None, progress: bool = False) -> Tensor:
        """Unit features (N, d) in `dtype`, of uint8 pixels (N, 3, H, W), on the encoder's device."""
        return self._in_batches("image", self.image_features, pixels, batch_size, progress)

    def _in_batches(self, unit: str, encode: Callable, items: Tensor | Sequence[str], batch_size: int | None, progress: bool) -> Tensor:
        """`encode` of all items, as many at a time as fit the memory. A size that did not fit is not tried again, and told once."""
        size = batch_size or self._batch_size

        def fits(smaller: int) -> None:
            self._fitting[unit] = smaller
            print(f"{size} {unit}s at a time do not fit the memory: {self.name} now reads {smaller} at a time", file=sys.stderr)

        with self.threads(), tqdm(total=len(items), desc="encoding", unit=unit, delay=5, leave=False, disable=not progress) as bar:
            return in_batches(encode, items, min(size, self._fitting.get(unit, size)), bar, fits)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Use one thread in the block if the model is tiny, or small on a busy machine: there, more threads wait for each other."""
        before = torch.get_num_threads()
        size = sum(p.numel() for p in self.model.parameters())
        looked_up = sum(module.weight.numel() for module in self.model.modules() if isinstance(module, nn.Embedding))
        if self.device.type == "cpu" and (size < TINY or (size - looked_up < SMALL and busy())):
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _read(self, pixels: Tensor) -> Tensor:
        """Features (B, d), of any length, of normalised pixels."""
        return self.model(pixels)

    @property
    def _reader(self) -> nn.Module:
        """The part of the model that reads images."""
        return self.model

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda" and self._dtype == torch.float32)

    @property
    def _dtype(self) -> torch.dtype:
        """The dtype of the weights that read an image."""
        return next(module.weight.dtype for module in self._reader.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))

    @property
    def _batch_size(self) -> int:
        """Large enough for the device to be busy; halved where its memory is too small."""
        return 512 if self.device.type == "cuda" else 32


def in_batches(encode: Callable, items: Tensor | Sequence[str], size: int, bar: tqdm, fits: Callable[[int], None]) -> Tensor:
    """`encode` of all items, some at a time, in one tensor. A size that does not fit is halved; `fits` gets the one that does."""
    parts: list[Tensor] = []
    start, smaller = 0, False
    while start < len(items):
        try:
            parts.append(encode(items[start : start + size]))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            size, smaller = size // 2, True
            continue
        if smaller:
            fits(size)
            smaller = False
        start += size
        bar.update(len(parts[-1]))
    return torch.cat(parts)


def busy() -> bool:
    """Whether more programs want a processor than there are, by one at least, over the last minute; not known on Windows."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1) + 1


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of a device, or of the machine, is too small. torch has a class for devices alone."""
    told = ("can't allocate memory", "not enough memory", "out of memory")  # of Linux and macOS, of Windows, of devices
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(words in str(error) for words in told)


def to_pixels(transform: transforms.Compose) -> transforms.Compose:
    """The part of a transform that ends with pixels: from a PIL image to uint8 (3, H, W)."""
    kept = [step for step in transform.transforms if not isinstance(step, (transforms.ToTensor, transforms.Normalize))]
    return transforms.Compose([*kept, transforms.PILToTensor()])


def placed(model: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """The model on its device, ready to read."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    # In channels_last the backward pass of such a convolution writes beyond its memory on a CPU (torch 2.15; the stem of FastViT).
    corrupted = any((c.in_channels, c.kernel_size) == (3, (1, 1)) and c.stride != (1, 1) for c in convolutions)
    if len(convolutions) > 1 and not corrupted:  # more than the patches of a ViT
        model.to(memory_format=torch.channels_last)
    return model.to(device, dtype).eval()


def weights_hash(model: nn.Module, described: str = "") -> str:
    """A hash of every weight and its name; weights in float64 are hashed as they are stored, in float32. described: what else the features
    depend on."""
    digest = hashlib.sha256(described.encode())
    for key, tensor in sorted(stored_weights(model).items()):
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model as files hold it: on the CPU, contiguous, float64 as float32."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return {name: tensor.float() if tensor.dtype == torch.float64 else tensor for name, tensor in state.items()}
