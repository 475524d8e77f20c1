"""The table of photographs: any folder of class folders, any encoder, no language model.

A draw is `images` photographs of the folder, drawn by the seed without regard to their classes (the part `small` of `gta.data.parts`);
the same seed draws the views, texts and batches of adapt. Draws of one folder may share images. The rows of a draw:

    CLIP            what the encoder says of each image alone
    CLIP, own mean  a control: the mean feature of the draw's own images is subtracted from each, and the rest made unit again. Of what
                    a method gains that sees all images together, this much may be centring
    TransCLIP       one transduction. It is GTA-CLIP without adapt too: where nothing is asked and nothing learns, all iterations are one
    GTA-CLIP        all iterations, with adapt

Each of them is run from the names alone and, where the file of classes has attributes, from those in place of the names.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from gta import encoders
from gta.checkpoints import Checkpoints
from gta.files import ROOT, write_atomically
from gta.llm.chat import Question, Reply
from gta.scores import confident, results
from gta.scores.rows import Row
from gta.settings import Settings
from gta.state import Result
from gta.studies.class_files import Classed, from_root
from gta.studies.study import Study
from gta.transduct import text_prior

TABLE = "photographs"
OWN_MEAN, NO_ATTRIBUTES = "own mean", "no attributes"


class Photographs(Classed):
    """Parameters of `notebooks/photographs.ipynb`. dataset: a folder with a sub-folder of photographs for each class; images: of a draw;
    rate: of learning, for all parameters; confident: images of each class that adapt learns from. What else a run may be given does not
    exist here."""

    iterations: int = Field(ge=1)
    images: int = Field(ge=2)
    rate: float = Field(gt=0)
    confident: int = Field(ge=1)
    llm: Literal["none"] = "none"
    ledger: Literal[""] = ""
    mode: Literal["replay"] = "replay"
    max_calls: None = None
    attributes: Literal["ask"] = "ask"
    view: Literal[""] = ""
    preset: Literal[""] = ""

    @property
    def drawn(self) -> str:
        return f"{self.dataset}#small-{self.images}-{self.seed}"

    @property
    def settings(self) -> Settings:
        chosen = {"generate": False, "lr": self.rate, "lr_projection": self.rate, "confident": self.confident}
        return super().settings.model_copy(update=chosen)


class Nobody:
    """In place of a language model."""

    model = "none"

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        raise ValueError("the study of photographs asks no language model")


class Draw(Study):
    """A study of one draw."""

    @property
    def asked(self) -> str:
        """For rows: nobody was asked, and these attributes were read."""
        return f"first attributes {self.first.name}" if self.first else ""


def opened(parameters: Photographs) -> Draw:
    """The draw that a notebook's parameters name, with its encoder; prints what the methods see."""
    task = parameters.task
    first = parameters.first_attributes(task)
    given: dict[str, Any] = {
        "pretrained": parameters.pretrained,
        "revision": parameters.revision,
        "seed": parameters.seed,
        "embedded": task.embedded,
    }
    encoder = encoders.load(from_root(parameters.backbone), **given)
    print(f"{task.name}: {len(task.images)} images, {len(task.class_names)} classes, template {task.template!r}")
    print(f"{parameters.named_backbone} on {encoder.device}, {encoder.image_size} pixels, logit scale {encoder.logit_scale:.1f}")
    print(f"weights: sha256 {encoder.weights_sha256[:12]}; attributes: {first.name if first else 'none'}")
    print(f"{results.VERSIONS}; settings {parameters.settings}")
    kept: dict[str, Any] = {"store": ROOT / parameters.store, "checkpoints": ROOT / parameters.out / "state"}
    return Draw.of(task, encoder, parameters.settings, Nobody(), first=first, **kept)


def own_mean(once: Result, logit_scale: float) -> Tensor:
    """What an encoder says of images whose mean is taken away: softmax_j( logit_scale * mean_k c_i . t_jk ), c_i the unit vector along
    f_i - mean_n f_n. Returns (N, M).

    once: a run whose features f (N, d) are those of the untouched encoder. Raises ValueError where an image is the mean.
    """
    centred = F.normalize(once.features - once.features.mean(0), dim=1)
    return text_prior(centred, once.text_features, logit_scale)


def photographs(study: Study) -> dict[str, Result]:
    """All rows of a draw into `study.outcomes`. Returns the runs of GTA-CLIP by variant, each with its trail."""
    assert study.checkpoints, "they keep the trail"
    trail, runs = Checkpoints(study.checkpoints, trail=True), {}
    banks = {NO_ATTRIBUTES: study.names_only, **({"": study.static} if study.first else {})}
    for variant, bank in banks.items():
        suffix = "" if variant else "+attributes"
        once = study.add_once(bank, suffix)
        encoding = once.history[0]["seconds_encode"]
        study.outcomes[f"CLIP{suffix}", OWN_MEAN] = (own_mean(once, study.encoder.logit_scale), encoding, study.baseline)
        runs[variant] = study.run(bank, checkpoints=trail)
        study.add("GTA-CLIP", variant, runs[variant])
    return runs


def write(study: Study, parameters: Photographs, runs: Mapping[str, Result]) -> list[Row]:
    """The rows, as `gta.studies.study.Study.write`, and before them what adapt learnt from in each run (`gta.scores.confident`):
    `photographs_iterations.csv` and `photographs_classes.csv`. Only here do labels of query images enter."""
    source, count, key = study.task.source, study.settings.confident, study.images.key
    found: dict[str, list[pd.DataFrame]] = {"iterations": [], "classes": []}
    for variant, result in runs.items():
        states = list(result.trail)
        about: dict[str, Any] = {"dataset": study.task.name, "backbone": parameters.named_backbone, "seed": parameters.seed}
        about |= {"method": "GTA-CLIP", "variant": variant}
        of_run = {
            "iterations": confident.by_iteration(source, states, result.history, count, key),
            "classes": confident.by_class(source, states, study.task.class_names, count, key),
        }
        for name, frame in of_run.items():
            found[name].append(frame.assign(**about)[[*about, *frame.columns]])
    for name, frames in found.items():
        text = pd.concat(frames).to_csv(index=False, float_format="%.4f")
        write_atomically(ROOT / parameters.out / f"{TABLE}_{name}.csv", text)
    return study.write(parameters, f"{TABLE}.ipynb", TABLE)
