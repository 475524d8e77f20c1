"""All differences between the paper and the released program, and the two presets that set them: `as_described` and `as_released`.

`python -m gta.released.presets` prints the list, which `docs/presets.md` holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from gta.adapt import natural_augmentation
from gta.encoders.encoder import Encoder
from gta.llm.chat import ChatModel
from gta.llm.stored import StoredAnswers
from gta.released import asking, graphs, solver, views, weights
from gta.transduct import select_gamma

Name = Literal["", "as_described", "as_released"]
Augmentation = Callable[[int], Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Point:
    """One difference. described, released: what each preset sets, in words; settings, hooks: of `gta.settings.Settings` and of
    `gta.loop.run`, as the release has them."""

    described: str
    released: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[str, Any] = field(default_factory=dict)


SAME = "the same: {}"
POINTS: dict[str, Point] = {
    "headline accuracy": Point("the last iterate", SAME.format("the best of all calls stands beside it as `oracle_best`")),
    "first attributes": Point("`attributes`: the project's questions", SAME.format("name the lists, `attributes=adaptclipzs:PATH`")),
    "grown attributes": Point("accumulate", "serve the iteration that asked", {"memory": "one_iteration"}),
    "questions of one iteration": Point("all at once", "in turn: later ones show earlier answers", {}, {"ask": asking.in_turn}),
    "duplicates among grown attributes": Point("dropped", "kept", {}, {"ask": asking.repeats_kept}),
    "few-shot graph": Point("aligned", "misaligned, and a shot loses its nearest image", {}, {}),
    "search for gamma": Point("each anew; the winner's z", "state carried; the last z", {}, {}),
    "gamma of an iteration": Point("chosen once, from plain CLIP", "chosen anew before each transduction", {}, {}),
    "who learns": Point("both encoders whole", "not what has proj in its name", {"learns": "released_subset"}),
    "logit scale": Point(
        "frozen; the solver uses the model's own", "learns; the solver keeps the first", {}, {"groups": weights.learning_scale}
    ),
    "precision": Point(
        "float32 weights and AdamW",
        "float16 weights and the released step, at the paper's rates",
        {"optimizer": "released", "lr": 2e-7, "lr_projection": 1e-6},
    ),
    "views": Point(
        "bicubic, of at most twice the resolution", "bilinear, of the file (photographs)", {}, {"augment": views.bilinear_augmentation}
    ),
    "pair threshold": Point("at least one new pair is asked", "none below beta", {}, {"select_pairs": asking.pairs_above}),
    "negative cosines in the graph": Point("max(0, .)", "kept", {}, {"affinity": graphs.graph_with_negatives}),
    "predictions of another method": Point("never changed", SAME.format("no run here begins with them")),
    "stored answers": Point("by the whole question", "by pair, within a run; `llm=gta_clip_llama3:PATH` serves the shipped ones"),
    "language model's answers": Point("any form of list", "lines with one kind of bullet"),
    "few-shot images": Point("by a hash of dataset, seed and path", SAME.format("theirs hang on the order of a list")),
    "CUB validation images": Point("drawn from train", SAME.format("theirs are test images, whose labels would choose gamma")),
    "number of classes": Point(
        "from the class names", SAME.format("theirs is counted from test labels, and equal where no class is absent")
    ),
    "order of the images": Point("no matter", SAME.format("what is drawn for an image hangs on its content")),
    "rank of confident images": Point("by log-odds", SAME.format("theirs is by z, where rounding decides")),
    "classes with the same texts": Point("the first of the two", SAME.format("theirs is by rounding")),
}


@dataclass(frozen=True)
class Preset:
    """What a study runs with. settings: of `gta.settings.Settings`; hooks: of `gta.loop.run`; few_shot: further hooks where images are
    labelled; encoder, llm: what these become; augmentation: from the task's own to the one that adapt uses; whole: adapt crops the files
    themselves; search: for gamma; gamma_in_each_iteration: whether it is searched for before each transduction."""

    name: Name = ""
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


AS_RELEASED = Preset(
    "as_released",
    {key: value for point in POINTS.values() for key, value in point.settings.items()},
    {key: value for point in POINTS.values() for key, value in point.hooks.items() if key != "augment"}
    | {"ask": asking.in_turn_with_repeats},
    {"affinity": graphs.knn_graph},
    half_with_its_scale,
    asked_as_released,
    bilinear_of_photographs,
    True,
    solver.select_gamma,
    True,
)
PRESETS: dict[str, Preset] = {
    "": Preset(),
    "as_described": Preset("as_described", {"memory": "cumulative", "optimizer": "adamw", "learns": "all"}),
    "as_released": AS_RELEASED,
}


def table() -> str:
    """The list as a table in Markdown."""
    lines = [f"| {name} | {point.described} | {point.released} |" for name, point in POINTS.items()]
    return "\n".join(["| point | `as_described` | `as_released` |", "| --- | --- | --- |", *lines])


if __name__ == "__main__":
    print(table())
