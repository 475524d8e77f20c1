"""The attribute bank: for every class its texts, and where each came from."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gta.files import write_atomically


@dataclass(frozen=True)
class Attribute:
    """One text of a class. source: `template`, `static` or `pair`; against and iteration say which question it answers."""

    text: str
    source: str
    against: str | None = None
    iteration: int | None = None


@dataclass(frozen=True)
class Bank:
    """Texts per class, in the order of `class_names`; `asked` logs (iteration, a, b, count) of every pair asked about.

    template turns a class name into a text ("a photo of a {}."); sentence a name and an attribute ("a photo of a {name}
    with {attribute}."). Banks are values: a method returns a new one.
    """

    class_names: tuple[str, ...]
    template: str
    sentence: str
    attributes: tuple[tuple[Attribute, ...], ...]
    asked: tuple[tuple[int, str, str, int], ...] = ()

    @classmethod
    def from_template(
        cls, class_names: Sequence[str], template: str = "a photo of a {}.", sentence: str = "a photo of a {name} with {attribute}."
    ) -> "Bank":
        """One text a class: where every run begins. Raises ValueError for no class, a repeated name or a template without its fields."""
        if not class_names or len(set(class_names)) != len(class_names):
            twice = sorted({name for name in class_names if list(class_names).count(name) > 1})
            raise ValueError(f"class_names: {'the same name twice: ' + ', '.join(map(repr, twice)) if twice else 'at least one is needed'}")
        if "{}" not in template or "{attribute}" not in sentence:
            raise ValueError(f"template {template!r} needs {{}}, and sentence {sentence!r} needs {{attribute}}")
        texts = tuple((Attribute(template.replace("{}", name), "template"),) for name in class_names)
        return cls(tuple(class_names), template, sentence, texts)

    @property
    def texts(self) -> list[list[str]]:
        return [[attribute.text for attribute in of_class] for of_class in self.attributes]

    def phrases(self, class_index: int) -> list[str]:
        """The texts of a class other than its template: what a question shows the language model."""
        return [a.text for a in self.attributes[class_index] if a.source != "template"]

    def without_templates(self) -> "Bank":
        """Without the template text of every class that has another."""
        attributes = tuple(tuple(a for a in of_class if a.source != "template") or of_class for of_class in self.attributes)
        return replace(self, attributes=attributes)

    def add(self, class_index: int, phrases: Sequence[str], **provenance) -> "Bank":
        """With each phrase as a sentence about the class, those it already has left out; provenance as in `Attribute`."""
        kept = list(self.attributes[class_index])
        for phrase in phrases:
            # Split before anything is filled in: a class may be called "{attribute}".
            parts = re.split(r"(\{name\}|\{attribute\})", self.sentence)
            text = "".join({"{name}": self.class_names[class_index], "{attribute}": phrase}.get(part, part) for part in parts)
            if text not in (attribute.text for attribute in kept):
                kept.append(Attribute(text, **provenance))
        return replace(self, attributes=(*self.attributes[:class_index], tuple(kept), *self.attributes[class_index + 1 :]))

    def save(self, file: Path) -> None:
        """As readable JSON: one attribute a line, so that two banks can be compared with diff."""
        write_atomically(file, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Bank":
        """What `save` wrote. Raises ValueError naming the file where it is something else."""
        try:
            data = json.loads(Path(file).read_text())
            attributes = tuple(tuple(Attribute(**a) for a in of_class) for of_class in data["attributes"])
            asked = tuple(tuple(pair) for pair in data["asked"])
            return cls(tuple(data["class_names"]), data["template"], data["sentence"], attributes, asked)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{file} is not an attribute bank: {error!r}") from error
