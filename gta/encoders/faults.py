"""Why no model can be made of what a user named, and what to do about it: the words of the errors."""

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import timm
from safetensors import SafetensorError

from gta.encoders.hub import CONFIG, HUB, WEIGHTS, MissingWeights, first_line
from gta.encoders.tags import KNOWN, OPENAI
from gta.names import nearest

SUFFIXES = {".bin", ".npz", ".pt", ".pth", ".safetensors"}  # of checkpoint files


def of_transformers(file: Path) -> str:
    """What to do with the model of transformers that a `config.json` describes."""
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type", "of an unknown kind")
    except (ValueError, AttributeError):
        kind = "with a damaged config.json"
    return (
        f"It is a model of transformers ({kind}): it lacks {CONFIG}, and open_clip has other names for its weights. Name the same model "
        f"in the form of open_clip; OpenAI's are {', '.join(OPENAI)}"
    )


def unknown(name: str) -> str:
    """Why a name is no encoder."""
    place = Path(name)
    if place.is_file():
        return f"encoder {name!r} is a file; name its architecture, such as ViT-B/16, and give the file as `pretrained`"
    if (place / "config.json").is_file():
        return f"encoder {name!r}: {of_transformers(place / 'config.json')}"
    if place.is_dir():
        files = sorted(file.name for file in place.iterdir())
        held = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        return (
            f"encoder {name!r}: a folder without {CONFIG}; it holds {held or 'nothing'}. A folder needs {CONFIG} and {WEIGHTS[0]}; a "
            "checkpoint alone is read by the name of its architecture, with the file as `pretrained`"
        )
    if place.is_absolute() or name.startswith((".", "~")) or (place.parent.is_dir() and len(place.parts) > 1):
        return f"encoder {name!r}: no such folder"
    hub = f"; a repository of the Hub is {HUB}{name}" if name.count("/") == 1 else ""
    return f"unknown backbone {name!r}{hub}{nearest(name, ['embedded', *KNOWN, *open_clip.list_models()])}"


def unknown_view(name: str, called: str, known: list[str]) -> str:
    """Why a name is no second view. called: the name of a model in it; known: those of timm with their tags."""
    place = Path(called)
    if place.is_file():
        return f"view {name!r} is a file; features:{called} reads features, and a folder with config.json and model.safetensors is a model"
    if place.is_absolute() or called.startswith((".", "~")) or "/" in called:
        return f"view {name!r}: no such folder"
    alike = [tag for tag in known if called and called.casefold() in tag]
    near = f"; models with {called!r} in their names: {', '.join(alike[:6])}" if alike else nearest(called, ["embedded", *known])
    return f"unknown view {name!r}: no model of timm with its tag, no folder, and neither features:FILE nor embedded{near}"


def of_timm(error: Exception, called: str, file: Path) -> Exception:
    """The error of a model of timm that cannot be made, with the file and what is wrong with it."""
    if isinstance(error, MemoryError) or "memory" in str(error):
        return error
    if isinstance(error, SafetensorError) or "loading state_dict" in str(error):
        return ValueError(not_weights(file, called, error))
    return ValueError(f"{called} cannot be built by timm {timm.__version__}: {type(error).__name__}: {first_line(error)}")


def no_weights(name: str, pretrained: str | None, tags: list[str]) -> str:
    """Why `pretrained` names no weights."""
    wanted = f"one of {tags}, or a checkpoint file" if tags else "a checkpoint file, since open_clip names none"
    tag, _, file = (pretrained or "").partition("=")
    place = Path(file if tag in tags else pretrained or "")
    path = place.is_absolute() or len(place.parts) > 1 or place.suffix in SUFFIXES
    what = " (a folder)" if pretrained and place.is_dir() else " (no such file)" if path else ""
    return f"backbone {name!r} needs pretrained weights: {wanted}, not {pretrained!r}{what}{nearest(str(pretrained), tags)}"


def untold(file: Path, name: str, tags: list[str], taken: dict[str, Any]) -> str:
    """That facts of a checkpoint are unknown, which values are taken, and how to say them."""
    values = ", ".join(f"{fact} {value}" for fact, value in taken.items())
    why = f"tags of {name} differ in them and none is known by this file" if tags else f"open_clip names no weights of {name}"
    other = f"a folder with the file and an {CONFIG} says them"
    say = f"`TAG=FILE` as `pretrained` says that it holds those of a tag ({', '.join(tags)}); else {other}" if tags else f"A{other[1:]}"
    return f"{file}: read with {values}: {why}. {say}"


def explained(error: Exception, model_name: str, checkpoint: Path | None) -> Exception:
    """The error of a model that cannot be made, with the file and what is wrong with it."""
    text = str(error)
    if isinstance(error, MemoryError) or "memory" in text:
        return error
    if "pip install" in text or isinstance(error, ImportError):
        return MissingWeights(f"{model_name} cannot be made: {first_line(error)}")
    if checkpoint is None:
        return ValueError(f"{model_name} cannot be made: {type(error).__name__}: {first_line(error)}")
    if isinstance(error, OSError) and error.errno:
        return ValueError(f"{checkpoint}: cannot be read: {error.strerror}")
    if isinstance(error, OSError):  # transformers fetches what the text tower is made of
        return MissingWeights(f"{model_name} cannot be made: {first_line(error)}")
    if model_name.startswith("local-dir:") and isinstance(error, (AttributeError, KeyError, TypeError)):
        beside = f"{checkpoint.parent / CONFIG} describes no architecture that this version of open_clip can build"
        return ValueError(f"{beside}, or {checkpoint.name} is damaged: {type(error).__name__}: {first_line(error)}")
    return ValueError(not_weights(checkpoint, model_name, error))


def not_weights(file: Path, model_name: str, error: Exception) -> str:
    """What is wrong with a checkpoint file."""
    text, size = str(error), file.stat().st_size
    if "loading state_dict" in text:
        differs = "; ".join(line.strip() for line in text.splitlines()[1:4])
        return f"{file}: not the weights of {model_name}, but of another architecture: {differs[:300]}"
    found = re.search(r"Unsupported (global|class|operand)[^\n]*?(?= was not|\n|$)", text)  # torch goes on with advice to run the file
    with open(file, "rb") as stream:
        pickled = stream.read(1) == b"\x80"
    if "TorchScript" in text or "allow_pickle" in text or (found and (pickled or found[1] != "operand")):
        why = "a file that would run code when it is read (a TorchScript archive, or a pickle of more than tensors)"
        return f"{file}: {why}; safetensors, or a state_dict alone, is needed{f': {found[0]}' if found else ''}"
    detail = found[0] if found else text.partition("\n")[0][:200]
    cached = re.search(r"models--([^/]+)/snapshots/", file.as_posix())
    again = f"`hf download {cached[1].replace('--', '/', 1)} {file.name} --force-download` fetches it again" if cached else ""
    kind = f"({type(error).__name__}: {detail})"
    return f"{file}: damaged or cut off, or no checkpoint: {size:,} bytes. {again or 'Copy or fetch it again'}. {kind}"


def tokenizer_files(model_name: str) -> str:
    if model_name.startswith("local-dir:"):
        return f"Its files, such as tokenizer.json and tokenizer_config.json, must lie in {model_name.removeprefix('local-dir:')}"
    described = (open_clip.get_model_config(model_name) or {}).get("text_cfg", {}).get("hf_tokenizer_name")
    return f"Where there is a connection, `hf download {described}`, and carry the cache here" if described else ""
