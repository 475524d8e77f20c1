"""The ablation of generation: which language model, how many attributes, how long they are kept, and controls.

Every row changes one thing of the whole method, and is compared with it. Where names say everything, attributes can add little: with
names withheld no text says the name of its class, and the attributes alone must do the work.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from gta.attributes import Bank
from gta.files import ROOT
from gta.generate import describe
from gta.llm.chat import ChatModel, LanguageModel, Question, Reply
from gta.llm.ledger import Ledger
from gta.names import fill, nearest
from gta.scores.statistics import label
from gta.state import Result
from gta.studies.parameters import RunParameters
from gta.studies.random_words import vocabulary, waffle
from gta.studies.study import Key, Study
from gta.studies.zero_shot import SHUFFLED, WITHHELD, ShuffledNames
from gta.worlds import fieldguide
from gta.worlds.fieldguide import language_model, refuse_free

MODEL = "model: "  # begins the variants that ask another one
RANDOM_ATTRIBUTES, RANDOM_WORDS = "random attributes", "random words"
ONE_AT_FIRST, ONE_A_PAIR = "1 attribute at first", "1 attribute a pair's answer"
# What each row changes in the settings, by the question that it belongs to; the rest is changed in `_begin`.
QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "number": {ONE_AT_FIRST: {}, ONE_A_PAIR: {}, "no generate": {"generate": False}},
    "memory": {"one iteration": {"memory": "one_iteration"}},
    "controls": {SHUFFLED: {}, RANDOM_ATTRIBUTES: {}, RANDOM_WORDS: {"generate": False}, "random pairs": {"pairs": "random"}},
}
VARIANTS = {variant: changes for of_question in QUESTIONS.values() for variant, changes in of_question.items()}
Names = Literal["said", "withheld"]


class Generation(RunParameters):
    """Parameters of `notebooks/ablation_generation.ipynb`. names: whether texts say the name of their class; models: other language
    models, MODEL@URL or `fieldguide:OMITTED:WRONG`, the two shares of facts between 0 and 1. attributes: always asked for, since what a
    language model says at first is what varies here."""

    attributes: Literal["ask"] = "ask"
    draws: int = Field(1, ge=1)
    names: Names
    models: list[str]
    variants: list[str]

    @model_validator(mode="after")
    def _models_whose_words_are_known(self) -> Self:
        for model in self.models:
            refuse_free(model, self.backbone)
        return self

    @property
    def chosen(self) -> tuple[list[str], list[str]]:
        """Models and variants to run."""
        return (self.models[:1], self.variants[:2]) if self.smoke else (self.models, self.variants)


def question_of(variant: str) -> str:
    """What a row asks: model, number, memory or controls; nothing for the whole method."""
    named = variant.removeprefix(WITHHELD).removeprefix(", ")
    if named.startswith(MODEL):
        return "model"
    return next((question for question, rows in QUESTIONS.items() if named in rows), "")


class Capped:
    """A language model whose answers keep at most `at_first` phrases about a class, and `a_pair` about a pair. There, phrases that the
    question already holds, as what is known, are left out.

    Its name differs from the model's, since its answers make another run.
    """

    def __init__(self, llm: ChatModel, at_first: int | None = None, a_pair: int | None = None):
        self._llm, self._at_first, self._a_pair = llm, at_first, a_pair
        self.model = f"{llm.model}, at most {at_first} at first and {a_pair} a pair"

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._cut(question, reply) for question, reply in zip(questions, self._llm.ask(questions), strict=True)]

    def _cut(self, question: Question, reply: Reply) -> Reply:
        if question.against is None:
            return replace(reply, phrases=reply.phrases[: self._at_first])
        new = tuple(phrase for phrase in reply.phrases if phrase not in question.text)
        return replace(reply, phrases=new[: self._a_pair])


class RandomAttributes:
    """A control: each phrase of the language model becomes a random one that it says of another class at first. The same phrase of a
    class always becomes the same one, so that a repetition stays a repetition.

    The phrases of a class together fit no class; some are true of it by chance.
    """

    def __init__(self, llm: ChatModel, class_names: Sequence[str], describing: str, seed: int):
        """describing: the question about {name}."""
        self._llm, self._seed, self.model = llm, seed, f"{llm.model}, at random"
        replies = llm.ask([Question(fill(describing, name=name), name) for name in class_names])
        said = {name: reply.phrases for name, reply in zip(class_names, replies, strict=True)}
        self._others = {name: sorted({phrase for other in said if other != name for phrase in said[other]}) for name in said}
        self._instead = {name: self._at_first(name, said[name]) for name in said}

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._drawn(question, reply) for question, reply in zip(questions, self._llm.ask(questions), strict=True)]

    def _drawn(self, question: Question, reply: Reply) -> Reply:
        instead = self._instead[question.name]
        left = [phrase for phrase in self._others[question.name] if phrase not in instead.values()] or list(instead.values())
        drawn = (instead.get(said) or random.Random(f"{self._seed} {question.name} {said}").choice(left) for said in reply.phrases)
        return replace(reply, phrases=tuple(dict.fromkeys(drawn)))

    def _at_first(self, name: str, phrases: Sequence[str]) -> dict[str, str]:
        """Another class's phrase for each that is said at first, none twice."""
        others = self._others[name]
        return dict(zip(phrases, random.Random(f"{self._seed} {name}").sample(others, min(len(phrases), len(others))), strict=False))


