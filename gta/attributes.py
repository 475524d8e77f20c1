"""The attribute bank: for every class its texts, and where each came from."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gta.files import write_atomically
from gta.llm.answers import normalised
from gta.llm.phrases import bare
from gta.names import fill

Memory = Literal["cumulative", "one_iteration"]


@dataclass(frozen=True)
class Attribute:
    """One text of a class. source: `template`, `static`, `habitat`, `pair` or `imported`; against and iteration: which
    question it answers; origin: the model that said it, or the file that it was read from."""

    text: str
    source: str
    against: str | None = None
    iteration: int | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Dropped:
    """A text that was not taken or was cut, or why nothing was said. name: of the class; against, iteration: as in `Attribute`."""

    name: str
    reason: str
    text: str = ""
    against: str | None = None
    iteration: int | None = None


@dataclass(frozen=True)
class Bank:
    """Texts per class, in the order of `class_names`, in which a spelling may occur twice.

    template: makes a text from a class name ("a photo of a {}."); sentence: makes one from a name and an attribute ("a photo
    of a {name} with {attribute}."); asked: (iteration, a, b, count) of every pair asked about, a and b as class indices;
    dropped: what was not taken; memory: whether the answers of an iteration serve all later ones or only itself; repeats: whether a text
    that a class has already is added again, and so weighs more. A bank never changes: a method returns a new one.
    """

    class_names: tuple[str, ...]
    template: str
    sentence: str
    attributes: tuple[tuple[Attribute, ...], ...]
    asked: tuple[tuple[int, int, int, int], ...] = ()
    dropped: tuple[Dropped, ...] = ()
    memory: Memory = "cumulative"
    repeats: bool = False

    @classmethod
    def from_template(
        cls, class_names: Sequence[str], template: str = "a photo of a {}.", sentence: str = "a photo of a {name} with {attribute}."
    ) -> "Bank":
        """One text for each class, from the template. Raises ValueError for no class, an empty name or a template without its fields."""
        if not class_names or not all(name.strip() for name in class_names):
            raise ValueError("class_names: at least one is needed, and none may be empty")
        if "{}" not in template or "{attribute}" not in sentence:
            raise ValueError(f"template {template!r} needs {{}}, and sentence {sentence!r} needs {{attribute}}")
        texts = tuple((Attribute(template.replace("{}", name), "template"),) for name in class_names)
        return cls(tuple(class_names), template, sentence, texts)

    @property
    def texts(self) -> list[list[str]]:
        return [[attribute.text for attribute in of_class] for of_class in self.attributes]

    @property
    def counts(self) -> Counter[str]:
        """How often each reason to drop or cut a text occurred."""
        return Counter(dropped.reason for dropped in self.dropped)

    def phrases(self, class_index: int) -> list[str]:
        """What a question shows the language model: the texts of a class other than its template, without the sentence form."""
        name = self.class_names[class_index]
        return [bare(a.text, name, self.sentence) for a in self.attributes[class_index] if a.source != "template"]

    def at(self, iteration: int) -> "Bank":
        """The bank as an iteration sees it: without later answers and, where memory is `one_iteration`, without earlier ones."""
        seen = (lambda t: t == iteration) if self.memory == "one_iteration" else (lambda t: t <= iteration)
        attributes = tuple(tuple(a for a in of_class if a.iteration is None or seen(a.iteration)) for of_class in self.attributes)
        return replace(self, attributes=attributes)

    def without_templates(self) -> "Bank":
        """The bank without the template text of every class that has another."""
        attributes = tuple(tuple(a for a in of_class if a.source != "template") or of_class for of_class in self.attributes)
        return replace(self, attributes=attributes)

    def add(self, class_index: int, phrases: Sequence[str], **provenance: Any) -> "Bank":
        """The bank with each phrase added, as a sentence about the class; provenance as in `Attribute`."""
        name = self.class_names[class_index]
        return self.add_texts(class_index, [fill(self.sentence, name=name, attribute=phrase) for phrase in phrases], **provenance)

    def add_texts(self, class_index: int, texts: Sequence[str], **provenance: Any) -> "Bank":
        """The bank with whole texts added to a class; those that say what it already has are dropped as `duplicate`, but for a
        bank with `repeats`."""
        now = self if provenance.get("iteration") is None else self.at(provenance["iteration"])
        known = {normalised(attribute.text) for attribute in now.attributes[class_index]}
        added: list[Attribute] = []
        twice: list[str] = []
        for text in texts:
            if normalised(text) in known and not self.repeats:
                twice.append(text)
            else:
                known.add(normalised(text))
                added.append(Attribute(text, **provenance))
        grown = (*self.attributes[class_index], *added)
        bank = replace(self, attributes=(*self.attributes[:class_index], grown, *self.attributes[class_index + 1 :]))
        return bank.drop(class_index, [("duplicate", text) for text in twice], **provenance)

    def drop(self, class_index: int, dropped: Sequence[tuple[str, str]], **provenance: Any) -> "Bank":
        """The bank with (reason, text) of what was not taken added to its log."""
        which = {key: provenance[key] for key in ("against", "iteration") if key in provenance}
        logged = tuple(Dropped(self.class_names[class_index], reason, text, **which) for reason, text in dropped)
        return replace(self, dropped=self.dropped + logged)

    def within(self, shorten: Callable[[str], str]) -> "Bank":
        """The bank with every text cut to what an encoder reads; the log holds the whole text, as `cut to the context`."""
        bank = self
        for i, of_class in enumerate(self.attributes):
            short = tuple(replace(a, text=shorten(a.text)) for a in of_class)
            for before, after in zip(of_class, short, strict=True):
                if before != after:
                    bank = bank.drop(i, [("cut to the context", before.text)], against=before.against, iteration=before.iteration)
            bank = replace(bank, attributes=(*bank.attributes[:i], short, *bank.attributes[i + 1 :]))
        return bank

    def save(self, file: Path) -> None:
        """Write readable JSON, whole or not at all."""
        write_atomically(file, self.to_json())

    def to_json(self) -> str:
        """Classes in their order, one text a line by iteration, so that two banks can be compared with diff."""
        classes = [
            _line({"name": name})[:-1] + ', "texts": [\n' + ",\n".join("   " + _line(_brief(a)) for a in of_class) + "\n  ]}"
            for name, of_class in zip(self.class_names, self.attributes, strict=True)
        ]
        asked = [
            _line({"iteration": t, "a": a, "b": b, "names": [self.class_names[a], self.class_names[b]], "count": count})
            for t, a, b, count in self.asked
        ]
        head = [f'"{key}": {_line(getattr(self, key))}' for key in ("template", "sentence", "memory", *["repeats"] * self.repeats)]
        lists = {"classes": classes, "asked": asked, "dropped": [_line(_brief(dropped)) for dropped in self.dropped]}
        body = [f'"{key}": [\n' + ",\n".join(f"  {line}" for line in lines) + "\n ]" for key, lines in lists.items()]
        return "{\n " + ",\n ".join([*head, *body]) + "\n}\n"

    @classmethod
    def load(cls, file: Path | str) -> "Bank":
        """What `save` wrote. Raises ValueError naming the file where it is something else."""
        return cls.from_json(Path(file).read_text(encoding="utf-8"), str(file))

    @classmethod
    def from_json(cls, text: str, source: str) -> "Bank":
        """What `to_json` gave; `source` is what an error calls it."""
        try:
            data = json.loads(text)
            names = tuple(of_class["name"] for of_class in data["classes"])
            attributes = tuple(tuple(Attribute(**a) for a in of_class["texts"]) for of_class in data["classes"])
            asked = tuple((pair["iteration"], pair["a"], pair["b"], pair["count"]) for pair in data["asked"])
            if any([names[a], names[b]] != pair["names"] for pair, (_, a, b, _) in zip(data["asked"], asked, strict=True)):
                raise ValueError("the names of an asked pair are not those of its classes")
            if data["memory"] not in get_args(Memory) or not all(attributes):
                raise ValueError("an unknown memory, or a class without a text")
            dropped = tuple(Dropped(**line) for line in data["dropped"])
            return cls(names, data["template"], data["sentence"], attributes, asked, dropped, data["memory"], bool(data.get("repeats")))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{source} is not an attribute bank: {error!r}") from error


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _brief(entry: Attribute | Dropped) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def beginning(attributes: Bank | Path | str | None, class_names: Sequence[str], memory: Memory, generate: bool, asks: bool) -> Bank:
    """The bank that a run begins with: a bank, one in a file, or by default the template sentence of each class.

    One with a log of pairs comes from a whole run; it is replayed if the run may `generate`. Raises ValueError for a bank of other
    classes, and for one to replay if a language model is asked too or the memory is another one.
    """
    bank = Bank.load(attributes) if isinstance(attributes, (Path, str)) else attributes or Bank.from_template(class_names)
    if bank.class_names != tuple(class_names):
        raise ValueError("attributes: the bank is of other classes than class_names, or in another order")
    if not (bank.asked and generate):
        return replace(bank, memory=memory)
    if asks:
        raise ValueError("attributes: a bank with a log of pairs is replayed; pass it without an llm")
    if bank.memory != memory:
        raise ValueError(f"attributes: the bank was grown with memory {bank.memory!r}; set settings.memory to it")
    return bank
