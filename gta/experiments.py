"""The runs that make up a table, as the notebooks call them."""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from gta import gallery, prompts, results, tasks
from gta.attributes import Bank, Memory
from gta.embedded import fieldguide
from gta.embedded.glyphs import FACTS
from gta.encoders import Encoder
from gta.files import ROOT
from gta.generate import describe
from gta.images import Images, load_images
from gta.ledger import Ledger, Mode
from gta.llm import ChatModel, LanguageModel, Question, Reply
from gta.loop import Result, run
from gta.names import nearest
from gta.settings import Checked, Settings

# Chosen on imagined hands, never on handwriting, and on worlds of other birds: `python -m gta.embedded.choose`.
EMBEDDED: dict = {"iterations": 5, "lr": 1e-4, "lr_projection": 1e-4}
AVIARY: dict = {"iterations": 15, "lr": 3e-5, "lr_projection": 3e-5, "pair_share": 0.5}

SHUFFLED, WITHHELD, ALL_FACTS = "shuffled classes", "names withheld", "all facts"
# What each row of GTA-CLIP changes in the settings, and which attributes it begins with; "" is the whole method.
VARIANTS: dict[str, tuple[dict, str]] = {
    "": ({}, ""),
    "no generate": ({"generate": False}, ""),
    "no adapt": ({"adapt": False}, ""),
    "random pairs": ({"pairs": "random"}, ""),
    SHUFFLED: ({}, SHUFFLED),
    WITHHELD: ({}, WITHHELD),
    f"{WITHHELD}, no generate": ({"generate": False}, WITHHELD),
    f"{WITHHELD}, random pairs": ({"pairs": "random"}, WITHHELD),
    ALL_FACTS: ({"generate": False}, ALL_FACTS),
}

# One transduction of what the encoder sees as it is: the run that gives CLIP and TransCLIP.
ONCE: dict = {"iterations": 1, "adapt": False, "generate": False}


def settings_for(backbone: str, dataset: str = "digits", **changes) -> Settings:
    """The paper's settings, or for the embedded encoders of a dataset their own, with changes."""
    embedded = AVIARY if dataset.partition(":")[0] == "aviary" else EMBEDDED
    return Settings(**{**(embedded if backbone == "embedded" else {}), **changes})


class RunParameters(Checked):
    """What every notebook that asks a language model is given. pretrained, revision: as in `gta.encoders.load`; store: where
    decoded images are kept; ledger, mode: as in `gta.ledger`; max_calls: the cap of a run; iterations: None is the backbone's own
    number; root: where the paper's datasets lie; go_on: run although plain CLIP is not as published (`gta.results.gate`); smoke: two
    iterations, never published."""

    dataset: str
    backbone: str
    pretrained: str | None
    revision: str | None
    seed: int
    store: str
    llm: str
    ledger: str
    mode: Mode
    max_calls: int | None
    iterations: int | None
    root: str = "data"
    go_on: bool = False
    smoke: bool
    out: str

    @property
    def task(self) -> tasks.Task:
        """The dataset's query images. Raises as `gta.tasks.load` does."""
        return tasks.load(self.dataset, ROOT / self.root)

    @property
    def settings(self) -> Settings:
        chosen = 2 if self.smoke else self.iterations
        return settings_for(self.backbone, self.dataset, seed=self.seed, **({} if chosen is None else {"iterations": chosen}))


class ZeroShot(RunParameters):
    """Parameters of `notebooks/zero_shot.ipynb`. classifier: whether to train the linear classifier that shows what there is to gain."""

    variants: list[str]
    classifier: bool

    @property
    def chosen(self) -> list[str]:
        """The variants to run."""
        return ["", WITHHELD] if self.smoke else self.variants


class Attributes(RunParameters):
    """Parameters of `notebooks/attributes.ipynb`."""

    memory: Memory

    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"memory": self.memory})


class Evolution(RunParameters):
    """Parameters of `notebooks/evolution.ipynb`. pairs: of class names; none: those that were asked for the sake of most images."""

    pairs: list[tuple[str, str]]


class Quickstart(Checked):
    """Parameters of `notebooks/quickstart.ipynb`."""

    dataset: str
    backbone: str
    seed: int
    llm: str
    smoke: bool

    @property
    def settings(self) -> Settings:
        return settings_for(self.backbone, self.dataset, seed=self.seed, **({"iterations": 2} if self.smoke else {}))

    @property
    def once(self) -> Settings:
        """One transduction: CLIP and TransCLIP."""
        return settings_for(self.backbone, self.dataset, **ONCE)


