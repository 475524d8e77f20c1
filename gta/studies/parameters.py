"""What a notebook is given, checked once: a misspelt or ill-typed parameter is refused, with the nearest name."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from gta.attributes import Memory
from gta.data import gallery, tasks
from gta.encoders.vision import check_view
from gta.files import ROOT, closed_to
from gta.llm.ledger import Mode
from gta.llm.sampling import Sampling
from gta.released.presets import PRESETS
from gta.settings import Checked, PresetName, Settings
from gta.studies import sources
from gta.studies.sources import ASK, First
from gta.worlds.fieldguide import refuse_free
from gta.worlds.settings import settings_for

# One transduction of what the encoder sees as it is: the run that gives CLIP and TransCLIP.
ONCE: dict = {"iterations": 1, "adapt": False, "generate": False}


class RunParameters(Checked):
    """What every notebook that asks a language model is given.

    preset: `as_described` or `as_released` (`gta.released.presets`); draws: how often what adapts is run, each time with another `draw`
    of `gta.settings.Settings`; pretrained, revision: as in `gta.encoders.load`; view: a second encoder, which sees images alone
    (`gta.encoders.vision.load_view`), "" is none; store: where
    decoded images are kept; ledger, mode: as in `gta.llm.ledger`; max_calls: the cap of a run; sampling: how an endpoint is asked;
    iterations: None is the backbone's own number; root: where the paper's datasets lie; go_on: run although plain CLIP or TransCLIP is
    not as published (`gta.scores.results.gate`); smoke: two iterations, never published. attributes: where the first attributes come
    from: `ask`, the file of a bank, or LIST:CHECKOUT (`gta.studies.sources`); llm may be LIST:CHECKOUT of stored answers to pairs.
    """

    dataset: str
    backbone: str
    pretrained: str | None
    revision: str | None
    view: str = ""
    seed: int
    preset: PresetName = ""
    draws: int = Field(1, ge=1, le=1)
    store: str
    llm: str
    attributes: str = ASK
    ledger: str
    mode: Mode
    max_calls: int | None
    sampling: Sampling = Sampling()
    iterations: int | None
    root: str = "data"
    go_on: bool = False
    smoke: bool
    out: str

    @model_validator(mode="after")
    def _words_that_are_known(self) -> Self:
        refuse_free(self.llm, self.backbone)
        return self

    @model_validator(mode="after")
    def _view_that_can_be(self) -> Self:
        if self.view:
            try:
                check_view(self.view)
            except ValueError as error:
                raise ValueError(f"view: {error}") from None
        if self.view and self.preset == "as_released":
            raise ValueError(f"view {self.view!r}: the released program has no second encoder; leave `view` out, or the preset")
        return self

    @property
    def named_backbone(self) -> str:
        """The encoder as rows name it, with the second one, so that rows with and without a view are never taken for each other."""
        return f"{self.backbone} + {self.view}" if self.view else self.backbone

    @property
    def status(self) -> str:
        """Of the rows."""
        return "smoke" if self.smoke else "done"

    @model_validator(mode="after")
    def _can_write(self) -> Self:
        """What a run writes can be written, or the parameter is named that moves it."""
        for name in ("store", "ledger", "out"):
            closed = closed_to(ROOT / getattr(self, name))
            if closed is not None and not (name == "ledger" and self.mode == "replay"):
                raise ValueError(f"{name} {getattr(self, name)!r}: nothing can be written in {closed}; -p {name} FOLDER names another")
        return self

    @property
    def task(self) -> tasks.Task:
        """The dataset's query images. Raises as `gta.data.tasks.load` does."""
        return tasks.load(self.dataset, ROOT / self.root)

    def first_attributes(self, task: tasks.Task) -> First | None:
        """The first attributes of a task, where they are read. Raises as `gta.studies.sources.first` does."""
        return sources.first(self.attributes, task)

    @property
    def settings(self) -> Settings:
        chosen = 2 if self.smoke else self.iterations
        changes = {**PRESETS[self.preset].settings, **({} if chosen is None else {"iterations": chosen})}
        named = " ".join(filter(None, (self.backbone, self.pretrained)))
        return settings_for(named, self.dataset, seed=self.seed, **changes)


class Attributes(RunParameters):
    """Parameters of `notebooks/attributes.ipynb`."""

    memory: Memory

    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"memory": self.memory})


class Evolution(RunParameters):
    """Parameters of `notebooks/evolution.ipynb`. pairs: of class names; none: the asked pairs with the most images."""

    pairs: list[tuple[str, str]]


class Quickstart(Checked):
    """Parameters of `notebooks/quickstart.ipynb`."""

    dataset: str
    backbone: str
    seed: int
    preset: PresetName = ""
    llm: str
    sampling: Sampling = Sampling()
    smoke: bool

    @model_validator(mode="after")
    def _words_that_are_known(self) -> Self:
        refuse_free(self.llm, self.backbone)
        return self

    @property
    def settings(self) -> Settings:
        changes = {**PRESETS[self.preset].settings, **({"iterations": 2} if self.smoke else {})}
        return settings_for(self.backbone, self.dataset, seed=self.seed, **changes)

    @property
    def once(self) -> Settings:
        """One transduction: CLIP and TransCLIP."""
        return settings_for(self.backbone, self.dataset, **ONCE)


class Datasets(Checked):
    """Parameters of `notebooks/datasets.ipynb`. datasets: names with commas between, or all; classes: shown of each dataset;
    images_each: shown of each class, 0 shows none."""

    datasets: str
    root: str
    classes: int
    images_each: int
    smoke: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets to show."""
        return gallery.chosen(self.datasets)[: 2 if self.smoke else None]

    @property
    def folder(self) -> Path:
        """Where their copies are looked for."""
        return ROOT / self.root
