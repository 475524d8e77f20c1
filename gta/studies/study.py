"""What the runs of one notebook share, and the way from their outcomes to rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from gta import encoders, hashes
from gta.adapt import natural_augmentation
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images, load_images
from gta.encoders.vision import View, load_view, view_features
from gta.files import ROOT, shipped, write_atomically
from gta.generate import describe
from gta.llm import prompts
from gta.llm.chat import ChatModel
from gta.llm.ledger import Ledger
from gta.llm.prompts import Prompts
from gta.loop import run
from gta.released.presets import PRESETS, Preset
from gta.scores import results
from gta.scores.rows import Row, write_run
from gta.settings import Settings
from gta.state import Result
from gta.studies import sources
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.sources import First
from gta.worlds.fieldguide import language_model, name_of

Key = tuple[str, str]
Outcome = tuple[Tensor, float, Key]
S = TypeVar("S", bound="Study")
REGIME = ["method", "variant", "draw", "iteration", "loss", "fall", "group", "gradient", "below_gate", "step"]
PUBLISHED: dict = {**ONCE, "transduct": True, "lam": None, "neighbors": 3}  # what gives the published CLIP and TransCLIP


@dataclass
class Study:
    """A task as all runs of a notebook see it, and what they gave.

    checkpoints: a folder, from which an interrupted run goes on. outcomes: {(method, variant): (assignments (N, M) on the CPU,
    seconds, the key to compare with)} of draw 0; draws: how often what adapts is run; further: {draw: outcomes} of the draws after 0;
    preset: what the method is run as (`gta.released.presets`); steps: what adapt did in each iteration, a dict a group of tensors; calls:
    {(method, variant, draw): labels (N,) of each transduction of the run};
    first: first attributes that were read (`gta.studies.sources`); without them the language model is asked; second, view: a second
    encoder, which sees images alone, and its features (N, d2) of the task's images.
    """

    task: tasks.Task
    encoder: Encoder
    settings: Settings
    llm: ChatModel
    images: Images
    questions: Prompts
    checkpoints: Path | None = None
    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    draws: int = 1
    further: dict[int, dict[Key, Outcome]] = field(default_factory=dict)
    first: First | None = None
    preset: Preset = PRESETS[""]
    steps: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[tuple[str, str, int], list[Tensor]] = field(default_factory=dict)
    second: View | None = None
    view: Tensor | None = None

    @classmethod
    def of(
        cls,
        task: tasks.Task,
        encoder: Encoder,
        settings: Settings,
        llm: ChatModel,
        *,
        store: Path | None = None,
        checkpoints: Path | None = None,
        go_on: bool = False,
        draws: int = 1,
        first: First | None = None,
        preset: Preset = PRESETS[""],
        second: View | None = None,
    ) -> Self:
        """store: where decoded images are kept. Raises `gta.scores.results.NotAsPublished`, before anything is asked or adapted, where
        plain CLIP or TransCLIP is not as published, unless `go_on`."""
        images, questions = load_images(task.images, encoder, store=store, whole=_whole(preset, task)), prompts.load(task.domain)
        encoder, llm = preset.encoder(encoder), preset.llm(llm, settings.seed)
        study = cls(task, encoder, settings, llm, images, questions, checkpoints, draws=draws, first=first, preset=preset)
        if results.published_accuracy(task, encoder.name) is not None:
            once = study.run(study.names_only, changes=PUBLISHED, progress=False)
            for method, assignments in {"CLIP": once.clip, "TransCLIP": once.assignments}.items():
                print(results.gate(task, encoder.name, assignments, go_on, method))
        study.second = second  # what is published has one view
        study.view = study.seen(task.images, task.image_ids, store)
        return study

    def on(self, task: tasks.Task, store: Path | None = None) -> Self:
        """The same study of another task, with nothing measured. store: where decoded images are kept."""
        images = load_images(task.images, self.encoder, store=store, whole=_whole(self.preset, task))
        view = self.seen(task.images, task.image_ids, store)
        return replace(self.fresh(), task=task, images=images, questions=prompts.load(task.domain), view=view)

    def seen(self, images: Sequence, names: Sequence[str], store: Path | None = None) -> Tensor | None:
        """Features (n, d2) of images by the second encoder; None without one."""
        return None if self.second is None else view_features(self.second, images, names, store=store)

    def fresh(self) -> Self:
        """The same study with nothing measured, and with the first attributes that it has."""
        other = copy(self)
        other.outcomes, other.further, other.calls, other.steps = {}, {}, {}, []
        return other

    @cached_property
    def names_only(self) -> Bank:
        """One template text for each class."""
        return Bank.from_template(self.task.class_names, self.task.template, self.task.sentence)

    @cached_property
    def static(self) -> Bank:
        """The first attributes: those that were read, or what the language model says."""
        return self.first.of(self.names_only) if self.first else describe(self.names_only, self.llm, self.questions)

    def run(
        self,
        bank: Bank,
        llm: ChatModel | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
        encoder: Encoder | None = None,
        images: Images | None = None,
        **options: Any,
    ) -> Result:
        """The method from a bank, with `changes` of the settings; options: further ones of `gta.loop.run`, before those of the preset. The
        study's view goes along, but where there is support, of which `options` has to bring the view too."""
        encoder = encoder or self.encoder
        view = {} if self.view is None or "support" in options else {"view": self.view}
        hooks = {**self.preset.hooks, **(self.preset.few_shot if "support" in options else {})}
        return run(
            encoder,
            images or self.images,
            bank.class_names,
            Settings(**{**self.settings.model_dump(), **(changes or {})}),
            attributes=bank,
            llm=llm,
            questions=self.questions,
            augment=self.preset.augmentation(self.task.augmentation)(encoder.image_size),
            **{"checkpoints": self.checkpoints, **hooks, **view, **options},
        )

    @property
    def asked(self) -> str:
        """The language model and its questions, for rows, and where the first attributes were read, if they were. Then a guide without
        facts, as that of a folder, is not named: it says nothing."""
        if self.first and self.llm.model == name_of({}):
            return f"first attributes {self.first.name}"
        asked = self.questions.asked_of(self.llm.model)
        return f"{asked}, first attributes {self.first.name}" if self.first else asked

    @property
    def first_texts(self) -> Bank:
        """What the baseline reads: the templates, or the first attributes where a name says nothing."""
        return self.names_only if self.task.baseline == "CLIP" else self.static

    @property
    def baseline(self) -> Key:
        """The row that others are compared with: plain CLIP, or CLIP with attributes where a name says nothing."""
        return self.task.baseline, ""

    def run_draws(
        self,
        method: str,
        variant: str,
        bank: Bank,
        llm: ChatModel | None = None,
        *,
        baseline: Key | None = None,
        changes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """Call `run` once for each draw, and keep what it gave; a run that adapts nothing draws nothing, and is made once.

        Returns the run of draw 0.
        """
        first = self.run(bank, llm, changes=changes, **options)
        self.add(method, variant, first, baseline)
        if any(step["loss"] is not None for step in first.history):
            for draw in range(1, self.draws):
                result = self.run(bank, llm, changes={**(changes or {}), "draw": draw}, **options)
                self.add(method, variant, result, baseline, draw)
        return first

    def add(self, method: str, variant: str, result: Result, baseline: Key | None = None, draw: int = 0) -> None:
        """Keep what a run gave: its assignments, the labels of each transduction, and what adapt did."""
        outcomes = self.further.setdefault(draw, {}) if draw else self.outcomes
        outcomes[method, variant] = (result.assignments, result.seconds, baseline or self.baseline)
        self.calls[method, variant, draw] = list(result.calls.values())
        named = {"method": method, "variant": variant, "draw": draw}
        for step in result.history:
            for group, did in (step["groups"] or {}).items():
                of_step = {name: step[name] for name in ("iteration", "loss", "fall")}
                self.steps.append({**named, **of_step, "group": group, **did})

    def add_once(self, bank: Bank, suffix: str = "", variant: str = "", baseline: Key | None = None) -> Result:
        """One transduction without adaptation, which gives two rows: CLIP, its prior, and TransCLIP."""
        result = self.run(bank, changes=ONCE)
        self.outcomes[f"CLIP{suffix}", variant] = (result.clip, result.history[0]["seconds_encode"], baseline or self.baseline)
        self.add(f"TransCLIP{suffix}", variant, result, baseline)
        return result

    def add_first(self) -> Result:
        """The baseline, and transduction from it."""
        return self.add_once(self.first_texts, self.task.baseline.removeprefix("CLIP"))

    def score(self, backbone: str, table: str, source_hash: str, status: str, shots: int = 0):
        """Rows and per-image predictions of all outcomes, as `gta.scores.results.measure` gives them."""
        rows: list[Row] = []
        predictions: dict[str, np.ndarray] = {}
        second = self.second.weights_sha256 if self.second else ""
        for draw, outcomes in {0: self.outcomes, **self.further}.items():
            settings = self.settings.model_copy(update={"draw": draw})
            made = (self.task, backbone, self.encoder, settings, self.outcomes | outcomes, outcomes.keys())
            calls = {(method, variant): labels for (method, variant, of), labels in self.calls.items() if of == draw}
            of_draw, predicted = results.measure(table, *made, source_hash, status, shots, self.asked, self.preset.name, calls, second)
            rows += of_draw
            predictions |= predicted
        return rows, predictions

    def write(self, parameters: RunParameters, notebook: str, table: str, shots: int = 0) -> list[Row]:
        """Score all outcomes and write `rows.csv` and `predictions.npz` into the notebook's folder, and what adapt did into `regime.csv`;
        the checkpoints have then done their work. Only here do labels of query images enter."""
        source_hash = hashes.source_hash(shipped(f"notebooks/{notebook}"))
        rows, predictions = self.score(parameters.named_backbone, table, source_hash, parameters.status, shots)
        write_steps([self], parameters)
        write_run(ROOT / parameters.out, rows, predictions)
        if self.checkpoints:
            rmtree(self.checkpoints, ignore_errors=True)
        return rows


def _whole(preset: Preset, task: tasks.Task) -> bool:
    """Whether adapt crops the files themselves; a world's own augmentation reads images of the encoder's size."""
    return preset.whole and task.augmentation is natural_augmentation


def write_steps(studies: Sequence[Study], parameters: RunParameters) -> None:
    """What adapt did in each iteration of each run, into `regime.csv`: a line for each group of tensors."""
    lines = []
    for study in studies:
        setting = {"dataset": study.task.name, "backbone": parameters.named_backbone, "preset": study.preset.name, "seed": parameters.seed}
        lines += [{**setting, **step} for step in study.steps]
    frame = pd.DataFrame(lines, columns=["dataset", "backbone", "preset", "seed", *REGIME])
    write_atomically(ROOT / parameters.out / "regime.csv", frame.to_csv(index=False, float_format="%.4g"))


@contextmanager
def opened(parameters: RunParameters, kind: type[S] = Study) -> Iterator[S]:  # type: ignore[assignment]
    """The study that a notebook's parameters name, with its language model while the block runs; prints what the methods see."""
    task = parameters.task
    first, stored = parameters.first_attributes(task), sources.answers(parameters.llm, task)
    encoder = encoders.load(
        parameters.backbone, pretrained=parameters.pretrained, revision=parameters.revision, seed=parameters.seed, embedded=task.embedded
    )
    print(f"{len(task.images)} images, {len(task.class_names)} classes, template {task.template!r}")
    print(f"{encoder.name} on {encoder.device}, logit scale {encoder.logit_scale:.1f}")
    print(f"weights: {encoder.source}, sha256 {encoder.weights_sha256[:12]}")
    second = load_view(parameters.view, seed=parameters.seed, embedded=task.embedded) if parameters.view else None
    if second is not None:
        print(f"second view: {second.name}, weights: {second.source}, sha256 {second.weights_sha256[:12]}")
    print(f"{results.VERSIONS}; settings {parameters.settings}")
    ledger = Ledger(ROOT / parameters.ledger, parameters.mode)
    chat = language_model(parameters.llm, parameters.seed, ledger, parameters.max_calls, task.facts, parameters.sampling)
    with nullcontext(stored) if stored else chat as llm:
        how: dict[str, Any] = {"go_on": parameters.go_on, "draws": parameters.draws, "preset": PRESETS[parameters.preset], "first": first}
        how |= {"store": ROOT / parameters.store, "checkpoints": ROOT / parameters.out / "state", "second": second}
        yield kind.of(task, encoder, parameters.settings, llm, **how)
        print(llm.usage)
