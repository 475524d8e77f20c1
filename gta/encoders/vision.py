"""The second view: an encoder that sees images alone, by a name. It is never trained, and no text is compared with its features.

The features of a model of timm are its pooled output without a classifier (`num_classes=0`): of DINOv2 and DINOv3 the class token, of a
ResNet the mean over the last map. Images are read as `timm.data.create_transform(is_training=False)` reads them for that tag.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from gta.encoders import encoder, faults, ready
from gta.encoders.embeddings import features_of
from gta.encoders.hub import fetch
from gta.encoders.image_encoder import ImageEncoder, placed, to_pixels, weights_hash
from gta.encoders.images import load_images
from gta.encoders.ready import ReadyFeatures
from gta.names import nearest

View = ImageEncoder | ReadyFeatures
TIMM, READY, EMBEDDED = "timm:", "features:", "embedded"
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of a folder as timm writes it
OTHERWISE = f"; or name a folder with {CONFIG} and {WEIGHTS}, which `timm.models.save_for_hf` writes"


def load_view(name: str, *, device: str | None = None, seed: int = 0, embedded: Path = encoder.EMBEDDED) -> View:
    """A second view by name.

    name: a model of timm with its tag, such as `vit_small_patch14_dinov2.lvd142m`; before it may stand `timm:`, and after it `@REVISION` of
    its repository of the Hub; a folder with a `config.json` and a `model.safetensors` as timm writes them; `features:FILE`, as
    `gta.encoders.ready` reads them; or `embedded`, the image tower of the encoder after that of `seed` in the folder `embedded`.
    device: by default the GPU where there is one. Features are float32, and float64 for `embedded`.
    Raises ValueError as `check_view` does and for damaged files; `gta.encoders.hub.MissingWeights` for what cannot be fetched.
    """
    check_view(name)
    if name.startswith(READY):
        return ready.read(Path(name.removeprefix(READY)), name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == EMBEDDED:
        seeds = len(list(embedded.glob("seed*.safetensors")))
        return _image_tower(encoder.load(EMBEDDED, seed=(seed + 1) % seeds, device=device, embedded=embedded))
    if (folder := Path(name)).is_dir():
        described = _described(folder)
        identity = json.dumps([described["architecture"], described.get("model_args", {})], sort_keys=True)
        return _encoder(_model(f"local-dir:{folder}", folder / WEIGHTS), device, name, name, identity)
    tag, repository, revision = _tagged(name)
    file = fetch(repository, [WEIGHTS], revision, OTHERWISE)
    commit = file.parent.name
    model = _model(tag, file, pretrained_cfg_overlay={"file": str(file), "source": "", "custom_load": False})
    return _encoder(model, device, f"{tag}@{commit}", f"{repository}@{commit}/{WEIGHTS}", tag.partition(".")[0])


def check_view(name: str) -> None:
    """Raise ValueError, with the name and what it was meant to be, for what can be no second view. Nothing is fetched."""
    if name.startswith(READY):
        ready.check(Path(name.removeprefix(READY)))
    elif name == EMBEDDED:
        return
    elif Path(name).is_dir():
        _described(Path(name))
    else:
        _tagged(name)


def untrained(name: str, device: str) -> ImageEncoder:
    """A model of timm with random weights, which takes as long as the real one. Nothing is fetched."""
    tag, _, _ = _tagged(name)
    return _encoder(timm.create_model(tag), device, tag, "random", tag)


def view_features(
    view: View, images: Sequence, names: Sequence[str], *, store: Path | None = None, kept: Path | None = None, progress: bool = True
) -> Tensor:
    """Unit features (N, d) of images by a second view, on the CPU.

    images: as `gta.encoders.images.load_images` takes them; names: of the images, by which ready-made features are found; store: a folder
    for images at this view's own resolution; kept: a folder for features, so that only new images are encoded. Raises
    `gta.encoders.images.UnreadableImages`, and ValueError for images without ready-made features.
    """
    if isinstance(view, ReadyFeatures):
        return view.of(names)
    seen = load_images(images, view, store=store, progress=progress)
    if kept is not None:
        return features_of(view, seen, kept, progress)
    return view.encode_images(seen.pixels, progress=progress).cpu()


def _tagged(name: str) -> tuple[str, str, str | None]:
    """The name and tag of a model of timm, its repository of the Hub, and the revision that was named."""
    called, _, revision = name.removeprefix(TIMM).partition("@")
    known = timm.list_models(pretrained=True)
    described = timm.get_pretrained_cfg(called) if called in {*known, *timm.list_models()} else None
    if described is None:
        raise ValueError(faults.unknown_view(name, called, known))
    if not described.hf_hub_id:
        raise ValueError(f"view {name!r}: timm knows no weights of {called} on the Hub{OTHERWISE}")
    tag = f"{described.architecture}.{described.tag}" if described.tag else called  # without a tag: that which timm takes
    return tag, described.hf_hub_id, revision or None


def _described(folder: Path) -> dict[str, Any]:
    """What a folder says of its model. Raises ValueError, with the file and the mend, where timm did not write it."""
    if not (folder / CONFIG).is_file():
        raise ValueError(f"view {str(folder)!r}: a folder without {CONFIG}; `timm.models.save_for_hf` writes it, with {WEIGHTS}")
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        architecture = described.get("architecture")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG}: damaged: {error}") from None
    if architecture not in timm.list_models():
        kind = described.get("model_type")
        why = f"a model of transformers ({kind})" if kind and architecture is None else f"no architecture of timm: {architecture!r}"
        raise ValueError(
            f"{folder / CONFIG}: {why}{nearest(str(architecture), timm.list_models())}; the same model in the form of timm is read"
        )
    if not (folder / WEIGHTS).is_file():
        pickles = [file.name for file in sorted(folder.iterdir()) if file.suffix in (".bin", ".pth", ".pt")]
        unsafe = f"; {pickles[0]} is a pickle, which may run code when it is read" if pickles else ""
        raise ValueError(f"{folder}: no {WEIGHTS}{unsafe}. `timm.models.save_for_hf(model, folder, safe_serialization=True)` writes it")
    return described


def _model(called: str, file: Path, **options: Any) -> nn.Module:
    """A model of timm with the weights in `file`, all of them: its classifier too, which `_encoder` removes."""
    try:
        return timm.create_model(called, pretrained=True, **options)
    except Exception as error:  # of timm, torch and safetensors
        raise faults.of_timm(error, called, file) from error


def _encoder(model: Any, device: str, name: str, source: str, identity: str) -> ImageEncoder:
    """identity: the architecture in words, since other pooling gives other features of the same weights."""
    model.reset_classifier(0)
    config = timm.data.resolve_data_config({}, model=model)
    sha256 = weights_hash(model, identity)
    found = ImageEncoder(
        model=placed(model, device, torch.float32),
        store=to_pixels(timm.data.create_transform(**config, is_training=False)),
        preprocessing=json.dumps(config, sort_keys=True),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        name=name,
        source=source,
        weights_sha256=sha256,
    )
    with torch.no_grad():
        shape = tuple(found.model(torch.zeros(1, *config["input_size"], device=device)).shape)
    if config["input_size"][0] != 3 or len(shape) != 2:
        raise ValueError(f"view {name!r} gives {shape} of an image {tuple(config['input_size'])}, not a row (1, d) of RGB")
    return found


def _image_tower(whole: encoder.Encoder) -> ImageEncoder:
    """The half of a CLIP encoder that reads images."""
    tower = whole.model.visual
    parts = {name: getattr(whole, name) for name in ("store", "preprocessing", "mean", "std", "name", "source")}
    return ImageEncoder(model=tower, weights_sha256=weights_hash(tower), **parts)
