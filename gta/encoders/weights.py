"""Where the weights of a CLIP model come from: a tag of open_clip, a checkpoint file, a folder, a Hub repository."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor, nn

from gta.encoders import faults, hub_tokenizer, text_towers
from gta.encoders.hub import CONFIG, HUB, WEIGHTS, MissingWeights, NotInRepository, fetch, first_line
from gta.encoders.tags import FACTS, KNOWN, OPENAI, READING, facts, facts_of, quick


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
        return _from_hub(name.removeprefix(HUB), revision)
    folder = Path(name)
    if (folder / CONFIG).exists():
        config(folder)
        held = [file for suffix in ("safetensors", "bin", "pth") for file in sorted(folder.glob(f"*.{suffix}"))]
        if not held:
            raise ValueError(f"{folder}: no weights beside {CONFIG}; put {' or '.join(WEIGHTS)} there")
        return _create(f"local-dir:{name}", next((folder / file for file in WEIGHTS if (folder / file) in held), held[0]), {}, name)
    architecture, usual = KNOWN.get(name, (name, None))
    pretrained = pretrained or usual
    if architecture not in open_clip.list_models():
        raise ValueError(faults.unknown(name))
    if pretrained == "random":
        return _create(architecture, None, {}, "random")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tag, _, given = (pretrained or "").partition("=")
    tokenizer = None
    if tag in tags:
        repository, _, file = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition("/")
    if pretrained is not None and pretrained in tags:
        otherwise = f"; or fetch the file by other means and give `{pretrained}=FILE` as `pretrained`"
        found = fetch(repository, [file] if file else WEIGHTS, revision, otherwise)
        source, known = f"{repository}@{found.parent.name}/{found.name}", facts(architecture, pretrained)
        tokenizer = hub_tokenizer.of_tag(architecture, repository, revision)
    elif tag in tags and Path(given).is_file():
        found, source, known = Path(given), str(pretrained), facts(architecture, tag)
        tokenizer = hub_tokenizer.of_tag(architecture, repository, revision)
    elif Path(pretrained or "").is_file():
        found, source = Path(str(pretrained)), str(pretrained)
        known = facts_of(architecture, found)
    else:
        raise ValueError(faults.no_weights(name, pretrained, tags))
    loaded = _create(architecture, found, {key: known[key] for key in READING if key in known}, source, tokenizer)
    if "quick_gelu" in known:
        _check_activation(loaded.model, name, str(pretrained), known["quick_gelu"])
    if len(known) < len(FACTS):
        taken = {**loaded.preprocess, "quick_gelu": quick(loaded.model)}
        taken = {fact: taken[fact] for fact in FACTS if fact not in known}
        print(faults.untold(found, name, tags, taken), file=sys.stderr)
    return loaded


def config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Architecture and preprocessing in a folder. Raises ValueError, with the file, if it is damaged."""
    try:
        read = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        for part in ("embed_dim", "vision_cfg", "text_cfg"):
            read["model_cfg"][part]
        return read["model_cfg"], read.get("preprocess_cfg", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{folder / CONFIG}: damaged, or no architecture as open_clip describes it: {told}") from None


def _from_hub(repository: str, revision: str | None) -> Loaded:
    try:
        folder = fetch(repository, [CONFIG], revision).parent
    except NotInRepository as error:
        raise NotInRepository(f"{error}. {_another_kind(repository, revision)}") from None
    found = fetch(repository, WEIGHTS, revision)
    if text_towers.is_beside(config(folder)[0]):
        fetch(repository, ["config.json"], revision)
    if "hf_tokenizer_name" in config(folder)[0]["text_cfg"]:
        with contextlib.suppress(NotInRepository):  # then `_create` says what is missing
            hub_tokenizer.fetched(repository, revision)
    return _create(f"local-dir:{folder}", found, {}, f"{repository}@{folder.name}/{found.name}")


def _another_kind(repository: str, revision: str | None) -> str:
    """What a repository without a configuration of open_clip holds."""
    try:
        return faults.of_transformers(fetch(repository, ["config.json"], revision))
    except MissingWeights:
        alone = "a checkpoint alone is read by the name of its architecture, with the file as `pretrained`"
        return f"An encoder is a repository of open_clip, which has {CONFIG}; {alone}"


def _create(
    model_name: str, checkpoint: Path | None, preprocess: dict, source: str, tokenizer: Callable[[list[str]], Tensor] | None = None
) -> Loaded:
    """tokenizer: the one that open_clip would fetch without a revision, ready; None where open_clip brings it, or the folder has it."""
    local = model_name.startswith("local-dir:")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="QuickGELU mismatch")  # `_check_activation` raises instead
        try:
            described = config(folder := Path(model_name.removeprefix("local-dir:"))) if local else None
            if described and checkpoint and text_towers.is_beside(described[0]):
                model = text_towers.read(folder, *described, checkpoint)
            else:
                file = None if checkpoint is None or local else str(checkpoint)
                model = open_clip.create_model(model_name, pretrained=file, force_preprocess_cfg=preprocess)
        except MissingWeights:
            raise
        except Exception as error:  # of open_clip, torch, pickle, safetensors, numpy and transformers
            raise faults.explained(error, model_name, checkpoint) from error
    try:
        tokenizer = tokenizer or open_clip.get_tokenizer(model_name)
    except Exception as error:  # of transformers and tokenizers
        raise MissingWeights(
            f"the tokenizer of {model_name} cannot be made: {first_line(error)} {faults.tokenizer_files(model_name)}"
        ) from error
    return Loaded(model, tokenizer, open_clip.get_model_preprocess_cfg(model), open_clip.get_model_config(model_name) or {}, source)


def _check_activation(model: nn.Module, name: str, pretrained: str, wanted: bool) -> None:
    if quick(model) == wanted:
        return
    names = [other for other in (*OPENAI, *open_clip.list_models()) if OPENAI.get(other, other) == f"{name}-quickgelu"]
    activation = "QuickGELU" if wanted else "GELU"
    raise ValueError(
        f"the weights {pretrained!r} were trained with {activation}, which {name!r} is not{': use ' if names else ''}{' or '.join(names)}"
    )
