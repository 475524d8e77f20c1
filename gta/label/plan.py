"""Estimate what a run on a user's images needs: time, memory, disk, questions and their price.

Nothing is fetched, asked or written. The encoder is timed on artificial pixels with random weights, which take as long as real ones.
The rest is computed from counts. The numbers are orders of magnitude.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from gta import encoders
from gta.encoders import weights
from gta.encoders.encoder import Encoder
from gta.encoders.image_encoder import ImageEncoder
from gta.encoders.vision import READY, untrained
from gta.label.jobs import EMBEDDED, FIELDGUIDE, NONE, Job
from gta.label.texts import check_texts
from gta.label.videos import sizes
from gta.llm import prompts
from gta.transduct import sparse
from gta.transduct.from_texts import entries_held
from gta.transduct.neighbors import EXACT, exactly

PROMPT, ANSWER = 220, 90  # approximate tokens of a question and of its answer
PROGRAM = 1.1e9  # bytes of memory that Python, torch and other libraries take at the start
TRAINING = 3  # cost of a forward and a backward pass, in forward passes


def plan(job: Job) -> str:
    """The choices and the estimates as text."""
    lines = [str(job), "from nothing it would take", *(f"  {what:16}{how}" for what, how in [*_resources(job), *_questions(job)])]
    return "\n".join([*lines, "nothing was fetched, asked or written"])


def _resources(job: Job) -> list[tuple[str, str]]:
    frames, of_frames = sizes(job.found, job.options.every)
    n, m = len(job.found.paths) + frames + len(job.support[0]), len(job.classes.names)
    try:
        encoder = _like(job)
    except (ValueError, weights.MissingWeights) as error:
        return [("time", f"not known before the encoder is here: {error}")]
    warned = [("names", line) for line in check_texts(job, encoder)]
    example = job.plain_bank().texts[0][0]  # of words that the encoder knows
    image, text = _seconds(encoder, example)
    iterations, adapted = job.settings.iterations, min(n, m * job.settings.confident)
    size = encoder.image_size
    width = encoder.config["embed_dim"]
    texts = 8 * m  # about eight texts for each class at the end
    compared = n if exactly(n, job.device != "cpu") else EXACT  # images with each, about: of more, those in near cells
    solving = iterations * 2 * (2 * n * compared * width + 140 * n * m * width) / _flops()
    total = iterations * (n * image + texts * text) + (iterations - 1) * TRAINING * adapted * (image + text) + solving
    seconds, more_floats, more_disk = _view(job, n)
    parameters = sum(p.numel() for p in encoder.model.parameters())
    held = entries_held(None, n - len(job.support[0]), m)
    z = 10 * n * m if held is None else sparse.bytes_of(n, m, width, held) // 4 + 5 * n * held + 2 * m * m  # the last for adapt
    floats = 6 * parameters + z + 4 * n * width  # weights twice, gradients, two moments, a checkpoint; z and similar arrays
    batch = job.settings.batch_size * _activations(encoder, example)
    memory = 4 * (floats + more_floats) + batch + PROGRAM
    disk = 3 * size * size * (n + 4 * adapted) + 4 * n * width + 8 * parameters + more_disk + of_frames
    return [
        *warned,
        ("time", f"about {_time(total + seconds)}: {1 / image:.1f} images a second to encode, {iterations} times"),
        *([("", f"{_time(seconds)} of it for the second view, once")] if seconds else []),
        ("memory", f"about {memory / 1e9:.1f} GB, {batch / 1e9:.2f} of it what a batch leaves to adapt from; encoding takes what is free"),
        ("disk", f"about {disk / 1e6:,.0f} MB, to go on after an interruption"),
        *([("", f"{of_frames / 1e6:,.0f} MB of it about {frames:,} frames of videos")] if frames else []),
        *([] if job.options.encoder == EMBEDDED else [("weights", "fetched from the Hub on first use, where they are not in its cache")]),
    ]


def _view(job: Job, images: int) -> tuple[float, float, float]:
    """What a second view adds: seconds, floats in memory, bytes on the disk."""
    if job.options.view is None or job.options.view.startswith(READY):
        return 0.0, 0.0, 0.0
    here = job.options.view == EMBEDDED or Path(job.options.view).is_dir()
    view = job.view() if here else untrained(job.options.view, job.device)
    assert isinstance(view, ImageEncoder)
    pixels = torch.zeros(8, *view.store(Image.new("RGB", (8, 8))).shape, dtype=torch.uint8)
    width, each = view.encode_images(pixels).shape[1], _timed(lambda: view.encode_images(pixels)) / 8
    parameters = sum(p.numel() for p in view.model.parameters())
    return images * each, parameters + images * width, images * (pixels[0].numel() + 4 * width)


def _questions(job: Job) -> list[tuple[str, str]]:
    if job.options.llm == NONE or job.replayed is not None:
        return [("questions", "none")]
    m, iterations = len(job.classes.names), job.settings.iterations
    questions = prompts.load(job.classes.domain or "general")
    first = m * (2 if questions.habitat else 1)
    pairs = m * (m - 1) // 2
    most = min(pairs, max(iterations, round(job.settings.pair_share * min(pairs, len(job.found.paths)) * iterations)))
    asked = f"{first} about single classes, then up to about {2 * most} about confused pairs"
    told = [("questions", f"{asked}; --max-calls sets a cap, now {job.options.max_calls or 'none'}")]
    low, high = ((number * PROMPT, number * ANSWER) for number in (first, first + 2 * most))
    if job.options.llm == FIELDGUIDE:
        return [*told, ("price", "none: the guide is a part of this program")]
    tokens = f"{low[0] + low[1]:,} to {high[0] + high[1]:,} tokens"
    if job.options.price is None:
        return [*told, ("price", f"{tokens}; --price PROMPT ANSWER, of a million tokens, gives the sum")]
    cost = [(a * job.options.price[0] + b * job.options.price[1]) / 1e6 for a, b in (low, high)]
    return [*told, ("price", f"{cost[0]:.2f} to {cost[1]:.2f} for {tokens}; answers that are kept cost nothing again")]


def _like(job: Job) -> Encoder:
    """An encoder of the same architecture, made without a download. Raises ValueError if that is impossible."""
    given = job.options
    here = given.encoder == EMBEDDED or given.encoder.startswith(weights.HUB) or Path(given.encoder).is_dir()
    if given.encoder.startswith(weights.HUB):
        raise ValueError("its architecture stands in a repository of the Hub")
    if here:
        return job.encoder()
    logging.disable(logging.WARNING)  # open_clip warns of random weights
    try:
        return encoders.load(given.encoder, pretrained="random", device=job.device)
    finally:
        logging.disable(logging.NOTSET)


def _seconds(encoder: Encoder, text: str) -> tuple[float, float]:
    """Seconds to encode one image, and one text."""
    pixels = torch.zeros(8, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
    return _timed(lambda: encoder.encode_images(pixels)) / 8, _timed(lambda: encoder.encode_texts([text] * 8)) / 8


def _activations(encoder: Encoder, text: str) -> float:
    """Bytes that are kept of an image and a text of a batch until the gradient is taken: what autograd saves of two, weights apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in encoder.model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    pixels = torch.zeros(2, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = encoder.image_features(pixels), encoder.text_features([text] * 2)  # held, so that no memory is used twice
    del held
    return sum(saved.values()) / 2


def _timed(work: Callable[[], object]) -> float:
    """Seconds of a second call; the first call is slower."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _flops() -> float:
    """Floating-point operations in a second, measured on a matrix product."""
    a = torch.rand(1024, 1024)
    return 2 * 1024**3 / _timed(lambda: a @ a)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
