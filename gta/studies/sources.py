"""First attributes and answers about pairs that are read instead of asked for.

`LIST:CHECKOUT` names a published list (`data_manifests/attributes`) and a checkout of its repository, such as
`adaptclipzs:../AdaptCLIPZS`. Relative paths begin at the repository.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gta.attributes import Attribute, Bank
from gta.data import importers, manifests, parts
from gta.data.tasks import Task
from gta.files import ROOT
from gta.llm.stored import StoredAnswers
from gta.names import nearest

ASK = "ask"


@dataclass(frozen=True)
class First:
    """First attributes that were read. source: the list or the file, without its folder; attributes: {class: its texts}."""

    source: str
    attributes: Mapping[str, tuple[Attribute, ...]]

    @property
    def name(self) -> str:
        """For rows: the source and a hash of all texts."""
        texts = json.dumps([[name, *(a.text for a in of_class)] for name, of_class in self.attributes.items()])
        return f"{self.source}-{hashlib.sha256(texts.encode()).hexdigest()[:8]}"

    def of(self, bank: Bank) -> Bank:
        """A bank of templates with these texts in their place. Raises ValueError for a class that has none."""
        if missing := [name for name in bank.class_names if name not in self.attributes]:
            raise ValueError(f"attributes: {self.source} has no class {missing[0]!r}{nearest(missing[0], self.attributes)}")
        return replace(bank, attributes=tuple(self.attributes[name] for name in bank.class_names))


def first(attributes: str, task: Task) -> First | None:
    """The first attributes of a task, and what was taken is printed; None where a language model is asked for them.

    attributes: `ask`, LIST:CHECKOUT, or the file of a bank, of which the texts count that it began with. Raises ValueError for
    another value, as for what is not in the list, and FileNotFoundError for a checkout without it.
    """
    if attributes == ASK:
        return None
    if published := _published(attributes):
        dataset, names = _whole(task)
        bank, reports = importers.first(dataset=dataset, bank=Bank.from_template(names, task.template, task.sentence), **published)
        for name, report in reports.items():
            print(f"{published['manifest']}, {name}: {report}")
        found = First(published["manifest"], dict(zip(names, bank.attributes, strict=True)))
    else:
        file = ROOT / attributes
        if not file.is_file():
            known = manifests.attributes()
            raise ValueError(
                f"attributes {attributes!r} is neither 'ask', nor LIST:CHECKOUT with a list of {', '.join(known)}, nor the file of a bank"
                f"{nearest(attributes.partition(':')[0], [ASK, *known])}"
            )
        bank = Bank.load(file).at(-1)  # before any answer about a pair
        found = First(file.name, dict(zip(bank.class_names, bank.attributes, strict=True)))
    found.of(Bank.from_template(task.class_names))
    print(f"first attributes: {found.name}")
    return found


def answers(llm: str, task: Task) -> StoredAnswers | None:
    """The stored answers that `llm` names as LIST:CHECKOUT, and what was taken is printed; None where it names a language model.

    Raises as `gta.data.importers.answers` does.
    """
    if not (published := _published(llm)):
        return None
    dataset, names = _whole(task)
    found, report = importers.answers(dataset=dataset, bank=Bank.from_template(names, task.template, task.sentence), **published)
    print(f"{published['manifest']}, {dataset}: answers to {len(found)} questions about pairs; {report}")
    return StoredAnswers(published["manifest"], found)


def _published(value: str) -> dict | None:
    """Manifest and checkout of LIST:CHECKOUT; None for anything else, such as MODEL@URL."""
    name, colon, checkout = value.partition(":")
    return {"manifest": name, "folder": ROOT / Path(checkout).expanduser()} if colon and name in manifests.attributes() else None


def _whole(task: Task) -> tuple[str, tuple[str, ...]]:
    """The dataset of a task, and all its class names, also where the task is a part of it."""
    dataset = parts.split(task.name)[0]
    return dataset, manifests.dataset(dataset).class_names if dataset in manifests.names() else task.class_names
