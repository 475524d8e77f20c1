"""Released views of a photograph: a bilinear crop of the file itself."""

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms import v2


def bilinear_augmentation(size: int) -> Callable[[Tensor], Tensor]:
    """As `gta.adapt.natural_augmentation`, but the crop is bilinear; for `gta.encoders.images.load_images(..., whole=True)`."""
    crop = v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0)])
