"""The student: an image tower with a linear head, by a name, and the folder that it is kept in."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from gta import encoders
from gta.distil.architectures import Described, build, size_of, smaller
from gta.distil.teachers import Teacher
from gta.encoders import weights
from gta.encoders.encoder import Encoder
from gta.encoders.image_encoder import ImageEncoder, placed, stored_weights, to_pixels, weights_hash
from gta.encoders.vision import CONFIG, TIMM, load_view
from gta.files import load_tensors, save_tensors, write_atomically
from gta.names import nearest
from gta.settings import Checked

FACTS, WEIGHTS = "student.json", "student.safetensors"
SCALED = "teacher/"
Parts = tuple[nn.Module, Sequence[str], Described, dict[str, Any]]  # tower, class names, its description, and how it reads images


class Facts(Checked):
    """The content of `student.json`. described: as in `gta.distil.architectures`; preprocessing: as open_clip describes it."""

    name: str
    class_names: tuple[str, ...]
    described: dict[str, Any]
    preprocessing: dict[str, Any]


class Student(nn.Module):
    """From images float (B, 3, size, size), normalised by its own mean and std, to logits (B, M).

    tower: images to features (B, d); head: features to logits. mean, std: of each channel, for pixels from 0 to 1; size: pixels a side;
    started: whether the tower starts from weights that have seen images.
    """

    def __init__(
        self,
        name: str,
        tower: nn.Module,
        class_names: Sequence[str],
        described: Described,
        preprocessing: dict[str, Any],
        started: bool = False,
    ):
        super().__init__()
        config = PreprocessCfg(**preprocessing)
        self.name, self.class_names, self.described, self.preprocessing = name, tuple(class_names), described, asdict(config)
        self.size = config.size if isinstance(config.size, int) else max(config.size)
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        self.tower, self.started = tower, started
        with torch.no_grad():
            features = tower.eval()(torch.zeros(1, 3, self.size, self.size))
        if features.ndim != 2:
            raise ValueError(f"student {name!r} gives {tuple(features.shape)} of an image, not a row (1, d)")
        self.head = nn.Linear(features.shape[1], len(self.class_names))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.tower(images))

    @property
    def parameter_count(self) -> int:
        """Of tower and head."""
        return size_of(self)

    def normalised(self, pixels: Tensor) -> Tensor:
        """The student's input, float32 (B, 3, size, size), of uint8 pixels."""
        mean, std = (torch.tensor(of, device=pixels.device).view(1, 3, 1, 1) for of in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std

    def seen_by(self, encoder: ImageEncoder, images: Tensor) -> Tensor:
        """The input of another encoder, (B, 3, H, H), of images that are this student's input: its own size, mean and std."""
        mean, std = (torch.tensor(of).to(images).view(1, 3, 1, 1) for of in (self.mean, self.std))
        pixels = (images * std + mean).clamp(0, 1)
        if (side := encoder.image_size) != self.size:
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(of).to(images).view(1, 3, 1, 1) for of in (encoder.mean, encoder.std))
        return (pixels - mean) / std

    @property
    def reader(self) -> ImageEncoder:
        """What reads image files for it, and takes as many threads as a model of its size wants."""
        store = to_pixels(image_transform_v2(PreprocessCfg(**self.preprocessing), is_train=False))
        told = json.dumps(self.preprocessing, sort_keys=True)
        return ImageEncoder(self.tower, store, told, self.mean, self.std, self.name, self.name, "")

    @torch.no_grad()
    def label(self, pixels: Tensor, batch: int = 256) -> Tensor:
        """z float32 (N, M), on the CPU, of uint8 pixels (N, 3, size, size)."""
        device, was = self.head.weight.device, self.training
        self.eval()
        with self.reader.threads():
            z = torch.cat([self(self.normalised(part.to(device))).softmax(1).cpu() for part in pixels.split(batch)])
        self.train(was)
        return z

    def save(self, folder: Path) -> None:
        """`student.safetensors`, then `student.json`. Raises OSError."""
        facts = Facts(name=self.name, class_names=self.class_names, described=self.described, preprocessing=self.preprocessing)
        save_tensors(folder / WEIGHTS, {name: tensor.clone() for name, tensor in stored_weights(self).items()})
        write_atomically(folder / FACTS, facts.model_dump_json(indent=1) + "\n")

    @property
    def sha256(self) -> str:
        """Of its weights."""
        return weights_hash(self)


