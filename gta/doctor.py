"""What this machine is ready for: GPU, disk, memory, weights, data, language model; and the command for what is missing."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from huggingface_hub import try_to_load_from_cache

from gta.data import lock, manifests, verify
from gta.data.encoder_facts import Role
from gta.label.plan import PROGRAM
from gta.llm import prompts
from gta.llm.address import EXAMPLE, LanguageModelError, parted
from gta.llm.chat import LanguageModel, Question
from gta.names import fill
from gta.settings import Settings

SECONDS = 60  # that an endpoint may take for one answer
LIMITS = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]  # of a container, in bytes


@dataclass(frozen=True)
class Check:
    """what is looked at; whether it is ready; what was found; the command or step that mends it."""

    what: str
    ready: bool
    found: str
    mend: str = ""


def examine(root: Path, llm: str | None = None) -> list[Check]:
    """Every check, in the order in which a first run needs them. Nothing is downloaded; images are counted, not opened. An endpoint
    is asked one question."""
    weights = [_weights(encoder) for encoder in manifests.encoders()]
    return [_gpu(), _disk(root), _memory(), *weights, _today(), *(_data(name, root) for name in manifests.names()), _endpoint(llm)]


def table(checks: Iterable[Check]) -> str:
    """A line a check, and under what is missing the command that brings it."""
    lines = []
    for check in checks:
        lines.append(f"{'ready  ' if check.ready else 'missing'}  {check.what:16}{check.found}")
        if check.mend:
            lines.append(f"{'':25}{check.mend}")
    return "\n".join(lines)


def _gpu() -> Check:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Check(
            "GPU", True, f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, torch {torch.__version__}"
        )
    found = f"none that torch {torch.__version__} can use; {os.cpu_count()} CPU cores"
    return Check("GPU", False, found, "everything runs on the CPU, GTA-CLIP with a real CLIP in hours instead of minutes")


def _disk(root: Path) -> Check:
    folder = next(path for path in (root, *root.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    ready = free > 1e9
    return Check(
        "disk", ready, f"{free / 1e9:,.1f} GB free in {folder}", "" if ready else "EuroSAT needs 0.2 GB, SUN397 80 GB: give another --root"
    )


def _memory() -> Check:
    """Which encoders fit: for adapt, and for labels without it."""
    room, where = _room()
    adapt, labels, large = list[str](), list[str](), list[str]()
    for encoder in sorted((of for role in get_args(Role) for of in manifests.encoders(role)), key=lambda of: needed(of, adapt=True)):
        place = adapt if needed(encoder, adapt=True) <= room else labels if needed(encoder, adapt=False) <= room else large
        place.append(encoder.name)
    rest = {"for labels without adapt (--iterations 1) also": labels, "too small for": large}
    mend = "; ".join(f"{what} {', '.join(names)}" for what, names in rest.items() if names)
    return Check("memory", bool(adapt), f"{room / 1e9:.1f} GB {where}; enough to adapt {', '.join(adapt) or 'no encoder'}", mend)


def needed(encoder: manifests.EncoderWeights, adapt: bool) -> float:
    """About how many bytes a run needs, in float32.

    The weights are there twice: as they were, and those of the run. Adapt adds gradients, two moments, the weights before a step, and
    what a batch keeps for the backward pass.
    """
    weights = 4 * (encoder.parameters.image + encoder.parameters.text)
    return PROGRAM + (6 * weights + Settings().batch_size * encoder.kept * 1e6 if adapt else 2 * weights)


def _room() -> tuple[float, str]:
    """The memory that a run may take, in bytes, and where: on the GPU, in the machine, or in the container."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1], "on the GPU"
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [int(text) for file in LIMITS if file.is_file() and (text := file.read_text(encoding="ascii").strip()).isdigit()]
    return min([machine, *limits]), "in this machine"


def _cached(encoder: manifests.EncoderWeights) -> str | None:
    """The file of its weights in the cache of the Hub."""
    return next((path for file in encoder.files if isinstance(path := try_to_load_from_cache(encoder.hub, file), str)), None)


def _today() -> Check:
    """The encoders of today, in one line: few users want them all. The cache names a file after the hash of its content."""
    cached = [(encoder, path) for encoder in manifests.encoders("today") if (path := _cached(encoder))]
    if not cached:
        return Check("of today", False, "no encoder of today is in the cache of the Hub", "docs/encoders.md says which to take, and how")
    others = [
        f"{encoder.name} is not the file that its manifest knows; --revision {encoder.revision} reads that one"
        for encoder, path in cached
        if (known := encoder.sha256.get(Path(path).name)) and len(blob := Path(path).resolve().name) == len(known) and blob != known
    ]
    return Check("of today", not others, f"in the cache: {', '.join(encoder.name for encoder, _ in cached)}", "; ".join(others))


def _weights(encoder: manifests.EncoderWeights) -> Check:
    if path := _cached(encoder):
        return Check(encoder.name, True, path)
    command = f"""python -c "from gta import encoders; encoders.load('{encoder.name}')\""""
    return Check(encoder.name, False, f"{encoder.hub} is not in the cache of the Hub", f"{command}   (fetches them)")


def _data(name: str, root: Path) -> Check:
    report = verify.verify(name, root, decode=False)
    counts = ", ".join(f"{split} {n:,}" for split, n in report.found.items() if n)
    if report.ready:
        locked = "locked" if lock.read(name) else "not locked: your own copy"
        return Check(name, True, f"{counts} in {report.base} ({locked})")
    what, _, which = report.problems[0]
    if what == "no images":
        return Check(name, False, f"not in {root}", f"python -m gta data fetch {name} --root {root}")
    return Check(name, False, f"{what}: {which.splitlines()[0]}", f"python -m gta data verify {name} --root {root}")


def _endpoint(llm: str | None) -> Check:
    """Whether an endpoint answers a question as a run asks it; the field guide needs none."""
    what = "language model"
    if llm is None:
        return Check(what, True, "fieldguide, which only knows digits; give --llm MODEL@URL to try yours")
    try:
        model, address = parted(llm)
    except ValueError as error:
        return Check(what, False, str(error), EXAMPLE)
    asked = LanguageModel(model, str(address), tries=2, timeout=SECONDS, patience=0, progress=False)
    again = f"then ask again: python -m gta doctor --llm {model}@{address}"
    try:
        (reply,) = asked.ask([Question(fill(prompts.load().describe, name="zebra"), "zebra")])
    except LanguageModelError as error:
        return Check(what, False, str(error), again)
    if reply.gave_up:
        return Check(what, False, f"{model} at {address} answers, but not with a list: {reply.gave_up}", f"name another model; {again}")
    learnt = "".join(f"; it {line}" for line in asked.learnt)
    return Check(what, True, f"{model} at {address} says of a zebra {reply.phrases[0]!r}, and {len(reply.phrases) - 1} more{learnt}")