class Figure(Checked):
    """Parameters of the notebooks that draw a figure from a table."""

    table: str
    out: str
    smoke: bool


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


class Aviary(Figure):
    """Parameters of `notebooks/aviary.ipynb`. runs: the folder of the runs on the worlds 0 to `worlds` - 1."""

    runs: str
    worlds: int

    def folder(self, world: int) -> str:
        """Of the run on a world, with the encoder of the same seed."""
        return f"{self.runs}/aviary-{world}-embedded-s{world}"

    def settings(self, world: int) -> Settings:
        """Of that run."""
        return settings_for("embedded", "aviary", seed=world, **({"iterations": 2} if self.smoke else {}))


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


class ShuffledNames:
    """A control: a language model that is asked about another class than the one its answer is used for."""

    def __init__(self, llm: ChatModel, class_names: Sequence[str], seed: int):
        order = random.Random(seed).sample(list(class_names), len(class_names))
        self._llm, self.model = llm, llm.model
        self._stands_for = dict(zip(order, order[1:] + order[:1], strict=True))

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return self._llm.ask([replace(question, text=self._of_another(question.text)) for question in questions])

    def _of_another(self, text: str) -> str:
        return re.sub(r'"([^"]+)"', lambda quoted: f'"{self._stands_for.get(quoted[1], quoted[1])}"', text)


def zero_shot(
    task: tasks.Task,
    encoder: Encoder,
    settings: Settings,
    llm: ChatModel,
    variants: Sequence[str] = tuple(VARIANTS),
    *,
    store: Path | None = None,
    checkpoints: Path | None = None,
    go_on: bool = False,
) -> dict:
    """Every method on the query images of a task, from class names alone.

    store, checkpoints: folders, as in `gta.images.load_images` and `gta.loop.run`; with them an interrupted call goes on where it was.
    Returns {(method, variant): (Result, seconds)}; CLIP and TransCLIP are one pass without adaptation. In the variant
    "shuffled classes" all attributes are those of another class; in "names withheld" no text says the name of its class; in
    "all facts" everything true is known at once, so that nothing is asked. Raises ValueError for an unknown variant, and
    `gta.results.NotAsPublished` before anything is asked or adapted where plain CLIP is not as published, unless `go_on`.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}{nearest(variant, VARIANTS)}; known: {', '.join(map(repr, VARIANTS))}")
    images = load_images(task.images, encoder, store=store)
    template = Bank.from_template(task.class_names, task.template, task.sentence)
    nameless = Bank.from_template(task.class_names, task.template, task.nameless)
    questions = prompts.load(task.domain)
    outcomes: dict[tuple[str, str], tuple[Result, float]] = {}
    beginnings: dict[str, tuple[Bank, ChatModel | None]] = {}

    def add(method: str, variant: str, bank: Bank, llm: ChatModel | None = None, **changes) -> None:
        changed = Settings(**{**settings.model_dump(), **changes})
        augment = task.augmentation(encoder.image_size)
        result = run(
            encoder,
            images,
            task.class_names,
            changed,
            attributes=bank,
            llm=llm,
            questions=questions,
            augment=augment,
            checkpoints=checkpoints,
        )
        outcomes[method, variant] = (result, result.seconds)

    add("TransCLIP", "", template, **ONCE)
    if told := results.gate(task, encoder.name, outcomes["TransCLIP", ""][0].clip, go_on):
        print(told)
    for variant in variants:
        changes, begin = VARIANTS[variant]
        if begin not in beginnings:
            if begin == ALL_FACTS:
                beginnings[begin] = with_all_facts(template, task), None
            else:
                asked = ShuffledNames(llm, task.class_names, settings.seed) if begin == SHUFFLED else llm
                beginnings[begin] = describe(nameless if begin == WITHHELD else template, asked, questions), asked
            add("TransCLIP+attributes", begin, beginnings[begin][0], **ONCE)
        add("GTA-CLIP", variant, *beginnings[begin], **changes)
    return outcomes


def gate(task: tasks.Task, encoder: Encoder, images: Images, go_on: bool = False) -> None:
    """`gta.results.gate` before a run that does not begin with plain CLIP; without a published figure nothing is encoded."""
    if results.published_accuracy(task, encoder.name) is not None:
        bank = Bank.from_template(task.class_names, task.template, task.sentence)
        clip = run(encoder, images, task.class_names, Settings(**ONCE), attributes=bank, progress=False).clip
        print(results.gate(task, encoder.name, clip, go_on))


def with_all_facts(bank: Bank, task: tasks.Task) -> Bank:
    """The bank with everything that is true of each class in place of the templates. Raises ValueError where that is not known."""
    for i, name in enumerate(task.class_names):
        if name not in task.facts:
            raise ValueError(f"{task.name}: all facts are known of the embedded datasets alone, and not of {name!r}")
        bank = bank.add(i, task.facts[name], source="imported", origin="all facts")
    return bank.without_templates()


def classifier(task: tasks.Task, encoder: Encoder, cache: Path = tasks.CACHE) -> dict:
    """The ceiling, in the form of `assignments`: logistic regression on the encoder's features of labelled images."""
    start = time.perf_counter()
    images, labels = tasks.labelled(task.source, cache)
    features = [encoder.encode_images(load_images(of, encoder).pixels).cpu() for of in (images, task.images)]
    fitted = LogisticRegression(C=100, max_iter=1000).fit(features[0], labels)
    z = torch.from_numpy(fitted.predict_proba(features[1]))
    return {("linear classifier", f"{len(images)} labelled images"): (z, time.perf_counter() - start, (task.baseline, ""))}