def load(folder: Path) -> Student:
    """What `Student.save` wrote, on the CPU. Raises ValueError, with the file, where one is missing, damaged or of another student."""
    for name in (FACTS, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no student of `python -m gta distil`: {name} is missing")
    try:
        facts = Facts.model_validate_json((folder / FACTS).read_bytes())
        found = Student(facts.name, build(facts.described), facts.class_names, facts.described, facts.preprocessing)
    except ValidationError as error:
        raise ValueError(f"{folder / FACTS}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / FACTS}: damaged, or no architecture: {error}") from None
    try:
        found.load_state_dict(load_tensors(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS}: not the weights of the student in {FACTS}: {str(error).splitlines()[0]}") from None
    return found.eval()


def named(name: str, teacher: Teacher, *, device: str = "cpu", seed: int = 0) -> Student:
    """A student for the teacher's classes, by name.

    name: `teacher/4`, the teacher's own tower with a quarter of its parameters (or any other share); an image model of timm, such as
    `mobilenetv3_small_100`; an architecture of open_clip, such as `RN50`; a folder with a student, a model of timm or one of open_clip. An
    architecture alone starts from random weights by `seed`; `resnet18.a1_in1k` (timm) and `RN50@openai` (open_clip) start from these.
    Its head is new, but for a kept student with the same classes. Raises ValueError for an unknown name, with the nearest, and the errors
    of the weights' loaders.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _kept(Path(name), teacher.class_names) if Path(name).is_dir() else _of_name(name, teacher)
    placed(found.tower, device, torch.float32)
    return found.to(device)


def _of_name(name: str, teacher: Teacher) -> Student:
    names, called = teacher.class_names, name.removeprefix(TIMM)
    architecture, _, tag = called.partition("@")
    if name.startswith(SCALED):
        described = smaller(teacher.encoder.config, _share(name), len(names))
        return Student(name, build(described), names, described, json.loads(teacher.encoder.preprocessing))
    if called.partition(".")[0] in timm.list_models():
        return Student(name, *_timm(called, names), started="." in called)
    if architecture in open_clip.list_models():
        return Student(name, *_open_clip(architecture, tag, names), started=bool(tag))
    known = [*timm.list_models(), *open_clip.list_models()]
    raise ValueError(f"student {name!r}{nearest(called, known)}: neither {SCALED}4, nor a model of timm or open_clip, nor a folder")


def _share(name: str) -> float:
    try:
        whole = float(name.removeprefix(SCALED))
        if not 1 < whole < float("inf"):
            raise ValueError
    except ValueError:
        raise ValueError(f"student {name!r}: after {SCALED} stands how many times smaller it is, such as {SCALED}4") from None
    return 1 / whole


def _timm(called: str, names: Sequence[str]) -> Parts:
    """A model of timm: with weights where a tag names some."""
    described = {"timm": called.partition(".")[0]}
    tower = _weights_of(called) if "." in called else build(described)
    return tower, names, described, _of_timm(tower)


def _weights_of(name: str) -> nn.Module:
    view = load_view(name, device="cpu")
    assert isinstance(view, ImageEncoder)  # since it is no `features:FILE`
    return view.model


def _of_timm(tower: nn.Module) -> dict[str, Any]:
    """How a model of timm wants its images, as open_clip describes it. The whole short side is seen: no `crop_pct`."""
    data = timm.data.resolve_data_config({}, model=tower)
    return {"size": max(data["input_size"][1:]), **{name: data[name] for name in ("mean", "std", "interpolation")}}


def _open_clip(architecture: str, tag: str, names: Sequence[str]) -> Parts:
    """The image tower of an architecture of open_clip: with weights where a tag names some."""
    if tag:
        return _visual(encoders.load(architecture, pretrained=tag, device="cpu", dtype=torch.float32), names)
    described = _tower(open_clip.get_model_config(architecture))
    tower = build(described)
    size = tower.image_size
    return tower, names, described, {"size": size[0] if isinstance(size, tuple) else size}


def _tower(config: dict[str, Any]) -> Described:
    return {"open_clip": {name: config[name] for name in ("embed_dim", "vision_cfg", "quick_gelu") if name in config}}


def _visual(encoder: Encoder, names: Sequence[str]) -> Parts:
    return encoder.model.visual, names, _tower(encoder.config), json.loads(encoder.preprocessing)


def _kept(folder: Path, names: Sequence[str]) -> Student:
    """A student from a folder: of this room, of open_clip (such as a model of `gta label`), or of timm."""
    if (folder / FACTS).is_file():
        found = load(folder)
        new = Student(str(folder), found.tower, names, found.described, found.preprocessing, started=True)
        if found.class_names == new.class_names:
            new.head.load_state_dict(found.head.state_dict())
        return new
    if (folder / weights.CONFIG).is_file():
        return Student(str(folder), *_visual(encoders.load(str(folder), device="cpu", dtype=torch.float32), names), started=True)
    tower = _weights_of(str(folder))
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    given = {name: value for name, value in config.get("model_args", {}).items() if name != "num_classes"}
    described = {"timm": config["architecture"], "args": given}
    return Student(str(folder), tower, names, described, _of_timm(tower), started=True)
