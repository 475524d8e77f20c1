"""What belongs to the weights of a tag of open_clip, and holds for the same weights in a file: how an image is read, QuickGELU.

A file is known by its name, by the folder of its repository, or by its bytes. What all tags of an architecture agree about
holds for every file of it.
"""

import re
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transformer import QuickGELU
from torch import nn

from gta.files import sha256

# The OpenAI weights were trained with QuickGELU; the plain names build nn.GELU and are silently a different model.
OPENAI = {"ViT-B/32": "ViT-B-32-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu", "ViT-L/14": "ViT-L-14-quickgelu"}
# Encoders by the names that people give them, with their architecture and tag; data_manifests/encoders has what is known of each.
KNOWN = {name: (architecture, "openai") for name, architecture in OPENAI.items()} | {
    "PE-Core-B/16": ("PE-Core-B-16", "meta"),
    "PE-Core-L/14-336": ("PE-Core-L-14-336", "meta"),
    "SigLIP2-B/16": ("ViT-B-16-SigLIP2", "webli"),
    "MetaCLIP-B/16": ("ViT-B-16-quickgelu", "metaclip_fullcc"),
    "MetaCLIP-L/14": ("ViT-L-14-quickgelu", "metaclip_fullcc"),
    "DFN-L/14": ("ViT-L-14-quickgelu", "dfn2b"),
    "MobileCLIP2-S0": ("MobileCLIP2-S0", "dfndr2b"),
    "MobileCLIP2-B": ("MobileCLIP2-B", "dfndr2b"),
    "EVA02-B/16": ("EVA02-B-16", "merged2b_s8b_b131k"),
}
READING = ("mean", "std", "interpolation", "resize_mode")  # how pixels are read
FACTS = (*READING, "quick_gelu")


def quick(model: nn.Module) -> bool:
    """Whether a model is built with QuickGELU."""
    return any(isinstance(module, QuickGELU) for module in model.modules())


def facts(architecture: str, tag: str) -> dict[str, Any]:
    """The facts of a tag."""
    described = open_clip.get_pretrained_cfg(architecture, tag)
    return {name: described[name] for name in READING if name in described} | {"quick_gelu": bool(described.get("quick_gelu"))}


def facts_of(architecture: str, file: Path) -> dict[str, Any]:
    """Those of the `FACTS` that are known of a checkpoint file."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    known = _agreed([facts(architecture, tag) for tag in tags])
    if len(known) < len(FACTS):
        known = _agreed([facts(architecture, tag) for tag in _named(architecture, tags, file)]) or known
    return known


def _agreed(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in (found[0] if found else {}).items() if all(other.get(name) == value for other in found)}


def _named(architecture: str, tags: list[str], file: Path) -> list[str]:
    """The tags whose file this is."""
    folders = {part.lower() for part in Path(file).absolute().parts[:-1]}
    named, hashed = [], []
    for tag in tags:
        described = open_clip.get_pretrained_cfg(architecture, tag)
        repository, url = described["hf_hub"].lower().rpartition("/")[0], described["url"]
        places = {repository.rpartition("/")[2], f"models--{repository.replace('/', '--')}"} if repository else set()
        plain = Path(url).stem in open_clip.list_models()  # the name of an architecture may be that of anybody's file
        if places & folders or (file.name == Path(url).name and not plain):
            named.append(tag)
        hashed += [(value, tag) for value in re.findall(r"[-/]([0-9a-f]{8}(?:[0-9a-f]{56})?)[./]", url)]
    if named or not hashed:
        return named
    digest = sha256(file)
    return [tag for value, tag in hashed if digest.startswith(value)]
