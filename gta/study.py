"""What the runs of one notebook share, and the way from their outcomes to rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any

from torch import Tensor

from gta import encoders, prompts, provenance, results, tasks
from gta.attributes import Bank
from gta.embedded import fieldguide
from gta.embedded.glyphs import FACTS
from gta.encoders import Encoder
from gta.files import ROOT
from gta.generate import describe
from gta.images import Images, load_images
from gta.ledger import Ledger
from gta.llm import ChatModel, LanguageModel
from gta.loop import Result, run
from gta.parameters import ONCE, RunParameters
from gta.prompts import Prompts
from gta.settings import Settings

Key = tuple[str, str]


@dataclass
class Study:
    """A task as all runs of a notebook see it, and what they gave.

    checkpoints: a folder, from which an interrupted run goes on. outcomes: {(method, variant): (assignments (N, M) on the CPU,
    seconds, the key to compare with)}.
    """

    task: tasks.Task
    encoder: Encoder
    settings: Settings
    llm: ChatModel
    images: Images
    questions: Prompts
    checkpoints: Path | None = None
    outcomes: dict[Key, tuple[Tensor, float, Key]] = field(default_factory=dict)

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
    ) -> "Study":
        """store: where decoded images are kept. Raises `gta.results.NotAsPublished`, before anything is asked or adapted, where plain
        CLIP is not as published, unless `go_on`."""
        study = cls(task, encoder, settings, llm, load_images(task.images, encoder, store=store), prompts.load(task.domain), checkpoints)
        if results.published_accuracy(task, encoder.name) is not None:
            print(results.gate(task, encoder.name, study.run(study.names_only, changes=ONCE, progress=False).clip, go_on))
        return study

    @cached_property
    def names_only(self) -> Bank:
        """A template text a class."""
        return Bank.from_template(self.task.class_names, self.task.template, self.task.sentence)

    @cached_property
    def static(self) -> Bank:
        """The attributes that the language model gives at first."""
        return describe(self.names_only, self.llm, self.questions)

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
        """The method from a bank, with `changes` of the settings; options: further ones of `gta.loop.run`."""
        encoder = encoder or self.encoder
        return run(
            encoder,
            images or self.images,
            bank.class_names,
            Settings(**{**self.settings.model_dump(), **(changes or {})}),
            attributes=bank,
            llm=llm,
            questions=self.questions,
            augment=self.task.augmentation(encoder.image_size),
            **{"checkpoints": self.checkpoints, **options},
        )

    @property
    def asked(self) -> str:
        """The language model and its questions, for rows."""
        return self.questions.asked_of(self.llm.model)

    @property
    def first_texts(self) -> Bank:
        """What the baseline reads: the templates, or the first attributes where a name says nothing."""
        return self.names_only if self.task.baseline == "CLIP" else self.static

    @property
    def baseline(self) -> Key:
        """The row that others are compared with: plain CLIP, or CLIP with attributes where a name says nothing."""
        return self.task.baseline, ""

    def add(self, method: str, variant: str, result: Result, baseline: Key | None = None) -> None:
        """Keep what a run gave."""
        self.outcomes[method, variant] = (result.assignments, result.seconds, baseline or self.baseline)

    def add_once(self, bank: Bank, suffix: str = "", variant: str = "", baseline: Key | None = None) -> Result:
        """One transduction without adaptation, which gives two rows: CLIP, its prior, and TransCLIP."""
        result = self.run(bank, changes=ONCE)
        self.outcomes[f"CLIP{suffix}", variant] = (result.clip, result.history[0]["seconds_encode"], baseline or self.baseline)
        self.add(f"TransCLIP{suffix}", variant, result, baseline)
        return result

    def add_first(self) -> Result:
        """The baseline, and transduction from it."""
        return self.add_once(self.first_texts, self.task.baseline.removeprefix("CLIP"))

    def write(self, parameters: RunParameters, notebook: str, table: str, shots: int = 0) -> list[results.Row]:
        """Score all outcomes and write `rows.csv` and `predictions.npz` into the notebook's folder; the checkpoints have then done
        their work. Only here do labels of query images enter."""
        source_hash = provenance.source_hash(ROOT / "notebooks" / notebook)
        status = "smoke" if parameters.smoke else "done"
        rows, predictions = results.measure(
            table, self.task, parameters.backbone, self.encoder, self.settings, self.outcomes, source_hash, status, shots, self.asked
        )
        results.write_run(ROOT / parameters.out, rows, predictions)
        if self.checkpoints:
            rmtree(self.checkpoints, ignore_errors=True)
        return rows


@contextmanager
def opened(parameters: RunParameters) -> Iterator[Study]:
    """The study that a notebook's parameters name, with its language model while the block runs; prints what the methods see."""
    task = parameters.task
    encoder = encoders.load(
        parameters.backbone, pretrained=parameters.pretrained, revision=parameters.revision, seed=parameters.seed, embedded=task.embedded
    )
    print(f"{len(task.images)} images, {len(task.class_names)} classes, template {task.template!r}")
    print(f"{encoder.name} on {encoder.device}, logit scale {encoder.logit_scale:.1f}")
    print(f"weights: {encoder.source}, sha256 {encoder.weights_sha256[:12]}")
    print(f"{results.VERSIONS}; settings {parameters.settings}")
    ledger = Ledger(ROOT / parameters.ledger, parameters.mode)
    with language_model(parameters.llm, parameters.seed, ledger, parameters.max_calls, task.facts) as llm:
        kept = {"store": ROOT / parameters.store, "checkpoints": ROOT / parameters.out / "state"}
        yield Study.of(task, encoder, parameters.settings, llm, go_on=parameters.go_on, **kept)
        print(llm.usage)


@contextmanager
def language_model(
    name: str, seed: int, ledger: Ledger | None = None, max_calls: int | None = None, facts: Mapping[str, Sequence[str]] = FACTS
) -> Iterator[LanguageModel]:
    """`fieldguide`, drawn from `facts` and served while the block runs, or `MODEL@URL` of any endpoint that speaks the OpenAI protocol.

    Raises ValueError for another name.
    """
    if name == "fieldguide":
        guide = fieldguide.draw_guide(seed, facts)
        with fieldguide.serve(guide) as url:
            yield LanguageModel(fieldguide.name_of(guide), url, ledger, max_calls=max_calls)
    else:
        model, at, url = name.partition("@")
        if not (model and at and url):
            raise ValueError(f"llm {name!r} is neither 'fieldguide' nor MODEL@URL, such as gpt-4o@https://api.openai.com/v1")
        yield LanguageModel(model, url, ledger, max_calls=max_calls)
