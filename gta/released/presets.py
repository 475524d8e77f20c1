"""All differences between the paper and the released program, and the two presets that set them: `as_described` and `as_released`.

`python -m gta.released.presets` prints the list, which `docs/presets.md` holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gta.adapt import natural_augmentation
from gta.encoders.encoder import Encoder
from gta.llm.chat import ChatModel
from gta.llm.stored import StoredAnswers
from gta.released import asking, graphs, solver, views, weights
from gta.settings import PresetName
from gta.transduct import select_gamma

Augmentation = Callable[[int], Callable[[Tensor], Tensor]]
SAME = "the same: "
# Each difference by its name in `docs/reproduction.md`: what the two presets set, in words.
POINTS: dict[str, tuple[str, str]] = {
    "headline accuracy": ("the last iterate", SAME + "the best of all calls stands beside it as `oracle_best`"),
    "first attributes": ("`attributes`: the project's questions", SAME + "name the lists, `attributes=adaptclipzs:PATH`"),
    "grown attributes": ("accumulate", "serve the iteration that asked"),
    "questions of one iteration": ("all at once", "in turn: later ones show earlier answers"),
    "duplicates among grown attributes": ("dropped", "kept"),
    "few-shot graph": ("aligned", "misaligned, and a shot loses its nearest image"),
    "search for gamma": ("each anew; the winner's z", "state carried; the last z"),
    "gamma of an iteration": ("chosen once, from plain CLIP", "chosen anew before each transduction"),
    "who learns": ("both encoders whole", "not what has proj in its name"),
    "logit scale": ("frozen; the solver uses the model's own", "learns; the solver keeps the first"),
    "precision": ("float32 weights and AdamW", "float16 weights and the released step, at the paper's rates"),
    "views": ("bicubic, of at most twice the resolution", "bilinear, of the file (photographs)"),
    "pair threshold": ("at least one new pair is asked", "none below beta"),
    "negative cosines in the graph": ("max(0, .)", "kept"),
    "predictions of another method": ("never changed", SAME + "no run here begins with them"),
    "stored answers": ("by the whole question", "by pair, within a run; `llm=gta_clip_llama3:PATH` serves the shipped ones"),
    "language model's answers": ("any form of list", "lines with one kind of bullet"),
    "few-shot images": ("by a hash of dataset, seed and path", SAME + "theirs hang on the order of a list"),
    "CUB validation images": ("drawn from train", SAME + "theirs are test images, whose labels would choose gamma"),
    "number of classes": ("from the class names", SAME + "theirs is counted from test labels, and equal where no class is absent"),
    "order of the images": ("no matter", SAME + "what is drawn for an image hangs on its content"),
    "rank of confident images": ("by log-odds", SAME + "theirs is by z, where rounding decides"),
    "classes with the same texts": ("the first of the two", SAME + "theirs is by rounding"),
}


@dataclass(frozen=True)
class Preset:
    """What a study runs with. settings: of `gta.settings.Settings`; hooks: of `gta.loop.run`; few_shot: further hooks where images are
    labelled; encoder, llm: what these become; augmentation: from the task's own to the one that adapt uses; whole: adapt crops the files
    themselves; search: for gamma; gamma_in_each_iteration: whether it is searched for before each transduction."""

    name: PresetName = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[str, Any] = field(default_factory=dict)
    few_shot: Mapping[str, Any] = field(default_factory=dict)
    encoder: Callable[[Encoder], Encoder] = lambda encoder: encoder
    llm: Callable[[ChatModel, int], ChatModel] = lambda llm, seed: llm
    augmentation: Callable[[Augmentation], Augmentation] = lambda own: own
    whole: bool = False
    search: Callable = select_gamma
    gamma_in_each_iteration: bool = False


def half_with_its_scale(encoder: Encoder) -> Encoder:
    return weights.solver_keeps_scale(weights.half(encoder))


def asked_as_released(llm: ChatModel, seed: int) -> ChatModel:
    """Stored answers are what the released program read, bullets and pairs included."""
    return llm if isinstance(llm, StoredAnswers) else asking.BulletsAlone(asking.AnswersByPair(llm, {}), seed)


def bilinear_of_photographs(own: Augmentation) -> Augmentation:
    return views.bilinear_augmentation if own is natural_augmentation else own


# In float16 the paper's rates mean what they meant in the release, and nothing at others.
RELEASED_STEP: dict[str, Any] = {"optimizer": "released", "lr": 2e-7, "lr_projection": 1e-6}
AS_RELEASED = Preset(
    "as_released",
    settings={"memory": "one_iteration", "learns": "released_subset", **RELEASED_STEP},
    hooks={
        "affinity": graphs.graph_with_negatives,
        "ask": asking.in_turn_with_repeats,
        "groups": weights.learning_scale,
        "select_pairs": asking.pairs_above,
    },
    few_shot={"affinity": graphs.knn_graph},
    encoder=half_with_its_scale,
    llm=asked_as_released,
    augmentation=bilinear_of_photographs,
    whole=True,
    search=solver.select_gamma,
    gamma_in_each_iteration=True,
)
PRESETS: dict[str, Preset] = {
    "": Preset(),
    "as_described": Preset("as_described", {"memory": "cumulative", "optimizer": "adamw", "learns": "all"}),
    "as_released": AS_RELEASED,
}


def table() -> str:
    """The list as a table in Markdown."""
    lines = [f"| {name} | {described} | {released} |" for name, (described, released) in POINTS.items()]
    return "\n".join(["| point | `as_described` | `as_released` |", "| --- | --- | --- |", *lines])


if __name__ == "__main__":
    print(table())