def pair_similarity(encoder: Encoder, bank: Bank) -> pd.DataFrame:
    """How alike the classes of each asked pair are to an encoder: the cosine of the means of their texts, without any
    answer about a pair and with all of them."""
    cosines = [_cosines(encoder, bank.at(-1)), _cosines(encoder, bank)]
    rows = [
        {"iteration": t, "pair": f"{bank.class_names[a]} / {bank.class_names[b]}", "images": count}
        | {when: float(cosine[a, b]) for when, cosine in zip(("before", "after"), cosines, strict=True)}
        for t, a, b, count in bank.asked
    ]
    return pd.DataFrame(rows, columns=["iteration", "pair", "images", "before", "after"])


def _cosines(encoder: Encoder, bank: Bank) -> Tensor:
    means = torch.stack([encoder.encode_texts(texts).mean(0) for texts in bank.texts])
    return torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=-1)


def dropped(bank: Bank) -> pd.DataFrame:
    """What was said and not taken, cut or given up: a line each."""
    return pd.DataFrame([asdict(line) for line in bank.dropped], columns=["iteration", "name", "against", "reason", "text"])


def asked(ledger: Ledger) -> pd.DataFrame:
    """What a ledger holds: a line a question, with the last answer as it came."""
    rows = [
        {
            "about": entry["about"],
            "status": entry["status"],
            "tries": len(entry["attempts"]),
            "tokens": sum(attempt["prompt_tokens"] + attempt["completion_tokens"] for attempt in entry["attempts"]),
            "question": entry["request"]["messages"][-1]["content"],
            "answer": entry["attempts"][-1]["raw"] if entry["attempts"] else None,
        }
        for entry in ledger
    ]
    return pd.DataFrame(rows, columns=["about", "status", "tries", "tokens", "question", "answer"]).sort_values("about", ignore_index=True)


def history(result: Result) -> pd.DataFrame:
    """What happened in each iteration, without a look at any label."""
    return pd.DataFrame(result.history).drop(columns="labels").set_index("iteration").round(3)


def assignments(outcomes: dict, baseline: str = "CLIP") -> dict:
    """{(method, variant): (z, seconds, baseline)} to be scored; the prior of a TransCLIP run is the CLIP row beside it.

    baseline: the method to compare with, a task's own; where names are withheld it is CLIP by the first attributes.
    """
    scored = {}
    for (method, variant), (result, seconds) in outcomes.items():
        beside = ("CLIP+attributes", WITHHELD) if variant.startswith(WITHHELD) else (baseline, "")
        if method.startswith("TransCLIP"):
            scored[method.removeprefix("Trans"), variant] = (result.clip, seconds, beside)
        scored[method, variant] = (result.assignments, seconds, beside)
    return scored


def iterates(result: Result) -> dict:
    """As `assignments`, of one run that kept its trail: CLIP as the run began; GTA-CLIP, the last iterate; and every iterate."""
    baseline, seconds = ("CLIP+attributes", ""), 0.0
    scored = {baseline: (result.clip, 0.0, baseline), ("GTA-CLIP", ""): (result.assignments, result.seconds, baseline)}
    for state, step in zip(result.trail, result.history, strict=True):
        seconds += sum(value for name, value in step.items() if name.startswith("seconds_"))
        scored["GTA-CLIP", f"iterate {state.iteration:02}"] = (state.z, seconds, baseline)
    return scored