@contextmanager
def other_model(name: str, parameters: RunParameters) -> Iterator[tuple[str, LanguageModel]]:
    """The name of the row of another language model, and that model; a guide of other errors is served while the block runs.

    Raises ValueError for a name that is neither MODEL@URL nor `fieldguide:OMITTED:WRONG`.
    """
    ledger = Ledger(ROOT / parameters.ledger, parameters.mode)
    if not name.startswith("fieldguide:"):
        how = (ledger, parameters.max_calls, parameters.task.facts, parameters.sampling)
        with language_model(name, parameters.seed, *how) as llm:
            yield f"{MODEL}{llm.model}", llm
        return
    omitted, wrong = shares(name)
    guide = fieldguide.draw_guide(parameters.seed, parameters.task.facts, omitted, wrong)
    with fieldguide.serve(guide) as url:
        called = f"{MODEL}guide, {100 * omitted:.0f} % left out, {100 * wrong:.0f} % wrong"
        yield called, LanguageModel(fieldguide.name_of(guide), url, ledger, max_calls=parameters.max_calls)


def shares(name: str) -> tuple[float, float]:
    """The two shares of `fieldguide:OMITTED:WRONG`. Raises ValueError for any other name."""
    try:
        omitted, wrong = map(float, name.split(":")[1:])
        if not (0 <= omitted <= 1 and 0 <= wrong <= 1):
            raise ValueError
    except ValueError:
        raise ValueError(f"models: {name!r} is not fieldguide:OMITTED:WRONG with two shares between 0 and 1") from None
    return omitted, wrong


def checked(names: Names, variants: Sequence[str]) -> None:
    """Raises ValueError for an unknown variant, and for random words where nothing else would tell classes apart."""
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}{nearest(variant, VARIANTS)}; known: {', '.join(map(repr, VARIANTS))}")
    if names == "withheld" and RANDOM_WORDS in variants:
        raise ValueError(f"{RANDOM_WORDS!r} are the same for all classes: with names withheld nothing would tell these apart")


def whole(names: Names) -> Key:
    """The row of the whole method, which the others are compared with."""
    return "GTA-CLIP", WITHHELD if names == "withheld" else ""


def generation(study: Study, names: Names, variants: Sequence[str]) -> dict[str, Result]:
    """CLIP and TransCLIP from the first attributes, the whole method, and each variant of it, into `study.outcomes`.

    Returns the runs by variant, the whole method's as "". Raises as `checked` does.
    """
    checked(names, variants)
    base, (method, named) = _base(study, names), whole(names)
    static = describe(base, study.llm, study.questions)
    study.add_once(static, "+attributes", named, (method, named))
    runs = {"": study.run_draws(method, named, static, study.llm, baseline=(method, named))}
    for variant in variants:
        bank, llm = _begin(study, base, variant)
        called = label(named, variant)
        runs[variant] = study.run_draws(method, called, bank, llm, baseline=(method, named), changes=VARIANTS[variant])
    return runs


def with_model(study: Study, names: Names, called: str, llm: ChatModel) -> Result:
    """The whole method with another language model, into `study.outcomes`."""
    method, named = whole(names)
    static = describe(_base(study, names), llm, study.questions)
    return study.run_draws(method, label(named, called), static, llm, baseline=(method, named))


def _base(study: Study, names: Names) -> Bank:
    """Templates alone, whose sentence form says the name of a class or does not."""
    task = study.task
    return study.names_only if names == "said" else Bank.from_template(task.class_names, task.template, task.nameless)


def _begin(study: Study, base: Bank, variant: str) -> tuple[Bank, ChatModel | None]:
    """The first attributes of a variant, and who is asked for more."""
    task, llm, seed = study.task, study.llm, study.settings.seed
    if variant == RANDOM_WORDS:
        return with_random_words(base, study), None
    asked: ChatModel = llm
    if variant == SHUFFLED:
        asked = ShuffledNames(llm, task.class_names, seed)
    elif variant == RANDOM_ATTRIBUTES:
        asked = RandomAttributes(llm, task.class_names, study.questions.describe, seed)
    elif variant == ONE_AT_FIRST:
        asked = Capped(llm, at_first=1)
    elif variant == ONE_A_PAIR:
        asked = Capped(llm, a_pair=1)
    return describe(base, asked, study.questions), asked


def texts_and_pairs(runs: Mapping[str, Result]) -> pd.DataFrame:
    """A row a run: texts of all classes at first and in the end, and pairs asked about; no label is used."""
    banks = {variant or "the whole method": run.attributes for variant, run in runs.items()}
    counts = [(sum(map(len, bank.at(-1).texts)), sum(map(len, bank.texts)), len(bank.asked)) for bank in banks.values()]
    return pd.DataFrame(counts, index=pd.Index(list(banks)), columns=["texts at first", "texts in the end", "pairs"])


def with_random_words(base: Bank, study: Study) -> Bank:
    """The bank with random words in place of attributes, the same for all classes (WaffleCLIP, arXiv 2306.07282), about as many as
    the language model gives at first."""
    count = sum(map(len, study.static.texts)) / len(base.class_names)
    words, characters = vocabulary(study.encoder)
    texts = waffle(base.class_names, base.sentence, words, study.settings.seed, characters, pairs=max(1, round(count / 2)))
    for i, of_class in enumerate(texts):
        base = base.add_texts(i, of_class, source="imported", origin=RANDOM_WORDS)
    return base.without_templates()
