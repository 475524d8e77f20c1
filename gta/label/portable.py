"""The kept model without this program: `model.onnx`, from pixels to z, and `classify.py`, which needs onnxruntime, pillow and numpy.

The graph holds the image tower, the texts of the classes as prototypes and the mixture, so that no text is ever read. It computes
z = softmax( lam log softmax(s f t) + log p / 50 ) of `gta.transduct.posterior`, in float32.
"""

import copy
import json
import logging
import platform
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders.encoder import Encoder
from gta.transduct.mixture import TEMPERATURE

if TYPE_CHECKING:
    from gta.label.models import Classifier

GRAPH, FACTS, PROGRAM = "model.onnx", "classify.json", "classify.py"
WEIGHTS = "open_clip_model.safetensors"
OPSET = 18
NEEDED = ("onnx", "onnxscript", "onnxruntime")
LARGE = 1.5e9  # bytes of weights from which they lie in a file of their own beside the graph, which can hold 2 GB
AGREE = 1e-3  # the largest difference of z between the graph and torch with which it is kept


class Labeller(nn.Module):
    """From uint8 pixels (N, 3, H, W), as the encoder stores them, to z (N, M)."""

    mean: Tensor
    std: Tensor
    texts: Tensor
    centre: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self, encoder: Encoder, classifier: "Classifier"):
        super().__init__()
        self.tower = copy.deepcopy(encoder.model.visual).cpu().float().eval()
        texts, mu, variance = (getattr(classifier, name).detach().cpu().double() for name in ("texts", "prototypes", "variance"))
        centre = mu.mean(0)
        slope = mu / variance
        given = {
            "mean": torch.tensor(encoder.mean).view(1, 3, 1, 1),
            "std": torch.tensor(encoder.std).view(1, 3, 1, 1),
            "texts": (classifier.logit_scale * texts).T,
            "centre": centre,
            "slope": slope.T / TEMPERATURE,
            "shift": ((mu / 2 - centre) * slope).sum(1) / TEMPERATURE,
        }
        for name, tensor in given.items():
            self.register_buffer(name, tensor.float().contiguous())
        self.lam = classifier.lam

    def forward(self, pixels: Tensor) -> Tensor:
        features = F.normalize(self.tower((pixels.float() / 255 - self.mean) / self.std), dim=-1)
        prior = F.log_softmax(features @ self.texts, dim=1)
        return F.softmax(self.lam * prior + (features - self.centre) @ self.slope - self.shift, dim=1)


def why_not(encoder: Encoder, classifier: "Classifier") -> str:
    """Why there can be no graph, with the mend, or ""."""
    if classifier.second is not None:
        return f"the model has a second view, {classifier.second.name}, which is not in the folder; label without --view"
    return lacking(json.loads(encoder.preprocessing))


def lacking(how: dict[str, Any]) -> str:
    """What a graph or its program lacks for images that are read so (as open_clip describes it), with the mend, or ""."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        return f"{', '.join(missing)} missing; pip install 'gta-clip[onnx]', then the same command writes it"
    sides = how["size"] if isinstance(how["size"], (list, tuple)) else [how["size"]] * 2
    if sides[0] != sides[1] or how["resize_mode"] not in ("shortest", "squash"):
        return f"classify.py does not resize as this encoder does ({how['resize_mode']}, {how['size']})"
    return ""


def write(folder: Path, encoder: Encoder, classifier: "Classifier") -> str:
    """Write the graph and the program into the folder of a model. Returns a part of the card: size and speed, or why there is none."""
    if reason := why_not(encoder, classifier):
        return _none(reason)
    with encoder.threads():
        how = json.loads(encoder.preprocessing)
        return leave(folder, Labeller(encoder, classifier), how, encoder.image_size, classifier.class_names, WEIGHTS)


def leave(folder: Path, module: nn.Module, how: dict[str, Any], side: int, class_names: Sequence[str], weights: str) -> str:
    """Write the graph of a module, from uint8 pixels (N, 3, side, side) to z (N, M), and the program beside it. Returns a part of the card,
    as `write` does. how: of reading images, as open_clip describes it; weights: the file in the folder that holds them for torch."""
    reason, seconds = lacking(how), list[float]()
    if not reason:
        reason, seconds = _graph(folder / GRAPH, module, side)
    if reason:
        return _none(reason)
    resample = Image.Resampling[how["interpolation"].upper()].value
    facts = {"class_names": class_names, "side": side, "squash": how["resize_mode"] == "squash", "resample": resample}
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name(PROGRAM), folder / PROGRAM)
    return _card(folder, weights, seconds)


def _none(reason: str) -> str:
    """What the card says where there is no graph; it is told too."""
    print(f"no {GRAPH}: {reason}", file=sys.stderr)
    return f"\n**Without this program.** There is no `{GRAPH}`: {reason}.\n"


@torch.no_grad()
def _graph(file: Path, module: nn.Module, side: int) -> tuple[str, list[float]]:
    """Write the graph. Returns why there is none, or "", and the seconds that an image takes with torch and with the graph."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, side, side), generator=noise).to(torch.uint8)
    try:
        _export(module, pixels, file)
        run = _session(file)
        apart = float((run(pixels) - module(pixels)).abs().max())
    except Exception as error:  # of a tower that torch cannot write, which raises what it likes; the model itself is kept
        return f"torch cannot write it for this encoder ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})", []
    if not apart <= AGREE:
        for part in file.parent.glob(f"{GRAPH}*"):
            part.unlink()
        return f"its z would differ by {apart:.1e} from torch's", []
    return "", [_seconds(partial(work, pixels[:1])) for work in (module, run)]


def _export(module: nn.Module, pixels: Tensor, file: Path) -> None:
    """Write the graph for any number of images. What torch tells about its steps is not passed on."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = ({0: torch.export.Dim("images")},)
            program = torch.onnx.export(
                module,
                (pixels,),
                input_names=["pixels"],
                output_names=["z"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None  # since it is not given a file
            program.save(str(file), external_data=size > LARGE)
    finally:
        logging.disable(before)


def _session(file: Path) -> Callable[[Tensor], Tensor]:
    """The graph as a function of pixels, on the threads that torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(["z"], {"pixels": pixels.numpy()})[0])


def _seconds(work: Callable[[], object]) -> float:
    """The median of five, after one that is slower."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _card(folder: Path, weights: str, seconds: list[float]) -> str:
    size, graph = (sum(file.stat().st_size for file in folder.glob(name)) for name in (weights, f"{GRAPH}*"))
    rows = [(f"`{weights}`, torch", size, seconds[0]), (f"`{GRAPH}`, onnxruntime", graph, seconds[1])]
    lines = [f"| {what} | {size / 1e6:,.1f} MB | {1000 * each:,.1f} ms |" for what, size, each in rows]
    head = f"`{GRAPH}` (ONNX, opset {OPSET}) goes from uint8 pixels to the confidence of each class; `{PROGRAM}` reads image files"
    where = f"one image at a time on {platform.machine()}, {torch.get_num_threads()} threads, when it was kept"
    return "\n".join(
        [
            f"\n**Without this program.** {head}",
            "for it, and needs onnxruntime, pillow and numpy alone.",
            "",
            f"| {where} | size | time |",
            "| --- | --- | --- |",
            *lines,
            "",
        ]
    )
