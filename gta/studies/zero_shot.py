"""The zero-shot table: every method from class names alone, its controls, and the ceiling."""

import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images, load_images
from gta.generate import describe
from gta.llm.chat import ChatModel, Question, Reply
from gta.names import nearest
from gta.state import Result
from gta.studies.parameters import RunParameters
from gta.studies.study import Study

CLASSIFIER = "linear classifier"
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


class ZeroShot(RunParameters):
    """Parameters of `notebooks/zero_shot.ipynb`. classifier: whether to train the linear classifier that shows what there is to gain."""

    draws: int = Field(1, ge=1)
    variants: list[str]
    classifier: bool

    @property
    def chosen(self) -> list[str]:
        """The variants to run."""
        return ["", WITHHELD] if self.smoke else self.variants


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


def zero_shot(study: Study, variants: Sequence[str] = tuple(VARIANTS)) -> dict[str, Result]:
    """CLIP and TransCLIP, with and without attributes, and GTA-CLIP in each variant, into `study.outcomes`.

    CLIP and TransCLIP are one pass without adaptation. In the variant "shuffled classes" all attributes are those of another
    class; in "names withheld" no text says the name of its class, and CLIP by the first attributes is what it is compared with;
    in "all facts" everything true is known at once, so that nothing is asked. The first two ask for their own first attributes, and
    are left out where the study's were read. Returns GTA-CLIP's runs by variant. Raises ValueError for an unknown variant.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}{nearest(variant, VARIANTS)}; known: {', '.join(map(repr, VARIANTS))}")
    if study.first and (left := [variant for variant in variants if VARIANTS[variant][1] in (SHUFFLED, WITHHELD)]):
        print(f"left out, since the first attributes were read and these ask for their own: {', '.join(left)}")
        variants = [variant for variant in variants if variant not in left]
    study.add_once(study.names_only)
    beginnings: dict[str, tuple[Bank, ChatModel | None]] = {}
    runs = {}
    for variant in variants:
        changes, begin = VARIANTS[variant]
        baseline = ("CLIP+attributes", WITHHELD) if begin == WITHHELD else None
        if begin not in beginnings:
            beginnings[begin] = _begin(study, begin)
            study.add_once(beginnings[begin][0], "+attributes", begin, baseline)
        runs[variant] = study.run_draws("GTA-CLIP", variant, *beginnings[begin], baseline=baseline, changes=changes)
    return runs


def _begin(study: Study, begin: str) -> tuple[Bank, ChatModel | None]:
    """The first attributes of a variant, and who is asked for more."""
    task = study.task
    if begin == SHUFFLED:
        asked = ShuffledNames(study.llm, task.class_names, study.settings.seed)
        return describe(study.names_only, asked, study.questions), asked
    if begin == WITHHELD:
        nameless = Bank.from_template(task.class_names, task.template, task.nameless)
        return describe(nameless, study.llm, study.questions), study.llm
    if begin == ALL_FACTS:
        return with_all_facts(study.names_only, task), None
    return study.static, study.llm


def with_all_facts(bank: Bank, task: tasks.Task) -> Bank:
    """The bank with everything that is true of each class in place of the templates. Raises ValueError where that is not known."""
    for i, name in enumerate(task.class_names):
        if name not in task.facts:
            raise ValueError(f"{task.name}: all facts are known of the embedded datasets alone, and not of {name!r}")
        bank = bank.add(i, task.facts[name], source="imported", origin="all facts")
    return bank.without_templates()


def classifier(
    task: tasks.Task,
    encoder: Encoder,
    labelled: tuple[Sequence, np.ndarray] | None = None,
    queries: Images | None = None,
    cache: Path = tasks.CACHE,
) -> dict:
    """The ceiling, in the form of `Study.outcomes`: logistic regression on the encoder's features of labelled images.

    labelled: images and their classes, by default all that an embedded dataset has; queries: the query images, where they are
    loaded already.
    """
    start = time.perf_counter()
    images, labels = labelled or tasks.labelled(task.source, cache)
    fitted = LogisticRegression(C=100, max_iter=1000).fit(encoder.encode_images(load_images(images, encoder).pixels).cpu(), labels)
    features = encoder.encode_images((queries or load_images(task.images, encoder)).pixels).cpu()
    z = torch.zeros(len(features), len(task.class_names), dtype=torch.float64)
    z[:, fitted.classes_] = torch.from_numpy(fitted.predict_proba(features)).double()
    return {(CLASSIFIER, f"{len(labels)} labelled images"): (z, time.perf_counter() - start, (task.baseline, ""))}
