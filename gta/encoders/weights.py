"""Where the weights of a CLIP model come from: a tag of open_clip, a checkpoint file, a folder, a Hub repository."""

import contextlib
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from gta.names import nearest

# The OpenAI weights were trained with QuickGELU; the plain names build nn.GELU and are silently a different model.
OPENAI = {"ViT-B/32": "ViT-B-32-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu", "ViT-L/14": "ViT-L-14-quickgelu"}
HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class MissingWeights(RuntimeError):
    """A file that is neither here nor reachable; the message says which, and where to put it."""


@dataclass(frozen=True)
class Loaded:
    """A model, its tokenizer, its preprocessing and architecture as open_clip describes them, and where the weights are from."""

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    preprocess: dict[str, Any]
    config: dict[str, Any]
    source: str


def load(name: str, pretrained: str | None, revision: str | None) -> Loaded:
    """A model on the CPU, as `gta.encoders.load` names it; `pretrained` `random` leaves it as it was initialised.

    Raises ValueError for an unknown name or tag, weights of another activation or another architecture, and a checkpoint
    that runs code; MissingWeights for what is not here and cannot be fetched.
    """
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        folder = _fetch(repository, [CONFIG], revision).parent
        source = f"{repository}@{folder.name}/{_fetch(repository, WEIGHTS, revision).name}"
        for optional in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            with contextlib.suppress(EntryNotFoundError, MissingWeights):
                _fetch(repository, [optional], revision)
        return _create(f"local-dir:{folder}", None, {}, source)
    if (Path(name) / CONFIG).exists():
        return _create(f"local-dir:{name}", None, {}, name)
    architecture = OPENAI.get(name, name)
    pretrained = pretrained or ("openai" if name in OPENAI else None)
    if architecture not in open_clip.list_models():
        raise ValueError(f"unknown backbone {name!r}{nearest(name, ['embedded', *OPENAI, *open_clip.list_models()])}")
    if pretrained == "random":
        return _create(architecture, None, {}, "random")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained is not None and pretrained in tags:
        described = open_clip.get_pretrained_cfg(architecture, pretrained)
        repository, _, file = described["hf_hub"].rpartition("/")
        found = _fetch(repository, [file] if file else WEIGHTS, revision)
        preprocess = {key: described[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in described}
        loaded = _create(architecture, found, preprocess, f"{repository}@{found.parent.name}/{found.name}")
        _check_activation(loaded.model, name, pretrained, bool(described.get("quick_gelu")))
        return loaded
    if Path(pretrained or "").is_file():
        return _create(architecture, Path(str(pretrained)), {}, str(pretrained))
    raise ValueError(f"backbone {name!r} needs pretrained weights: one of {tags}, or a checkpoint file, not {pretrained!r}")


def _fetch(repository: str, files: Sequence[str], revision: str | None) -> Path:
    """The first of the files that the repository has, from the cache or the Hub."""
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except (EntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError, ValueError):  # not there, or out of reach
            continue
    at = f" --revision {revision}" if revision else ""
    raise MissingWeights(
        f"the file {files[0]} of the Hub repository {repository} at revision {revision or 'main'} is neither in the cache "
        f"({constants.HF_HUB_CACHE}) nor reachable. Where there is a connection: `hf download {repository} {files[0]}{at}`, and "
        f"carry the cache here; or fetch the file by other means and pass it as pretrained=FILE"
    )


def _create(model_name: str, checkpoint: Path | None, preprocess: dict, source: str) -> Loaded:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="QuickGELU mismatch")  # `_check_activation` raises instead
        try:
            model = open_clip.create_model(
                model_name, pretrained=None if checkpoint is None else str(checkpoint), force_preprocess_cfg=preprocess
            )
        except (pickle.UnpicklingError, RuntimeError) as error:
            if checkpoint is None:
                raise
            raise ValueError(
                f"{checkpoint}: not the weights of {model_name}, or a file that would run code (a TorchScript archive, a pickle of "
                f"more than tensors); safetensors, or a state_dict of this architecture, is needed: {str(error)[:300]}"
            ) from error
    try:
        tokenizer = open_clip.get_tokenizer(model_name)
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingWeights(f"the tokenizer of {model_name} cannot be made: {error}") from error
    return Loaded(model, tokenizer, open_clip.get_model_preprocess_cfg(model), open_clip.get_model_config(model_name) or {}, source)


def _check_activation(model: nn.Module, name: str, pretrained: str, quick: bool) -> None:
    if any(isinstance(module, QuickGELU) for module in model.modules()) == quick:
        return
    names = [other for other in (*OPENAI, *open_clip.list_models()) if OPENAI.get(other, other) == f"{name}-quickgelu"]
    wanted = "QuickGELU" if quick else "GELU"
    raise ValueError(
        f"the weights {pretrained!r} were trained with {wanted}, which {name!r} is not{': use ' if names else ''}{' or '.join(names)}"
    )
