"""The calibration table: whether CLIP, TransCLIP and each iterate of GTA-CLIP are right as often as z says.

What a temperature mends that is chosen without labels, or with few, is scored in `gta.scores.temperatures`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gta.affinity import nearest
from gta.checkpoints import Checkpoints
from gta.files import ROOT, write_atomically
from gta.scores import temperatures
from gta.scores.calibration import log_of, with_temperature
from gta.state import State
from gta.studies.evolution import iterates
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Key, Study


@dataclass(frozen=True)
class Said:
    """What a method says of N images: logits (N, M), with z = softmax(logits); and of each image the nearest other one, int (N,), by the
    cosine of the features that the method saw."""

    logits: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def of(cls, state: State) -> "Said":
        """Of the query images in an iteration."""
        return cls(state.tensors["z"]["logits"].numpy(), _nearest(state.tensors["features"]["images"][: len(state.z)]))


def calibration(study: Study, folder: Path) -> dict[Key, Said]:
    """CLIP, TransCLIP, GTA-CLIP and every iterate of it into `study.outcomes`. Returns what each of them said.

    folder: for checkpoints, which keep the logits of every iteration: z alone is 1 to the last digit where a method is sure.
    """
    trail = Checkpoints(folder, trail=True)
    clip, transclip = study.baseline, (f"Trans{study.task.baseline}", "")
    once = study.run(study.first_texts, changes=ONCE, checkpoints=trail)
    study.outcomes[clip] = (once.clip, once.history[0]["seconds_encode"], clip)
    study.add(*transclip, once)
    (state,) = once.trail
    said = {clip: Said(log_of(once.clip.numpy()), _nearest(once.features)), transclip: Said.of(state)}
    whole = study.run(study.static, study.llm, checkpoints=trail)
    study.add("GTA-CLIP", "", whole)
    of_iterates = {key: outcome for key, outcome in iterates(whole).items() if key[1]}
    for (key, (z, seconds, _)), state in zip(of_iterates.items(), whole.trail, strict=True):
        study.outcomes[key], said[key] = (z, seconds, clip), Said.of(state)
    return {**said, ("GTA-CLIP", ""): said[key]}


def write(study: Study, parameters: RunParameters, said: Mapping[Key, Said]) -> pd.DataFrame:
    """`temperatures.csv`, the lines of `gta.scores.temperatures.compared`, and `reliability.csv`, those of `diagram`, of each method and
    variant. Here the labels of query images enter. Returns the first."""
    confidence = float(with_temperature(said[study.baseline].logits, 1).max(1).mean())
    rules = {key: temperatures.label_free(of.logits, of.neighbours, confidence) for key, of in said.items()}
    source = study.task.source
    compared = _together(study, parameters, said, lambda key: temperatures.compared(source, said[key].logits, rules[key], parameters.seed))
    diagrams = _together(study, parameters, said, lambda key: temperatures.diagram(source, said[key].logits, rules[key]))
    for name, frame in {"temperatures": compared, "reliability": diagrams}.items():
        write_atomically(ROOT / parameters.out / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    return compared


def _together(study: Study, parameters: RunParameters, keys: Mapping[Key, Said], of: Callable[[Key], pd.DataFrame]) -> pd.DataFrame:
    """The frame of each method and variant, with columns that say whose it is."""
    frames = []
    for method, variant in keys:
        named: dict[str, Any] = {"dataset": study.task.name, "backbone": parameters.named_backbone, "seed": parameters.seed}
        named |= {"method": method, "variant": variant}
        frame = of((method, variant))
        frames.append(frame.assign(**named)[[*named, *frame.columns]])
    return pd.concat(frames, ignore_index=True)


def _nearest(features: Tensor) -> np.ndarray:
    """For each image the index of the nearest other one, int (N,). features: (N, d), unit rows."""
    return nearest(features, features, 1, own=torch.arange(len(features)))[1][:, 0].numpy()
