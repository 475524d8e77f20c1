"""The questions to the language model for each domain. They are in one readable file, which users can replace."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gta.files import yaml_of
from gta.names import fill, nearest

FILE = Path(__file__).with_name("prompts.yaml")
NEEDED = {"describe": ("{name}",), "habitat": ("{name}",), "distinguish": ("{a}", "{b}")}


@dataclass(frozen=True)
class Prompts:
    """describe, habitat: questions about {name}; habitat is not asked if it is None. distinguish: a question about {a} and {b}, which may
    contain {known_a} and {known_b}."""

    describe: str
    distinguish: str
    habitat: str | None = None

    def asked_of(self, model: str) -> str:
        """The model and a hash of the questions: it identifies the answers in the rows of results."""
        return f"{model}/{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"


def load(domain: str = "general", file: Path = FILE) -> Prompts:
    """The questions of a domain. Raises ValueError, with the file, for an unknown domain or a question without its fields."""
    data = yaml_of(Path(file).read_text(encoding="utf-8"))
    if domain not in data["domains"]:
        raise ValueError(f"{file}: no domain {domain!r}{nearest(domain, data['domains'])}; known: {', '.join(data['domains'])}")
    own = data["domains"][domain]
    words = {key: value for key, value in own.items() if key not in NEEDED}
    questions = {}
    for question, fields in NEEDED.items():
        text = own[question] if isinstance(own.get(question), str) else data["questions"][question]
        if missing := [field for field in fields if field not in text]:
            raise ValueError(f"{file}: {question} of {domain!r} needs {' and '.join(missing)}")
        filled = fill(text, **words)
        questions[question] = filled[:1].upper() + filled[1:]
    if not own.get("habitat"):
        questions.pop("habitat")
    return Prompts(**questions)
