"""What a run leaves in its folder so that a review needs no command line: its options, where its images lie, and their features.

Nothing secret is in it: how an endpoint is asked (`--sampling`) is left out, and the address of one holds no key (`gta.llm.address`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gta.encoders.vision import READY
from gta.files import load_tensors, save_tensors, sha256, write_atomically
from gta.label.jobs import NONE, REPLAY, Job, Options
from gta.label.labelled import FACTS
from gta.label.run import Outcome

FEATURES = "state/review.safetensors"
LEFT_OUT = {"out", "sampling", "max_calls", "price", "smoke", "save_model"}  # of the options: what a review decides, or does not need


@dataclass(frozen=True)
class Kept:
    """out: the folder of results; options: those of the run; names, paths: of the images (N,), as in `predictions.csv` and on the disk;
    class_names: in their order; features (N, d): unit rows, as the adapted encoder saw the images."""

    out: Path
    options: Options
    names: list[str]
    paths: list[Path]
    class_names: list[str]
    features: Tensor


def leave(job: Job, outcome: Outcome) -> None:
    """Write what a review needs. The facts come last and know the hash of the features, so that the two belong together."""
    save_tensors(job.out / FEATURES, {"features": outcome.result.features.half().contiguous()})
    facts = {
        "options": _from_anywhere(job.options).model_dump(exclude=LEFT_OUT),
        "images": [[name, os.path.abspath(path)] for name, path in zip(outcome.names, outcome.paths, strict=True)],
        "class_names": job.classes.names,
        "features": sha256(job.out / FEATURES),
    }
    write_atomically(job.out / FACTS, json.dumps(facts))


def read(out: Path) -> Kept:
    """What `leave` left. Raises ValueError where there is nothing, or no longer what was written."""
    mend = f"the command `python -m gta label ... --out {out}` makes it (again), and pays for nothing twice"
    try:
        facts = json.loads((out / FACTS).read_bytes())
        if facts["features"] != sha256(out / FEATURES):
            raise ValueError(f"{out / FEATURES}: not what was written")
        features = load_tensors(out / FEATURES)["features"]
        options = Options(**facts["options"], out=str(out))
        names, paths = [name for name, _ in facts["images"]], [Path(path) for _, path in facts["images"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out} is not the folder of a run that ended, or its folder `state` is not whole; {mend}: {error}") from None
    return Kept(out, options, names, paths, list(facts["class_names"]), features.float())


def again(kept: Kept) -> Options:
    """The options with which the run goes on: no language model is asked again, its texts are replayed."""
    llm = NONE if kept.options.llm == NONE else f"{REPLAY}{kept.out / 'attributes.json'}"
    return kept.options.model_copy(update={"llm": llm})


def _from_anywhere(options: Options) -> Options:
    """The options with whole paths, since a review may be started in another folder."""
    given = options.under(Path.cwd())
    tag, _, file = (given.pretrained or "").rpartition("=")
    changes: dict[str, str] = {}
    if Path(given.encoder).is_dir():
        changes["encoder"] = os.path.abspath(given.encoder)
    if file and Path(file).is_file():
        changes["pretrained"] = f"{tag}={os.path.abspath(file)}" if tag else os.path.abspath(file)
    if given.view and given.view.startswith(READY):
        changes["view"] = READY + os.path.abspath(given.view.removeprefix(READY))
    elif given.view and Path(given.view).is_dir():
        changes["view"] = os.path.abspath(given.view)
    return given.model_copy(update=changes)
